"""The loss, the schedule and the frames of a distillation."""

from __future__ import annotations

import pytest
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.errors import CheckpointError, OptionError
from dualexport.core.selection import parse_selections
from dualexport.core.types import Preprocessing
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.distillation.optimization import (
    LABEL_WEIGHT,
    NO_LABEL,
    distillation_loss,
    make_optimizer,
)
from dualexport.exporter.distillation.schedule import Schedule, Stage
from dualexport.exporter.distillation.student import list_fresh, make_student, train_part
from dualexport.exporter.dualformer.network import DualFormer
from torch import nn
from torch.nn import functional

HALF = parse_selections("T0:0.5")


def test_a_student_that_answers_as_the_teacher_has_no_loss() -> None:
    logits = torch.randn(4, 5)
    assert distillation_loss(logits, logits, torch.full((4,), NO_LABEL), 2.0).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(logits.flip(1), logits, torch.full((4,), NO_LABEL), 2.0) > 0.1


def test_labels_are_learned_besides_where_there_are_any() -> None:
    logits = torch.randn(4, 5)
    labels = torch.tensor([1, NO_LABEL, NO_LABEL, 3])
    loss = distillation_loss(logits, logits, labels, 2.0)
    wanted = LABEL_WEIGHT * functional.cross_entropy(logits[[0, 3]], labels[[0, 3]], reduction="sum") / 4
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_noise_falls_to_zero_before_the_network_is_trained() -> None:
    schedule = Schedule(0.25, 2e-3, 1e-4)
    phases = [schedule.at(step / 100) for step in range(101)]
    assert [phase.stage for phase in phases] == [Stage.SELECTORS] * 25 + [Stage.NETWORK] * 76
    sigmas = [phase.sigma for phase in phases]
    assert sigmas[:25] == sorted(sigmas[:25], reverse=True)
    assert sigmas[24] < 0.1 * sigmas[0]
    assert set(sigmas[25:]) == {0.0}
    assert max(phase.rate for phase in phases[25:]) <= 1e-4
    assert phases[-1].rate == pytest.approx(0)


def test_frozen_and_selectorless_runs_have_one_stage() -> None:
    assert {Schedule(1.0, 1e-3, 1e-4).at(done).stage for done in (0, 0.5, 0.99)} == {Stage.SELECTORS}
    assert {Schedule(0.0, 1e-3, 1e-4).at(done).stage for done in (0, 0.5, 1)} == {Stage.NETWORK}


def test_a_stage_trains_its_own_parameters(nano: DualFormer) -> None:
    student = make_student(nano, HALF, 16, 2, seed=0)
    fresh = {id(parameter) for parameter in list_fresh(student)}
    for stage in Stage:
        train_part(student, stage)
        trained = {id(parameter) for parameter in student.parameters() if parameter.requires_grad}
        assert trained == (fresh if stage is Stage.SELECTORS else {id(one) for one in student.parameters()} - fresh)
    assert not any(module.training for module in student.modules() if isinstance(module, nn.BatchNorm3d))


def test_a_student_begins_as_its_teacher_and_leaves_it_alone(nano: DualFormer) -> None:
    student = make_student(nano, HALF, 16, 2, seed=0)
    name = "backbone.norm.weight"
    assert torch.equal(student.state_dict()[name], nano.state_dict()[name])
    with torch.no_grad():
        student.backbone.norm.weight.add_(1)
    assert not torch.equal(student.state_dict()[name], nano.state_dict()[name])


def test_a_teacher_that_selects_already_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"selects tokens already \(T0:0\.5\)"):
        make_student(build_random_network(ModelSize.N, 0, HALF), HALF, 16, 2, 0)


@pytest.mark.parametrize(
    ("frames", "stride", "indices"),
    [(32, 2, range(32)), (16, 4, range(0, 32, 2)), (8, 8, range(0, 32, 4)), (16, 2, range(8, 24))],
)
def test_a_students_frames_are_among_the_teachers(frames: int, stride: int, indices: range) -> None:
    found = Preprocessing(32, 2).find_frames(Preprocessing(frames, stride))
    assert range(32)[found] == indices


@pytest.mark.parametrize(("frames", "stride"), [(16, 3), (16, 1), (32, 4)])
def test_other_frames_have_no_answer_to_learn(frames: int, stride: int) -> None:
    with pytest.raises(OptionError, match="not among the 32 of stride 2"):
        Preprocessing(32, 2).find_frames(Preprocessing(frames, stride))


def test_only_matrices_decay() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    groups = make_optimizer(network, network[0].parameters(), scale=10.0).param_groups
    assert [(len(group["params"]), group["weight_decay"] > 0, group["scale"]) for group in groups] == [
        (2, False, 1.0),
        (2, True, 10.0),
    ]
