"""Files that are taken as a checkpoint, and those that are refused, with their words."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.errors import CheckpointError
from dualexport.core.selection import parse_selections
from dualexport.exporter.checkpoint import build_network, build_random_network, read_checkpoint
from dualexport.exporter.dualformer.network import DualFormer
from safetensors.torch import save_file

State = dict[str, torch.Tensor]


@pytest.fixture
def state(nano: DualFormer) -> State:
    return dict(nano.state_dict())


def save(tmp_path: Path, content: Any, name: str = "nano.pth") -> Path:
    path = tmp_path / name
    torch.save(content, path)
    return path


def assert_same_network(network: DualFormer, state: State) -> None:
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_reads_the_published_format(tmp_path: Path, state: State) -> None:
    content = {"meta": {"epoch": 30}, "state_dict": OrderedDict(state), "optimizer": {"state": {}}}
    checkpoint = read_checkpoint(save(tmp_path, content))
    assert checkpoint.config.size == ModelSize.N
    assert checkpoint.config.classes == 400
    assert set(checkpoint.ignored) == {"meta", "optimizer"}
    assert_same_network(build_network(checkpoint), state)


def test_reads_names_of_data_parallel_training_and_leaves_token_labels_out(tmp_path: Path, state: State) -> None:
    content = {f"module.{name}": value for name, value in state.items()}
    content["module.backbone.token_linear.weight"] = torch.zeros(3)
    checkpoint = read_checkpoint(save(tmp_path, {"state_dict": content}))
    assert checkpoint.ignored == ("module.backbone.token_linear.weight",)
    assert_same_network(build_network(checkpoint), state)


def test_reads_safetensors_in_half_precision(tmp_path: Path, state: State) -> None:
    path = tmp_path / "nano.safetensors"
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file(half, path)
    checkpoint = read_checkpoint(path)
    assert_same_network(build_network(checkpoint), {name: half[name].to(state[name].dtype) for name in state})


def test_number_of_classes_follows_from_the_head(tmp_path: Path, state: State) -> None:
    state["cls_head.fc_cls.weight"] = torch.zeros(12, 256)
    state["cls_head.fc_cls.bias"] = torch.zeros(12)
    assert read_checkpoint(save(tmp_path, state)).config.classes == 12


def test_another_size_than_asked_for_is_refused(tmp_path: Path, state: State) -> None:
    with pytest.raises(CheckpointError, match="DualFormer-n, --model says b") as error:
        read_checkpoint(save(tmp_path, state), ModelSize.B)
    assert "--model n" in error.value.fix


def test_mismatches_are_listed_by_name_with_shapes(tmp_path: Path, state: State) -> None:
    del state["backbone.norm.bias"]
    state["backbone.extra"] = torch.zeros(1)
    state["backbone.norm.weight"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(save(tmp_path, state))
    message = str(error.value)
    assert "1 missing (backbone.norm.bias)" in message
    assert "1 unexpected (backbone.extra)" in message
    assert "1 misshapen (backbone.norm.weight: got (9,), expected (256,))" in message


def test_nan_is_refused_by_name(tmp_path: Path, state: State) -> None:
    state["backbone.norm.bias"] = torch.full((256,), float("nan"))
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 1 parameters \(backbone\.norm\.bias\)"):
        read_checkpoint(save(tmp_path, state))


class RunsCode:
    """An object whose unpickling makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, {"state_dict": state, "meta": RunsCode()})
    with pytest.raises(CheckpointError, match="mkdir to be unpickled, and code from a checkpoint is never run"):
        read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["notes.pth", "notes.safetensors"])
def test_a_text_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("these are not weights\n" * 50)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read: not a"):
        read_checkpoint(path)


def test_a_truncated_file_is_refused(tmp_path: Path, state: State) -> None:
    path = save(tmp_path, state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "not a DualFormer"),
        ({"backbone.patch_embeds.0.proj.weight": torch.zeros(80, 3, 2, 4, 4)}, "first width 80"),
        ([torch.zeros(1)], "holds a list"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(save(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such file"):
        read_checkpoint(tmp_path / "gone.pth")


def test_random_weights_are_those_of_their_seed() -> None:
    first, again, other = (build_random_network(ModelSize.N, seed).state_dict() for seed in (3, 3, 4))
    name = "backbone.blocks.2.1.attn.q.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


SELECTIONS = parse_selections("T0:0.5,S2:0.74")


@pytest.fixture
def selecting_state() -> State:
    return dict(build_random_network(ModelSize.N, 1, SELECTIONS).state_dict())


def test_a_checkpoint_with_selectors_is_read_with_its_selections(tmp_path: Path, selecting_state: State) -> None:
    checkpoint = read_checkpoint(save(tmp_path, {"state_dict": selecting_state}), selections=SELECTIONS)
    assert checkpoint.config.selections == SELECTIONS
    assert_same_network(build_network(checkpoint), selecting_state)


def test_selections_are_required_for_a_checkpoint_with_selectors(tmp_path: Path, selecting_state: State) -> None:
    path = save(tmp_path, {f"module.{name}": value for name, value in selecting_state.items()})
    with pytest.raises(CheckpointError, match="was trained with token selection") as error:
        read_checkpoint(path)
    assert "--stts T0:RATIO,S2:RATIO" in error.value.fix
    with pytest.raises(CheckpointError, match="holds trained selectors") as error:
        read_checkpoint(path, selections=SELECTIONS, untrained_seed=0)


@pytest.mark.parametrize("text", ["T0:0.5", "T1:0.5,S2:0.74", "T0:0.5,T1:0.5,S2:0.74"])
def test_selectors_of_other_selections_do_not_fit(tmp_path: Path, selecting_state: State, text: str) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit DualFormer-n: .*_score_predictor"):
        read_checkpoint(save(tmp_path, selecting_state), selections=parse_selections(text))


def test_random_selectors_must_be_asked_for(tmp_path: Path, state: State) -> None:
    path = save(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"holds no selector for T0:0\.5, S2:0\.74") as error:
        read_checkpoint(path, selections=SELECTIONS)
    assert "--untrained-selector" in error.value.fix
    first, again, other = (read_checkpoint(path, None, SELECTIONS, seed).state for seed in (0, 0, 1))
    name = "backbone.time_score_predictor.0.score_network.in_conv.1.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert torch.equal(first["backbone.norm.weight"], state["backbone.norm.weight"])
