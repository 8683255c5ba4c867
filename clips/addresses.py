"""Names of what frames come from: a file, a camera of this machine, or an address on the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import OptionError, StreamError, StreamNotFoundError, printable
from ..core.reading import FileKind, is_file

CSI = "csi"  # a Jetson's own cameras: csi://0
PROTOCOLS = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https")
ADDRESS = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]*)://")
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
DEVICE = re.compile(r"/dev/video\d+")
NAMED = re.compile(r"([^=/:?]{1,64})=(.+)")
MOST_SOURCES = 256
FILE = FileKind(
    "a video file",
    StreamError,
    "give a video, a camera's number, or an address",
    max_bytes=1 << 44,
    missing=StreamNotFoundError,
)
LIST = FileKind(
    "a list of sources", StreamError, "write one source a line, if you like as NAME=SOURCE", max_bytes=1 << 20
)


@dataclass(frozen=True, slots=True)
class Source:
    """A place that frames come from, and the name it is shown by, which holds no password.

    `is_pipeline` says that the address is the beginning of a GStreamer pipeline, which is live.
    """

    name: str
    address: str
    is_pipeline: bool = False

    @property
    def is_live(self) -> bool:
        return self.is_pipeline or is_live(self.address)

    @property
    def protocol(self) -> str:
        """The protocol of an address in lower case, "" for other sources."""
        address = None if self.is_pipeline else ADDRESS.match(self.address)
        return address[1].lower() if address else ""

    @property
    def path(self) -> Path:
        """The file of a source that is one."""
        given = self.address
        return Path(given.removeprefix("file://").removeprefix("file:") if given.startswith("file:") else given)

    @property
    def device(self) -> str | None:
        """The device of a camera of this machine, None for other sources."""
        if self.address.isdigit():
            return f"/dev/video{self.address}"
        return self.address if DEVICE.fullmatch(self.address) else None


def is_live(address: str) -> bool:
    """True where a source does not wait: a camera's number or device, or an address other than a file's."""
    return address.isdigit() or bool(DEVICE.fullmatch(address)) or bool(ADDRESS.match(address))


def parse_sources(texts: Iterable[str], pipelines: Iterable[str] = ()) -> tuple[Source, ...]:
    """Sources from SOURCE or NAME=SOURCE, and then pipelines, as they are given; a name that comes again is numbered.

    Raises StreamError for what is no video file, or an address of a protocol that is not read. A camera or an address
    that does not answer shows only when it is opened.
    """
    given = [_name(text) for text in texts] + [Source("pipeline", text, is_pipeline=True) for text in pipelines]
    found, counts = [], Counter[str]()
    for source in given:
        _require(source)
        counts[source.name] += 1
        count = counts[source.name]
        found.append(source if count == 1 else replace(source, name=f"{source.name} ({count})"))
    if not 1 <= len(found) <= MOST_SOURCES:
        raise OptionError(f"{len(found)} sources are given", fix=f"give 1 to {MOST_SOURCES} of them")
    return tuple(found)


def read_source_list(path: Path) -> tuple[str, ...]:
    """The lines of a file of sources, without empty ones and those that begin with #; raises StreamError."""
    lines = (line.strip() for line in LIST.read_text(path).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _name(text: str) -> Source:
    named = None if is_file(Path(text)) else NAMED.fullmatch(text)
    name, address = named.groups() if named else (CREDENTIALS.sub("", text), text)
    return Source(printable(name), address)


def _require(source: Source) -> None:
    if source.protocol:
        if source.protocol not in (*PROTOCOLS, CSI):
            known = ", ".join(f"{name}://" for name in (*PROTOCOLS, CSI))
            raise StreamError(
                f"{source.name}: {source.protocol}:// is not read", fix=f"give a file, a camera, or {known}"
            )
    elif not source.is_live:
        FILE.require(source.path)
