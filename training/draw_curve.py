"""Draws the curves that training wrote: top-1 on training and held-out clips against clips seen. Needs matplotlib.

Usage: python training/draw_curve.py RUN/dualformer-demo.csv docs/demo-training.svg
"""

from __future__ import annotations

import csv
import sys
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt

BATCHES = {56: 16, 112: 16, 224: 8}
COLOURS = {"training": "#7f8c9a", "held-out": "#0b6e4f"}


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    with source.open() as file:
        rows = [(int(size), int(step), float(hits), float(right)) for size, step, _, hits, right in csv.reader(file)]
    plt.rcParams.update({"svg.hashsalt": "dualexport", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    seen = 0
    for size, group in groupby(rows, key=lambda row: row[0]):
        points = list(group)
        clips = [seen + step * BATCHES[size] for _, step, _, _ in points]
        for column, (name, colour) in enumerate(COLOURS.items(), start=2):
            axes.plot(
                clips, [100 * row[column] for row in points], color=colour, label="" if seen else name, marker="."
            )
        axes.text((seen + clips[-1]) / 2, 3, f"{size} px", ha="center", color="#555")
        seen = clips[-1]
        axes.axvline(seen, color="#ccc", linewidth=0.8)
    axes.set(xlabel="clips seen", ylabel="top-1, %", ylim=(0, 101), xlim=(0, seen))
    axes.legend(loc="center right", frameon=False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
