"""Configurations of a network of one batch, and of one that takes a range."""

from __future__ import annotations

from dualexport.core.choices import TritonBackend
from dualexport.core.types import TensorSpec
from dualexport.serving.triton import ServedNetwork, write_classes_config, write_clips_config, write_network_config


def make_network(least_batch: int | None) -> ServedNetwork:
    clip = TensorSpec("clip", "uint8", (8, 16, 224, 224, 3), least_batch)
    return ServedNetwork(
        "net", TritonBackend.ONNXRUNTIME, (clip,), (TensorSpec("logits", "float32", (8, 5), least_batch),)
    )


def squeeze(text: str) -> str:
    return " ".join(text.split())


def test_a_range_lets_the_server_put_requests_together() -> None:
    config = squeeze(write_network_config(make_network(1)))
    assert "max_batch_size: 8" in config
    assert "dynamic_batching { preferred_batch_size: 8 }" in config
    assert "TYPE_UINT8 dims: 16 dims: 224" in config  # the server adds the batch
    assert make_network(1).views == 1


def test_one_batch_is_a_part_of_the_shape() -> None:
    config = squeeze(write_network_config(make_network(None)))
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config
    assert make_network(None).views == 8


def test_a_range_that_begins_above_one_is_left_to_the_client() -> None:
    config = squeeze(write_network_config(make_network(2)))
    assert "max_batch_size: 0" in config
    assert "dims: -1 dims: 16 dims: 224" in config
    assert "dims: 2 dims: 16 dims: 224" in squeeze(write_clips_config(make_network(2), 100, 1))
    assert "dims: 2 dims: 5" in squeeze(write_classes_config(make_network(2)))
