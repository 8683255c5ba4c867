"""Two networks as one: the dear one answers only where the cheap one's best two classes are close to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated

import msgspec
import numpy as np

from ..core.choices import Runtime
from ..core.errors import ManifestError, RunnerError
from ..core.manifest import Manifest, check_artifact, read_manifest
from ..core.reading import FileKind, is_file
from ..core.runner import Runner
from ..core.types import Array, Artifact, TensorSpec
from ..runtimes.tensorrt.engine_file import FORMAT as ENGINE_FORMAT

FORMAT = 1  # raised when a reader of the former would misread it
CASCADE_FILE = "cascade.json"
CHEAP = "cheap"  # the folder of the cheap network, in that of the dear one
CASCADE = FileKind("a cascade", ManifestError, "choose it again with `dualexport tune --cascade`", max_bytes=1 << 16)

Name = Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^/\\\x00]+$")]
OpenArtifact = Callable[[Artifact], Runner]


class Cascade(msgspec.Struct, frozen=True, kw_only=True):
    """The files of both networks, and the margin: below it between the best two logits the dear one answers.

    `dear` lies beside this document, `cheap` in the folder of that name. `share` is that of the clips that the dear
    one answered where the margin was judged.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=FORMAT)]
    cheap: Name
    dear: Name
    margin: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
    share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


def find_margins(logits: Array) -> Array:
    """The distance of the best two logits of each row, (clips, classes) -> (clips,).

    It is the logarithm of how many times as probable the best class is as the second. A row that holds no finite
    numbers has none, 0.
    """
    if logits.shape[-1] < 2:
        return np.full(len(logits), np.inf)
    best = np.partition(logits.astype(np.float64), -2, axis=-1)[:, -2:]
    with np.errstate(invalid="ignore"):
        margins: Array = np.nan_to_num(best[:, 1] - best[:, 0], nan=0.0, posinf=0.0)
    return margins


class CascadeRunner:
    """Runs the cheap network on a batch, and the dear one on those of its clips whose margin is too small."""

    def __init__(self, cheap: Runner, dear: Runner, margin: float) -> None:
        self.name = f"{cheap.name}, below a margin of {margin:.3g} {dear.name}"
        if cheap.inputs != dear.inputs or cheap.outputs[:1] != dear.outputs[:1]:
            raise RunnerError(
                f"{cheap.name} and {dear.name} take other clips or give other classes",
                fix="choose the cascade again with `dualexport tune --cascade`",
            )
        self._cheap, self._dear, self._margin = cheap, dear, margin
        self._opened = ExitStack()
        self.clips = self.passed_on = 0  # how many it has answered, and how many of them with the dear network

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._cheap.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._cheap.outputs[:1]

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The logits of whichever network answered each clip."""
        (spec,), output = self.inputs, self.outputs[0].name
        clips, logits = feeds[spec.name], np.array(self._cheap.infer(feeds)[output])
        close = np.flatnonzero(find_margins(logits) < self._margin)
        self.clips += len(clips)
        self.passed_on += len(close)
        if len(close):
            least = spec.batches[0]
            filled = np.resize(close, max(len(close), least))  # an engine of one batch takes no fewer
            logits[close] = self._dear.infer({spec.name: clips[filled]})[output][: len(close)]
        return {output: logits}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], None]]:
        """A function that runs the batch once, copies included: it depends on the clips how much work that is."""

        def run() -> None:
            self.infer(feeds)

        yield run

    def __enter__(self) -> CascadeRunner:
        with ExitStack() as opened:
            for runner in (self._cheap, self._dear):
                opened.enter_context(runner)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def has_cascade(folder: Path) -> bool:
    """True for the folder of a cascade."""
    return is_file(folder / CASCADE_FILE)


def open_cascade(manifest: Manifest, runtime: Runtime, open_one: OpenArtifact) -> CascadeRunner:
    """Open both networks of the cascade in a manifest's folder: their ONNX files, or engines of these.

    Raises ManifestError for a file that is missing or has changed, RunnerError for networks that do not fit.
    """
    cascade = CASCADE.read_json(manifest.folder / CASCADE_FILE, Cascade)
    cheap = read_manifest(manifest.folder / CHEAP)
    return CascadeRunner(
        open_one(_find(cheap, cascade.cheap, runtime)),
        open_one(_find(manifest, cascade.dear, runtime)),
        cascade.margin,
    )


def _find(manifest: Manifest, name: str, runtime: Runtime) -> Artifact:
    """The file of that name, or for TensorRT an engine of it."""
    found = next((one for one in manifest.artifacts if one.path.name == name), None)
    if found is not None and runtime is Runtime.TENSORRT and found.format != ENGINE_FORMAT:
        engines = [one for one in manifest.artifacts if one.format == ENGINE_FORMAT and one.parent == found.sha256]
        if not engines:
            raise ManifestError(
                f"{manifest.path} lists no engine of {name}",
                fix=f"build it here: `dualexport trt {manifest.folder} --{found.precision.value}`",
            )
        found = engines[-1]
    if found is None:
        raise ManifestError(f"{manifest.path} lists no {name}", fix=CASCADE.fix)
    check_artifact(found)
    return found
