"""The folded network computes what the reference computes, whatever its parameters, grid and batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.errors import ExportError
from dualexport.core.selection import parse_selections
from dualexport.core.types import Preprocessing
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer.network import CONFIGS, HEAD_DIM, DualFormer, Grid, attend
from dualexport.exporter.folding.fold import fold
from dualexport.exporter.folding.layers import Attend, rows_to_volume, volume_to_rows
from dualexport.exporter.folding.token_order import TokenOrder
from torch import Tensor, nn

EXACT = 1e-4  # of logits with a spread of about one
NANO = CONFIGS[ModelSize.N]


@pytest.fixture(scope="module")
def network(make_network: Callable[[int], DualFormer]) -> DualFormer:
    return make_network(NANO.frames)


def logits(network: nn.Module, frames: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(frames)
    assert found.std() > 0.3
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "batch"), [(16, 1), (16, 2), (32, 1)])
def test_folded_network_equals_the_reference(
    make_network: Callable[[int], DualFormer], frames: int, batch: int
) -> None:
    network = make_network(frames)
    clips = torch.randn(batch, *network.config.clip_shape)
    expected = logits(network, clips)
    torch.testing.assert_close(logits(fold(network), clips), expected, atol=EXACT, rtol=0)
    if batch > 1:
        assert (expected[0] - expected[1]).abs().max() > 0.1  # clips that were mixed up would show


@pytest.mark.slow
def test_raw_frames_equal_normalized_clips(network: DualFormer) -> None:
    preprocessing = Preprocessing(mean=(110.0, 120.0, 130.0), std=(40.0, 50.0, 60.0))
    frames = torch.randint(0, 256, (2, NANO.frames, 224, 224, 3), dtype=torch.uint8)
    clips = torch.stack([torch.from_numpy(preprocessing.normalize(clip.numpy())) for clip in frames])
    folded = fold(network, input_dtype=torch.uint8, preprocessing=preprocessing)
    assert folded.clip_shape == tuple(frames.shape[1:])
    torch.testing.assert_close(logits(folded, frames), logits(network, clips), atol=EXACT, rtol=0)


def test_folding_leaves_the_reference_as_it_is(network: DualFormer) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold(network)
    for parameter in folded.parameters():
        parameter.zero_()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0, msg=name)


def test_modules_keep_the_networks_names(network: DualFormer) -> None:
    names = {name for name, module in fold(network).named_modules() if not list(module.children())}
    block = "blocks.2.1"
    assert {f"{block}.attn.{layer}" for layer in ("q", "kv", "proj", "sr")} <= names
    assert {f"{block}.mlp.{layer}" for layer in ("fc1", "fc2")} <= names
    assert {"blocks.2.0.attn.qkv", "blocks.0.1.attn.lr.0", "patch_embeds.3.proj", "pos_block.0"} <= names
    assert "cls_head.fc_cls" in names
    assert not any("bn" in name or isinstance(module, nn.BatchNorm3d) for name, module in fold(network).named_modules())


def test_another_input_type_is_refused(network: DualFormer) -> None:
    with pytest.raises(ExportError, match="float16"):
        fold(network, input_dtype=torch.float16)


GRIDS = [((4, 6, 4), (2, 3, 2)), ((2, 4, 4), (2, 2, 4)), ((2, 3, 2), (2, 3, 2))]


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_window_order_puts_equal_positions_of_all_windows_side_by_side(grid: Grid, window: Grid) -> None:
    batch = 2
    order = TokenOrder(grid, window)
    frames, height, width = torch.meshgrid(*(torch.arange(extent) for extent in grid), indexing="ij")
    rows = torch.stack([frames, height, width], dim=-1).reshape(-1, 1, 3).repeat(1, batch, 1)
    clip = torch.arange(batch).expand(rows.shape[0], batch)[..., None]
    rows = torch.cat([rows, clip], dim=-1).reshape(-1, 4).double()  # (frame, height, width, clip) of each row
    ordered = order.from_grid(rows)
    sequences = ordered.reshape(order.window_tokens, -1, 4)  # (position, window and clip, coordinates)
    window_of = torch.cat([sequences[..., :3] // torch.tensor(window), sequences[..., 3:]], dim=-1)
    assert (window_of == window_of[:1]).all()  # one window of one clip each
    assert len({tuple(row.tolist()) for row in window_of[0]}) == sequences.shape[1]
    torch.testing.assert_close(order.to_grid(ordered), rows, atol=0, rtol=0)
    clips = rows.reshape(*grid, batch, 4).permute(3, 0, 1, 2, 4)
    torch.testing.assert_close(order.to_clips(ordered), clips, atol=0, rtol=0)


def test_rows_and_volumes_are_each_others_inverse() -> None:
    rows = torch.randn(2 * 3 * 4 * 5, 6)
    volume = rows_to_volume(rows, (2, 3, 4))
    assert volume.shape == (5, 6, 2, 3, 4)
    assert volume[1, 2, 0, 1, 3] == rows[(1 * 4 + 3) * 5 + 1, 2]
    torch.testing.assert_close(volume_to_rows(volume), rows, atol=0, rtol=0)


@pytest.mark.parametrize(("sequences", "heads"), [(1, 1), (2, 1), (1, 3), (4, 2)])
def test_attention_on_rows_equals_attention_on_heads(sequences: int, heads: int) -> None:
    queries, keys = 6, 5
    query, key, value = (
        torch.randn(tokens, sequences, heads, HEAD_DIM, dtype=torch.float64) for tokens in (queries, keys, keys)
    )
    by_head = [x.permute(1, 2, 0, 3) for x in (query, key, value)]  # (sequences, heads, tokens, head_dim)
    expected = attend(*by_head).permute(2, 0, 1, 3).reshape(-1, heads * HEAD_DIM)
    rows = [x.reshape(-1, heads * HEAD_DIM) for x in (query * HEAD_DIM**-0.5, key, value)]
    found = Attend()(*rows, queries, keys)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)  # its softmax is float32


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("text", ["T0:0.5", "S2:0.74", "T0:0.5,S2:0.74", "T1:0.5", "T0:1,S2:1"])
def test_folded_selection_keeps_the_same_tokens(text: str, batch: int) -> None:
    network = build_random_network(ModelSize.N, 0, parse_selections(text))
    clips = torch.randn(batch, *network.config.clip_shape, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected, kept = network(clips), network.backbone.pool_selected(clips)[1]
        found = fold(network, with_selection=True)(clips)
    if kept is not None:
        found, found_kept = found
        assert torch.equal(found_kept, kept)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
