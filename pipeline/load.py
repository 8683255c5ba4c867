"""The network to work on: of a checkpoint, of random weights, or the one that comes with dualexport."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import ModelSize, choose
from ..core.class_names import read_labels
from ..core.errors import OptionError
from ..core.extras import needing_extra
from ..core.manifest import DEMO, name_clip, name_network
from ..core.selection import Selection, parse_selections
from ..core.types import Weights
from ..exporter.demo_model import read_demo_labels
from ..exporter.dualformer.token_grids import describe_selections, describe_uncovered

if TYPE_CHECKING:
    from ..exporter.dualformer.network import DualFormer


@dataclass(frozen=True, slots=True)
class Network:
    """A DualFormer in PyTorch, where its weights came from, and the names of its classes where they are known.

    `ignored` names what the checkpoint holds that inference does not need.
    """

    module: DualFormer
    weights: Weights
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> ModelSize:
        return self.module.config.size

    @property
    def name(self) -> str:
        """The name of the folder and the files that it is exported to: `dualformer-b`."""
        config = self.module.config
        clip = name_clip(config.size, config.preprocessing)
        return name_network(DEMO if self.weights.demo else self.size.value, config.selections, clip)

    def with_clips(self, frames: int | None = None, stride: int | None = None) -> Network:
        """The same network for clips of `frames` frames, each the `stride`-th of the video; None for its own.

        Without a stride a clip of fewer frames spans as much time as one of all. Raises OptionError, with the nearest
        counts that work, and SelectionError.
        """
        from ..exporter.loading import use_on_clips

        return replace(self, module=use_on_clips(self.module, frames, stride))

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one clip."""
        from ..exporter.dualformer.network import count_macs

        return count_macs(self.module.config)

    @property
    def selected(self) -> tuple[str, ...]:
        """A line for each token selection: how many tokens it keeps."""
        return describe_selections(self.module.config.frames, self.module.config.selections)

    @property
    def uncovered(self) -> tuple[str, ...]:
        """A line for each place where selected tokens are left out of the keys of attention."""
        config = self.module.config
        return describe_uncovered(config.frames, config.selections, config.trained_frames)


def load(
    checkpoint: Path | str | None = None,
    *,
    size: ModelSize | str | None = None,
    selections: str | None = None,
    labels: Path | str | None = None,
    seed: int = 0,
    untrained_selector: bool = False,
) -> Network:
    """Load the network of a published `.pth` or a `.safetensors` file; without one, of random weights of `seed`.

    Its size follows from the checkpoint. `selections` (`T0:0.5,S2:0.74`) makes it go on with a part of the tokens: a
    distilled checkpoint says itself with which, and one without selectors needs `untrained_selector`, which makes
    random ones. `labels` is a file of class names, one a line. Raises CheckpointError, SelectionError, LabelError, and
    OptionError for what does not go together.
    """
    if checkpoint is None and size is None:
        raise OptionError("neither a checkpoint nor a size was given", fix="give --model, --checkpoint, or both")
    parsed = _parse_selections(selections, untrained_selector)
    chosen = None if size is None else choose(ModelSize, size, "model size")
    with needing_extra("onnx"):
        from ..exporter.loading import load_network
    path = None if checkpoint is None else Path(checkpoint)
    found = load_network(chosen, path, seed, parsed, untrained_selector)
    names = _read_names(labels, found.module) or found.labels
    return Network(found.module, found.weights, found.ignored, names)


def load_demo(
    *,
    selections: str | None = None,
    labels: Path | str | None = None,
    seed: int = 0,
    untrained_selector: bool = False,
) -> Network:
    """Load the small trained network that comes with dualexport; its arguments are those of `load`.

    Raises CheckpointError for selections that it was not trained with, and otherwise as `load` does.
    """
    parsed = _parse_selections(selections, untrained_selector)
    with needing_extra("onnx"):
        from ..exporter import loading
    found = loading.load_demo(seed, parsed, untrained_selector)
    names = _read_names(labels, found.module) or read_demo_labels()
    return Network(found.module, found.weights, found.ignored, names)


def _read_names(path: Path | str | None, module: DualFormer) -> tuple[str, ...]:
    return () if path is None else read_labels(Path(path), module.config.classes)


def _parse_selections(text: str | None, untrained_selector: bool) -> tuple[Selection, ...]:
    if untrained_selector and text is None:
        raise OptionError(
            "random selectors select nothing without a ratio", fix="give --stts with --untrained-selector"
        )
    return parse_selections(text) if text is not None else ()
