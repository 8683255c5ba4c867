"""The head while it is trained: every feature is centred and scaled over the batch, and folded away afterwards.

What all clips have in common in their features is many times what tells them apart; a bare linear layer spends its
steps on it. The folded head has the exported network's names and shapes, and computes the same.
"""

from __future__ import annotations

import torch
from dualexport.exporter.dualformer.network import ClassificationHead
from torch import Tensor, nn


class TrainingHead(ClassificationHead):
    """BatchNorm without parameters of its own, then the linear layer, from zero: (B, channels) -> (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.norm = nn.BatchNorm1d(width, affine=False)
        nn.init.zeros_(self.fc_cls.weight)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc_cls(self.norm(features))
        return logits

    @torch.no_grad()
    def folded(self) -> ClassificationHead:
        """One linear layer that computes what this one does in inference: W (x - mean) / spread + b."""
        head = ClassificationHead(self.fc_cls.in_features, self.fc_cls.out_features)
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        spread = torch.sqrt(variance + self.norm.eps)
        head.fc_cls.weight.copy_(self.fc_cls.weight / spread)
        head.fc_cls.bias.copy_(self.fc_cls.bias - head.fc_cls.weight @ mean)
        return head
