"""Who takes part in a verification, and what runs them all on a portion of the clips, in whichever process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...core.choices import Reference
from ...core.runner import Runner
from ...core.types import Artifact, Clip
from . import inputs

if TYPE_CHECKING:
    from ...clips.listing import Video
    from ...clips.source import ClipSource
    from ...core.manifest import Manifest
    from ...verification.compare import Candidate, Entry, GroupLogits
    from ...verification.limits import Limits
    from ...verification.portions import PortionLogits


@dataclass(frozen=True, slots=True)
class Lineup:
    """A reference, and the artifacts that are compared with it, within limits by file name. Pickles."""

    manifest: Manifest
    artifacts: Sequence[Artifact]
    reference: Reference
    checkpoint: Path | None
    limits: Mapping[str, Limits]

    def open(
        self, opened: ExitStack, threads: int | None = None
    ) -> tuple[Runner, Iterable[Clip] | None, dict[str, Candidate]]:
        """The reference's runner, its own clips where it has some, and the candidates; closed with `opened`."""
        reference, clips = inputs.open_reference(self.manifest, self.checkpoint, self.reference, threads)
        opened.enter_context(reference)
        return reference, clips, inputs.open_candidates(self.artifacts, self.limits, opened, threads)

    def absolute(self) -> Lineup:
        """The same with paths that hold in another working folder."""
        manifest = replace(
            self.manifest, folder=self.manifest.folder.absolute(), artifacts=_absolute(self.manifest.artifacts)
        )
        checkpoint = self.checkpoint.absolute() if self.checkpoint else None
        return replace(self, manifest=manifest, artifacts=_absolute(self.artifacts), checkpoint=checkpoint)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a worker has opened: the reference by name, the largest batch, the entries, and on what it runs."""

    reference: str
    batch: int
    entries: Mapping[str, Entry]
    versions: Mapping[str, str]
    processor: str | None


@dataclass(frozen=True, slots=True)
class Portion:
    """Some consecutive videos of a source, and which is the first, by which portions are ordered."""

    videos: tuple[Video, ...]
    start: int


class PortionWorker:
    """All runners of a lineup. Clips are decoded on the threads that call `run`, and inferred on one of its own.

    So that the next clips are decoded while these are inferred, `run` has to be called on two threads or more.
    """

    def __init__(self, lineup: Lineup, source: ClipSource, threads: int | None = None) -> None:
        self._lineup, self._source, self._threads = lineup, source, threads
        self._failed: dict[str, tuple[int, str]] = {}  # by artifact: the start of the portion it broke off in, and how
        self._stack = ExitStack()
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        try:
            self.opened = self._inference.submit(self._open).result()
        except BaseException:
            self.close()
            raise

    def run(self, portion: Portion) -> PortionLogits:
        """Decode and infer. Raises ClipError for a video that cannot be read, where that is not to be skipped."""
        from ...verification.compare import group_videos
        from ...verification.portions import PortionLogits

        part = self._source.of(portion.videos)
        groups = [
            self._inference.submit(self._infer, portion.start, group, _digest(group)).result()
            for group in group_videos(part.read(), self.opened.batch)
        ]
        return PortionLogits(tuple(groups), tuple((video.name, video.reason) for video in part.skipped))

    def __enter__(self) -> PortionWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the runners, when the clips that are at work are done."""
        self._inference.submit(self._stack.close)
        self._inference.shutdown()

    def _open(self) -> Opened:
        from ...core.manifest import tool_versions
        from ...runtimes.machine.environment import read_environment
        from ...verification.compare import find_batch

        self._reference, _, self._candidates = self._lineup.open(self._stack, self._threads)
        return Opened(
            self._reference.name,
            find_batch(self._reference, self._candidates),
            {name: candidate.entry for name, candidate in self._candidates.items()},
            tool_versions(),
            read_environment().cpu,
        )

    def _infer(self, start: int, group: list[Clip], frames: tuple[bytes, ...]) -> GroupLogits:
        """A candidate that broke off in an earlier portion, by their order, is not asked again."""
        from ...verification.compare import infer_group

        asked = {
            name: replace(candidate, runner=None, failure=self._failed[name][1])
            if name in self._failed and self._failed[name][0] <= start
            else candidate
            for name, candidate in self._candidates.items()
        }
        logits = infer_group(self._reference, asked, group)
        for name, failure in logits.failures.items():
            if name not in self._failed or start < self._failed[name][0]:
                self._failed[name] = (start, failure)
        return replace(logits, frames=frames)


def make_worker(threads: int | None, lineup: Lineup, source: ClipSource) -> PortionWorker:
    """A worker that computes with so many threads, None for the libraries' own choice."""
    return PortionWorker(lineup, source, threads)


def _digest(group: Sequence[Clip]) -> tuple[bytes, ...]:
    """SHA-256 of the frames of each clip, empty for one that was stored as float32."""
    from ...core.logit_store import key_of

    return tuple(key_of(clip.data) if clip.data.dtype == "uint8" else b"" for clip in group)


def _absolute(artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    return tuple(replace(artifact, path=artifact.path.absolute()) for artifact in artifacts)
