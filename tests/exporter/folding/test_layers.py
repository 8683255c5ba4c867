"""The layers of the folded network, run by PyTorch."""

from __future__ import annotations

import pytest
import torch
from dualexport.exporter.dualformer.network import HEAD_DIM
from dualexport.exporter.folding import layers
from torch import Tensor, nn

QUERIES, KEYS, SEQUENCES, WIDTH = 48, 24, 3, 64


def test_attention_holds_few_scores_at_a_time_and_gives_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = layers.Attend()
    query = torch.randn(QUERIES * SEQUENCES, WIDTH)
    key, value = torch.randn(2, KEYS * SEQUENCES, WIDTH)
    whole = attend(query, key, value, QUERIES, KEYS)
    held: list[int] = []

    def count(_softmax: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        held.append(inputs[0].numel())

    attend.softmax.register_forward_pre_hook(count)
    monkeypatch.setattr(layers, "MOST_SCORES", 1000)
    torch.testing.assert_close(attend(query, key, value, QUERIES, KEYS), whole)
    assert max(held) <= 1000
    assert sum(held) == QUERIES * KEYS * SEQUENCES * (WIDTH // HEAD_DIM)


def test_traced_attention_is_one_product_of_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST_SCORES", 1000)
    query = torch.randn(QUERIES * SEQUENCES, WIDTH)
    key, value = torch.randn(2, KEYS * SEQUENCES, WIDTH)
    traced = torch.export.export(layers.Attend(), (query, key, value, QUERIES, KEYS))
    operators = [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]
    assert sum("matmul" in one for one in operators) == 2
    assert not any("split" in one or "cat" in one for one in operators)
