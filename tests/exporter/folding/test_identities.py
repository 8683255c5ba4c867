"""Each fold is an identity: both sides are computed in float64 on a few random channels."""

from __future__ import annotations

import pytest
import torch
from dualexport.core.errors import ExportError
from dualexport.core.types import Preprocessing
from dualexport.exporter.folding import identities as folds
from dualexport.exporter.folding.identities import Affine
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, OUTPUTS, TOKENS = 6, 5, 7
EXACT = 1e-12


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def random_affine(*shape: int) -> Affine:
    return Affine(torch.randn(*shape, dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64))


def standardized(*shape: int) -> Tensor:
    return functional.layer_norm(torch.randn(*shape, dtype=torch.float64), shape[-1:])


def depthwise(conv: Affine, x: Tensor, **options: int) -> Tensor:
    return functional.conv3d(x, conv.weight, conv.bias, groups=CHANNELS, **options)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0.1  # nothing agrees by being zero
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=EXACT)


def test_norm_folds_into_linear() -> None:
    norm, linear, z = random_affine(CHANNELS), random_affine(OUTPUTS, CHANNELS), standardized(TOKENS, CHANNELS)
    folded = folds.fold_norm_into_linear(norm, linear)
    expected = functional.linear(z * norm.weight + norm.bias, *linear)
    assert_same(functional.linear(z, *folded), expected)


def test_norm_folds_into_depthwise_convolution() -> None:
    norm, conv = random_affine(CHANNELS), random_affine(CHANNELS, 1, 2, 3, 3)
    z = torch.randn(2, CHANNELS, 4, 6, 6, dtype=torch.float64)
    gained = z * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]
    folded = folds.fold_norm_into_depthwise(norm, conv)
    assert_same(depthwise(folded, z), depthwise(conv, gained))


def test_batch_norm_folds_into_convolution() -> None:
    norm = nn.BatchNorm3d(CHANNELS).double().eval()
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert values is not None
        nn.init.uniform_(values, 0.5, 2.0)
    conv, x = random_affine(CHANNELS, 1, 1, 2, 2), torch.randn(1, CHANNELS, 2, 4, 4, dtype=torch.float64)
    assert_same(depthwise(folds.fold_batch_norm(conv, norm), x), norm(depthwise(conv, x)))


def test_batch_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ExportError, match="running statistics"):
        folds.fold_batch_norm(random_affine(CHANNELS, 1, 1, 2, 2), nn.BatchNorm3d(CHANNELS, track_running_stats=False))


def test_residual_folds_into_the_centre_tap() -> None:
    conv, x = random_affine(CHANNELS, 1, 3, 3, 3), torch.randn(1, CHANNELS, 3, 4, 5, dtype=torch.float64)
    assert_same(depthwise(folds.fold_residual(conv), x, padding=1), x + depthwise(conv, x, padding=1))


def test_scale_folds_into_linear() -> None:
    linear, x = random_affine(OUTPUTS, CHANNELS), torch.randn(TOKENS, CHANNELS, dtype=torch.float64)
    assert_same(functional.linear(x, *folds.fold_scale(linear, 0.3)), 0.3 * functional.linear(x, *linear))


def test_key_bias_goes_and_value_bias_moves_through_the_projection() -> None:
    x = torch.randn(TOKENS, CHANNELS, dtype=torch.float64)
    query, key, value = (random_affine(CHANNELS, CHANNELS) for _ in range(3))
    proj = random_affine(OUTPUTS, CHANNELS)
    scores = functional.linear(x, *query) @ functional.linear(x, *key).t()
    expected = functional.linear(scores.softmax(dim=-1) @ functional.linear(x, *value), *proj)
    bare = (functional.linear(x, *query) @ (x @ key.weight.t()).t()).softmax(dim=-1) @ (x @ value.weight.t())
    assert_same(functional.linear(bare, *folds.fold_value_bias(value, proj)), expected)


def test_levelling_leaves_attention_as_it_is_and_gives_channels_one_range() -> None:
    x = torch.randn(TOKENS, CHANNELS, dtype=torch.float64)
    spread = torch.logspace(-0.5, 0.5, CHANNELS, dtype=torch.float64)
    query, key, value = (random_affine(CHANNELS, CHANNELS) for _ in range(3))
    query, weight = folds.Affine(query.weight * spread[:, None], query.bias), value.weight * spread[:, None]
    proj = random_affine(OUTPUTS, CHANNELS)
    level_query, level_key = folds.level_query_key(query, key.weight)
    level_value, level_proj = folds.level_value(weight, proj, level_key)
    scores = functional.linear(x, *query) @ (x @ key.weight.t()).t()
    assert_same(functional.linear(x, *level_query) @ (x @ level_key.t()).t(), scores)
    assert_same(functional.linear(x @ level_value.t(), *level_proj), functional.linear(x @ weight.t(), *proj))
    assert_same(level_query.weight.abs().amax(dim=1), level_key.abs().amax(dim=1))
    largest = level_key.abs().max().expand(CHANNELS)
    assert_same(level_value.abs().amax(dim=1), largest)


def test_levelling_keeps_a_dead_channel_within_half_precision() -> None:
    dead = torch.ones(CHANNELS, CHANNELS, dtype=torch.float64)
    dead[0], dead[1] = 0.0, 1e-30
    query, key = folds.level_query_key(random_affine(CHANNELS, CHANNELS), dead)
    value, proj = folds.level_value(dead, random_affine(OUTPUTS, CHANNELS), key)
    for weight in (query.weight, key, value, proj.weight):
        assert weight.abs().max() < 1e3


@pytest.mark.parametrize("shift", [0.25, 1.0])
def test_bias_folds_into_the_weight_of_shifted_standardized_tokens(shift: float) -> None:
    linear, z = random_affine(OUTPUTS, CHANNELS), standardized(TOKENS, CHANNELS)
    weight = folds.fold_bias_into_weight(linear, shift)
    assert_same((z + shift) @ weight.t(), functional.linear(z, *linear))


def test_a_shift_of_the_input_folds_into_the_bias_of_a_convolution() -> None:
    conv, x = random_affine(CHANNELS, 1, 2, 2, 2), torch.randn(1, CHANNELS, 4, 4, 4, dtype=torch.float64)
    assert_same(depthwise(folds.fold_shift(conv, 0.25), x + 0.25, stride=2), depthwise(conv, x, stride=2))


def test_token_bias_folds_into_the_patches_that_read_it() -> None:
    embed, bias = random_affine(OUTPUTS, CHANNELS, 1, 2, 2), torch.randn(CHANNELS, dtype=torch.float64)
    x = torch.randn(1, CHANNELS, 2, 4, 4, dtype=torch.float64)
    expected = functional.conv3d(x + bias[:, None, None, None], *embed, stride=(1, 2, 2))
    assert_same(functional.conv3d(x, *folds.fold_bias_into_patches(bias, embed), stride=(1, 2, 2)), expected)


def test_color_folds_into_the_patches() -> None:
    embed, preprocessing = random_affine(OUTPUTS, 3, 2, 2, 2), Preprocessing()
    frames = torch.randint(0, 256, (1, 3, 2, 4, 4)).double()
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    folded = folds.fold_color(embed, preprocessing)
    expected = functional.conv3d((frames - mean) / std, *embed, stride=2)
    assert_same(functional.conv3d(frames / 128 - 1, *folded, stride=2), expected)


def test_channels_in_pairs_do_not_mix() -> None:
    conv, x = random_affine(CHANNELS, 1, 3, 3, 3), torch.randn(1, CHANNELS, 4, 4, 4, dtype=torch.float64)
    found = functional.conv3d(x, folds.pair_channels(conv.weight), conv.bias, groups=CHANNELS // 2)
    assert_same(found, depthwise(conv, x))


def test_odd_channels_are_refused() -> None:
    with pytest.raises(ExportError, match="5 channels"):
        folds.pair_channels(torch.zeros(5, 1, 3, 3, 3))


def test_another_epsilon_is_refused() -> None:
    with pytest.raises(ExportError, match="epsilon"):
        folds.affine_of(nn.LayerNorm(4, eps=1e-6))
