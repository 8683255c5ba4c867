"""The training form of the selection: its value and gradient are the expectation's, and selectors learn with it."""

from __future__ import annotations

import math

import pytest
import torch
from dualexport.exporter.dualformer.perturbed_topk import mean_indicators, sigma_at
from dualexport.exporter.dualformer.selectors import SpatialSelector, TemporalSelector
from torch import Tensor, nn
from torch.nn import functional

SAMPLES = 200_000  # brings the Monte-Carlo error of the gradients here to about 0.01
SIGMA = 0.5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_value_and_gradient_of_two_scores_have_their_closed_form() -> None:
    difference = 0.4
    scores = torch.tensor([[difference, 0.0]], requires_grad=True)
    indicators = mean_indicators(scores, 1, SIGMA, SAMPLES)
    spread = SIGMA * math.sqrt(2)  # of the difference of two disturbed scores
    probability = 0.5 * (1 + math.erf(difference / spread / math.sqrt(2)))
    density = math.exp(-((difference / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
    torch.testing.assert_close(indicators, torch.tensor([[[probability, 1 - probability]]]), rtol=0, atol=5e-3)
    indicators[0, 0, 0].backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[density, -density]]), rtol=0, atol=2e-2)


@pytest.mark.slow
def test_gradient_agrees_with_finite_differences_of_the_expectation() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.3, -0.2, 0.4], [1.0, 0.9, 0.0, 0.8, 0.2]], requires_grad=True)
    weights = torch.randn(2, 2, 5)

    def expectation(at: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same noise, so that a difference of two values shows their slope
        return (mean_indicators(at, 2, SIGMA, SAMPLES) * weights).sum(dim=(1, 2))

    expectation(scores).sum().backward()
    step = 0.05
    slopes = [
        (expectation(scores.detach() + offset) - expectation(scores.detach() - offset)) / (2 * step)
        for offset in step * torch.eye(5)
    ]
    torch.testing.assert_close(scores.grad, torch.stack(slopes, dim=1), rtol=0, atol=5e-2)


def test_little_noise_gives_the_hard_selection() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5, 0.7]])
    expected = functional.one_hot(torch.tensor([[0, 3]]), 4).float()
    assert torch.equal(mean_indicators(scores, 2, 1e-3), expected)


def test_sigma_falls_linearly_to_zero() -> None:
    assert [sigma_at(step, 4, initial=0.2) for step in range(6)] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0, 0.0])


@pytest.mark.parametrize("selector", [TemporalSelector(8, 2), SpatialSelector(8, 4, 2)], ids=["time", "space"])
def test_training_without_noise_selects_as_inference_does(selector: TemporalSelector | SpatialSelector) -> None:
    tokens = torch.randn(2, 4, 4, 4, 8)
    selector.sigma = 1e-4
    trained = selector.train()(tokens)
    selector.sigma = 0.0
    hard = selector(tokens)
    inferred = selector.eval()(tokens)
    for got in (trained, hard):
        torch.testing.assert_close(got, inferred)


class MarkedFrameTask:
    """Clips of noise, in one frame of which a mark and the clip's class are shown; other frames show other classes."""

    frames, classes, width = 8, 4, 16

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (batch, frames, 2, 2, width), classes (batch,) and informative frames (batch,)."""
        shown = torch.randint(self.classes, (batch, self.frames))
        marked = torch.randint(self.frames, (batch,))
        tokens = 0.3 * torch.randn(batch, self.frames, 2, 2, self.width)
        tokens[..., : self.classes] += functional.one_hot(shown, self.classes)[:, :, None, None]
        tokens[torch.arange(batch), marked, 0, 1, -1] += 3.0  # in one position: the maximum finds it, the mean hardly
        return tokens, shown[torch.arange(batch), marked], marked


@pytest.mark.slow
def test_a_selector_learns_to_find_the_informative_frame() -> None:
    task, steps = MarkedFrameTask(), 200
    selector, classifier = TemporalSelector(task.width, kept=1), nn.Linear(task.width, task.classes)
    optimizer = torch.optim.Adam([*selector.parameters(), *classifier.parameters()], lr=5e-3)

    def found() -> float:
        torch.manual_seed(2)
        tokens, _, marked = task.draw(500)
        with torch.inference_mode():
            chosen = selector.eval()(tokens)[1][:, 0]
        selector.train()
        return float((chosen == marked).float().mean())

    before = found()
    for step in range(steps):
        selector.sigma = sigma_at(step, steps)
        tokens, classes, _ = task.draw(64)
        logits = classifier(selector(tokens)[0].mean(dim=(1, 2, 3)))
        optimizer.zero_grad()
        functional.cross_entropy(logits, classes).backward()
        optimizer.step()
    assert before < 0.3
    assert found() > 0.95


def test_the_noise_of_a_seeded_part_does_not_depend_on_the_others() -> None:
    scores = torch.rand(4, 6)
    whole = mean_indicators(scores, 2, SIGMA, 20, seeds=(5, 9))
    for part, seed in ((slice(2), 5), (slice(2, 4), 9)):
        assert torch.equal(whole[part], mean_indicators(scores[part], 2, SIGMA, 20, seeds=(seed,)))
    assert not torch.equal(whole, mean_indicators(scores, 2, SIGMA, 20, seeds=(5, 8)))
