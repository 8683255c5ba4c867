"""The configuration of a DualFormer: its size, and which tokens it goes on with. Needs neither torch nor onnx."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.choices import InputType, ModelSize
from ...core.selection import Grid, Selection, SelectionKind
from ...core.types import Preprocessing
from .token_grids import IMAGE_SIZE, check_frames, check_selections, stage_grids, trained_grid


@dataclass(frozen=True, slots=True)
class DualFormerConfig:
    """Widths and depths have one entry per stage; `selections` are in the order in which the network makes them.

    Clips have `frames`, of which each is the `stride`-th of the video. `trained_frames` are those of the clips that the
    kernels were made for, None for as many. Raises SelectionError when a stage cannot work on what is selected, and
    OptionError when one cannot work on so few frames.
    """

    size: ModelSize
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    frames: int = 32
    classes: int = 400
    selections: tuple[Selection, ...] = ()
    trained_frames: int | None = None
    stride: int = 2

    def __post_init__(self) -> None:
        check_frames(self.frames, self.trained_frames)
        check_selections(self.frames, self.selections, self.trained_frames)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of one clip: (3, frames, height, width)."""
        return (3, self.frames, IMAGE_SIZE, IMAGE_SIZE)

    def input_shape(self, input_type: InputType) -> tuple[int, int, int, int]:
        """Shape of one clip as a network with that input takes it: raw frames are (frames, height, width, 3)."""
        colours, frames, height, width = self.clip_shape
        return (frames, height, width, colours) if input_type is InputType.UINT8 else self.clip_shape

    @property
    def preprocessing(self) -> Preprocessing:
        """Rules by which videos become clips for this network."""
        return Preprocessing(frames=self.frames, stride=self.stride, size=IMAGE_SIZE)

    @property
    def kept_frames(self) -> int | None:
        """Token frames that are left in the end; None where no frames are selected."""
        selects_frames = any(selection.kind is SelectionKind.TIME for selection in self.selections)
        return self.token_grid(3)[0] if selects_frames else None

    def trained_grid(self, stage: int) -> Grid:
        """Tokens (frames, height, width) that the kernels of `stage` were made for."""
        return trained_grid(self.trained_frames or self.frames, stage)

    def embedded_grid(self, stage: int) -> Grid:
        """Tokens that `stage` has before its own selections."""
        return stage_grids(self.frames, self.selections)[stage][0]

    def token_grid(self, stage: int) -> Grid:
        """Tokens that the blocks of `stage` work on."""
        return stage_grids(self.frames, self.selections)[stage][-1]


CONFIGS = {
    config.size: config
    for config in (
        DualFormerConfig(ModelSize.N, (32, 64, 128, 256), (2, 2, 2, 2), frames=ModelSize.N.frames),
        DualFormerConfig(ModelSize.T, (64, 128, 256, 512), (2, 2, 10, 4)),
        DualFormerConfig(ModelSize.S, (96, 192, 384, 768), (2, 2, 18, 2)),
        DualFormerConfig(ModelSize.B, (128, 256, 512, 1024), (2, 2, 18, 2)),
    )
}
