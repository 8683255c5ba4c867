"""Windows of sources that go on, gathered into batches: files, cameras and network streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from ..core.reporter import Notify
from ..core.types import Preprocessing
from .addresses import Source
from .camera import RETRY_SECONDS, Camera, StreamOptions, Window

EXPECTED_SECONDS = 0.5  # a camera that delivered nothing for so long is not waited for
LEAVING_SECONDS = 2.0  # a decoder in the middle of a read that gets nothing is left to itself


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a camera: no window comes from it any more."""

    camera: str


class LiveWindows:
    """Batches of at most `most` windows, one a camera, and ends of cameras: a context manager to iterate over.

    A batch goes when it is full, when every camera that delivers is in it, or when its first window has waited for
    `max_delay_seconds`. A camera that breaks off for good is noted, and the others go on; when all have ended the
    first such StreamError is raised.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        preprocessing: Preprocessing,
        options: StreamOptions,
        note: Notify,
        most: int = 1,
    ) -> None:
        self._changed = threading.Condition()
        self._options = options
        self._most = most
        self.cameras = tuple(Camera(source, preprocessing, options, self._changed, note) for source in sources)
        for camera in self.cameras:
            camera.is_alone = len(self.cameras) == 1
        self._going = list(self.cameras)  # those whose end is not told yet

    def __enter__(self) -> LiveWindows:
        for camera in self.cameras:
            camera.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for camera in self.cameras:
            camera.stop()
        deadline = time.monotonic() + min(self._options.timeout_seconds, LEAVING_SECONDS) + RETRY_SECONDS
        for camera in self.cameras:
            camera.join(deadline - time.monotonic())

    def __iter__(self) -> Iterator[tuple[Window, ...] | Ended]:
        while self._going:
            with self._changed:
                self._changed.wait_for(lambda: self._ready() or self._over())
                over = self._over()
                batch = () if over else self._gather()
            for camera in over:
                self._going.remove(camera)
                yield Ended(camera.source.name)
            if batch:
                yield batch
        errors = [camera.error for camera in self.cameras if camera.error is not None]
        if errors:
            raise errors[0]

    def _gather(self) -> tuple[Window, ...]:
        """The next batch, behind the first window of it; called while `changed` is held."""
        while (ready := self._ready()) and len(ready) < self._expected():
            left = ready[0].ready_since + self._options.max_delay_seconds - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
        return tuple(camera.take() for camera in self._ready()[: self._most])

    def _ready(self) -> list[Camera]:
        """The cameras that have a window, first the one that waits longest."""
        return sorted((camera for camera in self.cameras if camera.is_ready), key=lambda camera: camera.ready_since)

    def _over(self) -> list[Camera]:
        """The cameras from which nothing more comes, and of which that is not told yet."""
        return [camera for camera in self._going if camera.is_over]

    def _expected(self) -> int:
        return min(self._most, sum(camera.is_expected(EXPECTED_SECONDS) for camera in self.cameras))
