"""The teacher of a distillation: the unmodified network, whose answers to clips are kept once they are computed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...core.logit_store import LogitStore, key_of
from ...core.types import Array, Clip
from ..dualformer.network import DualFormer
from .optimization import normalize

AT_ONCE = 8  # clips


class Teacher:
    """Logits of clips, from the store where they are known."""

    def __init__(self, network: DualFormer, store: LogitStore, device: torch.device) -> None:
        self.network = network if device.type == "cpu" else copy.deepcopy(network).to(device)
        self._store = store
        self._device = device

    def logits(self, clips: Sequence[Clip]) -> Tensor:
        """Return float32 (clips, classes)."""
        keys = [key_of(clip.data) for clip in clips]
        found = [self._store.find(key) for key in keys]
        new = [place for place, row in enumerate(found) if row is None]
        for begin in range(0, len(new), AT_ONCE):
            places = new[begin : begin + AT_ONCE]
            rows = self._infer([clips[place] for place in places])
            self._store.append(
                clips[places[0]].name, b"", {keys[place]: row for place, row in zip(places, rows, strict=True)}
            )
            for place, row in zip(places, rows, strict=True):
                found[place] = row
        return torch.from_numpy(np.stack([row for row in found if row is not None])).to(self._device)

    def _infer(self, clips: Sequence[Clip]) -> Array:
        with torch.no_grad():
            logits = self.network(to_input(clips, self._device))
        rows: Array = logits.float().cpu().numpy()
        return rows


def to_input(clips: Sequence[Clip], device: torch.device) -> Tensor:
    """Float32 (batch, 3, frames, size, size) of clips in either form."""
    return torch.cat([normalize(clip.data[None], device) for clip in clips])
