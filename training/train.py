"""Trains the demo model (size n) on generated scenes: small pictures first, then whole ones; see docs/demo-model.md.

With --selector it goes on from there with frame selection. Resumes from its last checkpoint when it is started again
with the same options. Writes RUN/dualformer-demo.safetensors (RUN/dualformer-demo-T0_0.5.safetensors), the weights'
moving average in half precision, and its curve as .csv.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from augment import augment
from cache import Rendering, open_clips
from dualexport.clips.draws import draw_indices
from dualexport.clips.scenes import ACTIONS
from dualexport.core.choices import ModelSize
from dualexport.core.files import staged_path
from dualexport.core.manifest import name_network
from dualexport.core.selection import parse_selections
from dualexport.exporter.distillation.optimization import descend, follow, make_optimizer, normalize
from dualexport.exporter.distillation.schedule import cosine_rate
from dualexport.exporter.dualformer.fast_convolution import speed_up
from dualexport.exporter.dualformer.network import CONFIGS, DualFormer
from dualexport.exporter.dualformer.perturbed_topk import sigma_at
from dualexport.exporter.dualformer.selectors import set_sigma
from evaluate import add_to_curve, center_features, fit_windows, measure
from motion_energy import init_network
from safetensors.torch import save_file
from torch.nn import functional
from training_head import TrainingHead

WARM_UP = 20  # steps
CENTERING_CLIPS = 120
FRESH_SCALE = 10.0  # of the learning rate: head and selectors know nothing yet, the backbone sees motion already
SELECTION = "T0:0.5"
NAME = name_network("demo")
HELD_OUT_SEED = 1_000_000  # of the clips that measure; training seeds are far below


@dataclass(frozen=True)
class Phase:
    """A stretch of training on clips that are made in one way; so many `clips` in the cache.

    The rate's cosine would reach 0 after `horizon` steps; where pictures change, it is cut before.
    """

    rendering: Rendering
    clips: int
    steps: int
    batch: int
    rate: float
    horizon: int
    seed: int


TINY = Phase(Rendering(56, (0.35, 0.55)), clips=4000, steps=800, batch=16, rate=6e-4, horizon=800, seed=3)
SMALL = Phase(Rendering(112, (0.5, 0.9)), clips=3000, steps=400, batch=16, rate=6e-4, horizon=900, seed=1)
WHOLE = Phase(Rendering(224, (1.0, 1.0)), clips=3000, steps=300, batch=8, rate=3e-4, horizon=500, seed=2)
ENCODED = Phase(
    Rendering(224, (1.0, 1.0), encoded=True), clips=1600, steps=300, batch=8, rate=2e-4, horizon=300, seed=4
)
PHASES = (TINY, SMALL, WHOLE)
NOISY_STEPS = 300  # of training the selection, on pictures of each size
SELECTOR_PHASES = (
    replace(SMALL, steps=NOISY_STEPS, horizon=NOISY_STEPS, rate=2e-4),
    replace(WHOLE, steps=NOISY_STEPS, horizon=NOISY_STEPS, rate=2e-4),
    replace(WHOLE, steps=400, horizon=400),  # the selection is hard and stays; the rest gets used to it
    ENCODED,
)


@dataclass
class State:
    """A run: what it is made of, and how far it is; `name` is that of its files."""

    name: str
    network: DualFormer
    average: DualFormer
    optimizer: torch.optim.Optimizer
    phase: int = 0
    step: int = 0


def main() -> None:
    options = parse_options()
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)
    state = start(options)
    for number, phase in enumerate(SELECTOR_PHASES if options.selector else PHASES):
        if number >= state.phase:
            if number > state.phase:
                state.phase, state.step = number, 0
            train(state, phase, options)
    save_weights(state.average, options.run / f"{state.name}.safetensors")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("demo/training"), help="folder of checkpoints and clip caches")
    parser.add_argument("--selector", action="store_true", help=f"go on from the trained model with {SELECTION}")
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--evaluate-every", type=int, default=100, metavar="STEPS")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="on cuda: bf16 autocast"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def start(options: argparse.Namespace) -> State:
    """A fresh network, or the trained one with fresh selectors, or what the last checkpoint holds."""
    selections = parse_selections(SELECTION) if options.selector else ()
    config = replace(CONFIGS[ModelSize.N], classes=len(ACTIONS), selections=selections)
    network = init_network(DualFormer(config))
    if options.device == "cpu":
        speed_up(network)
    network.cls_head = TrainingHead(config.widths[-1], config.classes)
    if options.selector:
        trained = torch.load(options.run / f"{NAME}.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(trained["average"], strict=False)
    network.to(options.device)
    fresh = [*network.cls_head.parameters(), *network.backbone.time_score_predictor.parameters()]
    state = State(
        name_network("demo", selections),
        network,
        copy.deepcopy(network).eval().requires_grad_(False),
        make_optimizer(network, fresh, FRESH_SCALE),
    )
    path = options.run / f"{state.name}.pt"
    if path.exists():
        saved = torch.load(path, map_location=options.device, weights_only=True)
        for name in ("network", "average", "optimizer"):
            getattr(state, name).load_state_dict(saved[name])
        state.phase, state.step = saved["phase"], saved["step"]
        print(f"resuming phase {state.phase} at step {state.step}", flush=True)
    return state


def train(state: State, phase: Phase, options: argparse.Namespace) -> None:
    clips = open_clips(options.run, phase.seed, phase.clips, phase.rendering)
    held_out = open_clips(options.run, HELD_OUT_SEED, options.held_out, phase.rendering)
    for network in (state.network, state.average):
        fit_windows(network, phase.rendering.size)
    started, losses, hits = time.monotonic(), [], []
    while state.step < phase.steps:
        set_sigma(state.network, sigma_at(state.phase * NOISY_STEPS + state.step, 2 * NOISY_STEPS))
        loss, hit = take_step(state, phase, clips)
        losses.append(loss)
        hits.append(hit)
        state.step += 1
        if state.step % 10 == 0:
            seconds = (time.monotonic() - started) / len(losses)
            print(
                f"{phase.rendering.size} px step {state.step}/{phase.steps} loss {np.mean(losses[-30:]):.3f} "
                f"top-1 {np.mean(hits[-30:]):.3f} {seconds:.2f} s/step",
                flush=True,
            )
        if state.step % options.evaluate_every == 0 or state.step == phase.steps:
            center_features(state.average, clips[:CENTERING_CLIPS])
            figures = fmean(losses[-50:]), fmean(hits[-50:]), measure(state.average, held_out)
            add_to_curve(options.run / f"{state.name}.csv", phase.rendering.size, state.step, *figures)
            save(state, options.run / f"{state.name}.pt")


def take_step(state: State, phase: Phase, clips: np.ndarray) -> tuple[float, float]:
    """One optimizer step; its clips depend on the phase and the step alone. Returns loss and share of hits."""
    random = np.random.default_rng((phase.seed, state.step))
    order = draw_indices(len(clips), phase.batch, state.step, (phase.seed, 7))
    pairs = [augment(clips[index], int(index) % len(ACTIONS), random) for index in order]
    device = next(state.network.parameters()).device
    labels = torch.tensor([label for _, label in pairs], device=device)
    state.network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = state.network(normalize(np.stack([clip for clip, _ in pairs])).to(device))
        loss = functional.cross_entropy(logits, labels, label_smoothing=0.05)
    descend(state.optimizer, loss, cosine_rate(phase.rate, state.step / phase.horizon, WARM_UP / phase.horizon))
    follow(state.average, state.network, state.step)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def save(state: State, path: Path) -> None:
    with staged_path(path) as staged:
        torch.save(
            {
                "network": state.network.state_dict(),
                "average": state.average.state_dict(),
                "optimizer": state.optimizer.state_dict(),
                "phase": state.phase,
                "step": state.step,
            },
            staged,
        )


def save_weights(network: DualFormer, path: Path) -> None:
    """Write the network as it is exported: plain head, half precision."""
    assert isinstance(network.cls_head, TrainingHead)
    network.cpu().cls_head = network.cls_head.folded()
    state = network.state_dict()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    with staged_path(path) as staged:
        save_file({name: value.contiguous() for name, value in halves.items()}, staged)


if __name__ == "__main__":
    main()
