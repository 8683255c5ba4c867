"""Clips into a network in training, and how often it is right on held-out ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from dualexport.clips.scenes import ACTIONS
from dualexport.exporter.distillation.optimization import normalize
from dualexport.exporter.dualformer.network import DualFormer, LocalAttention
from training_head import TrainingHead

WHOLE_BATCH = 8  # clips at once where no gradient is needed


def fit_windows(network: DualFormer, size: int) -> None:
    """On small pictures a window of a late stage is the whole picture; no parameter depends on it."""
    for stage, blocks in enumerate(network.backbone.blocks):
        for module in blocks.modules():
            if isinstance(module, LocalAttention):
                side = min(7, size // (4 * 2**stage))
                module.window = (module.window[0], side, side)


def center_features(network: DualFormer, clips: np.ndarray) -> None:
    """Measure the averaged network's own feature statistics: an average of the trained one's lags behind."""
    assert isinstance(network.cls_head, TrainingHead)
    norm = network.cls_head.norm
    norm.reset_running_stats()
    norm.momentum = None  # a plain mean over the batches
    norm.train()
    with torch.no_grad():
        for begin in range(0, len(clips), 24):
            network(normalize(clips[begin : begin + 24]).to(next(network.parameters()).device))
    norm.eval()


def measure(network: DualFormer, held_out: np.ndarray) -> float:
    """The share of clips that are recognized, also printed by action; the clips show the actions in turn."""
    confusion = np.zeros((len(ACTIONS), len(ACTIONS)), int)
    device = next(network.parameters()).device
    with torch.no_grad():
        for begin in range(0, len(held_out), WHOLE_BATCH):
            logits = network(normalize(held_out[begin : begin + WHOLE_BATCH]).to(device))
            for offset, found in enumerate(logits.argmax(1).tolist()):
                confusion[(begin + offset) % len(ACTIONS), found] += 1
    accuracy = float(np.trace(confusion) / confusion.sum())
    rates = confusion.diagonal() / confusion.sum(1)
    listed = ", ".join(f"{action} {rate:.2f}" for action, rate in zip(ACTIONS, rates, strict=True))
    print(f"held-out top-1 {accuracy:.3f}: {listed}", flush=True)
    return accuracy


def add_to_curve(path: Path, size: int, step: int, *figures: float) -> None:
    """A row of the training curve: picture size, step, loss and top-1 in training, held-out top-1."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([size, step, *(f"{value:.4f}" for value in figures)])
