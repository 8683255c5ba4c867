"""GStreamer pipelines from a source to frames of a clip's size, made of the elements that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from ..core.choices import Decoder
from ..core.errors import MissingDependencyError, StreamError
from .addresses import CSI, Source
from .pacing import Pace

LAUNCH, INSPECT = "gst-launch-1.0", "gst-inspect-1.0"
PACKAGES = ("tools", "plugins-base", "plugins-good", "plugins-bad", "libav")
APT = f"apt install {' '.join(f'gstreamer1.0-{name}' for name in PACKAGES)}"
JETSON = frozenset(("nvv4l2decoder", "nvvidconv"))
DESKTOP = frozenset(("nvh264dec", "nvh265dec", "cudaconvertscale", "cudadownload"))
SOFTWARE = frozenset(
    (
        *("aspectratiocrop", "avdec_h264", "avdec_h265", "capssetter", "h264parse", "h265parse", "rtspsrc", "v4l2src"),
        *("videoconvert", "videoflip", "videorate", "videoscale"),
    )
)
RTSP = ("rtsp", "rtsps")
DEMUXERS = {"mov": "qtdemux", "matroska": "matroskademux", "mpegts": "tsdemux", "avi": "avidemux", "flv": "flvdemux"}
PARSERS = {"h264": "h264parse", "hevc": "h265parse"}
DEPAYLOADERS = {"h264": "rtph264depay", "hevc": "rtph265depay"}
DESKTOP_DECODERS = {"h264": "nvh264dec", "hevc": "nvh265dec"}
SOFTWARE_DECODERS = {"h264": "avdec_h264", "hevc": "avdec_h265"}
SQUARE_PIXELS = (
    "capssetter caps=video/x-raw,pixel-aspect-ratio=1/1"  # as published: pixels count, not how they are shown
)
JITTER_MS = 200  # that RTSP packets may come late
CSI_SIZE, CSI_RATE = (1920, 1080), Fraction(30)


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a video that its pipeline depends on: FFmpeg's names of container and codec, and frames a second.

    `rate` is None where it is not known before frames come. `colorspace` and `color_range` are FFmpeg's numbers, 0 for
    its defaults.
    """

    container: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    rate: Fraction | None = None
    colorspace: int = 0
    color_range: int = 0


@cache
def list_elements() -> frozenset[str]:
    """The names of the elements that are installed; none where GStreamer is not."""
    if shutil.which(INSPECT) is None or shutil.which(LAUNCH) is None:
        return frozenset()
    try:
        listed = subprocess.run([INSPECT], capture_output=True, text=True, timeout=60, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return frozenset()
    return frozenset(parts[1].strip() for line in listed.splitlines() if len(parts := line.split(":", 2)) == 3)


def require_gstreamer() -> frozenset[str]:
    """The elements that are installed; raises MissingDependencyError where GStreamer is not."""
    elements = list_elements()
    if not elements:
        raise MissingDependencyError(f"--decoder gstreamer needs {LAUNCH}, which is not installed", fix=APT)
    return elements


def is_chosen(source: Source, decoder: Decoder) -> bool:
    """True where GStreamer decodes a source: as asked, and by itself where hardware is there for a network camera."""
    if source.is_pipeline or source.protocol == CSI:
        return True
    if decoder is not Decoder.AUTO:
        return decoder is Decoder.GSTREAMER
    elements = list_elements() if source.protocol in RTSP else frozenset[str]()
    return elements >= JETSON or elements >= DESKTOP


def require_readable(source: Source) -> None:
    """Raise StreamError for a source that no pipeline is built for, or whose elements are not installed."""
    require_gstreamer()
    if source.protocol not in ("", *RTSP, CSI):
        raise StreamError(
            f"{source.name}: no GStreamer pipeline is built for {source.protocol}://",
            fix="take --decoder ffmpeg, or write the pipeline with --pipeline",
        )
    if source.protocol == CSI:
        require_elements(source.name, JETSON | {"nvarguscamerasrc"}, "they come with JetPack")
    else:
        require_elements(source.name, SOFTWARE)


def require_elements(what: str, needed: frozenset[str], fix: str = APT) -> None:
    """Raise MissingDependencyError for elements that `what` needs, and that are not installed."""
    if missing := needed - require_gstreamer():
        raise MissingDependencyError(f"{what}: GStreamer lacks {', '.join(sorted(missing))}", fix=fix)


def build_pipeline(
    source: Source, facts: VideoFacts, pace: Pace, size: int, elements: frozenset[str]
) -> tuple[str, ...]:
    """The pipeline's elements in order, without its sink: I420 frames of `size` x `size` at the given pace.

    Decoding and scaling are done by hardware where there is some for the codec; frames are dropped before they are
    scaled. The crop comes before the scaling on a CPU, and after it in hardware, which then needs no borders. Colours
    stay in the source's own YUV, and are BT.601 where that is not known.
    """
    yuv = "video/x-raw,format=I420" if facts.codec else "video/x-raw,format=I420,colorimetry=bt601"
    sized = ("videoconvert", f"{yuv},width={size},height={size}", "videoflip video-direction=auto")
    square = (SQUARE_PIXELS,) if facts.codec else ()  # a camera's own are square
    crop = (*square, "videoconvert", "aspectratiocrop aspect-ratio=1/1")
    rated = _limit_rate(facts, pace)
    scaled = _scaled_size(facts, size)
    source_parts = _open(source, facts)
    if source.protocol == CSI or (elements >= JETSON and facts.codec in PARSERS):
        decoder = () if source.protocol == CSI else ("nvv4l2decoder",)
        scale = ("nvvidconv", f"video/x-raw,format=I420,{scaled}", *crop)
        return (*source_parts, *decoder, *rated, *scale, *sized)
    if elements >= DESKTOP and facts.codec in DESKTOP_DECODERS:
        scale = (
            "cudaconvertscale",
            f"video/x-raw(memory:CUDAMemory),format=I420,{scaled}",
            "cudadownload",
            *crop,
        )
        return (*source_parts, DESKTOP_DECODERS[facts.codec], *rated, *scale, *sized)
    decoder = () if source.is_pipeline else (SOFTWARE_DECODERS.get(facts.codec, "decodebin"),)
    return (*source_parts, *decoder, *rated, *crop, "videoscale add-borders=false", *sized)


def quote(value: str) -> str:
    """A property's value as pipelines have it, whatever characters it holds."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _open(source: Source, facts: VideoFacts) -> Sequence[str]:
    """The elements up to the encoded video, or up to a camera's own frames."""
    if source.is_pipeline:
        return (_without_sink(source.address),)
    if source.device is not None:
        return (f"v4l2src device={source.device}",)
    parser = (PARSERS[facts.codec],) if facts.codec in PARSERS else ()
    if source.protocol == CSI:
        width, height = CSI_SIZE
        number = source.address.partition("://")[2] or "0"
        caps = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={CSI_RATE}/1"
        return (f"nvarguscamerasrc sensor-id={int(number)}", caps)
    if source.protocol:
        opened = f"rtspsrc location={quote(source.address)} protocols=tcp latency={JITTER_MS}"
        return (opened, *((DEPAYLOADERS[facts.codec],) if facts.codec in DEPAYLOADERS else ()), *parser)
    demuxer = next((name for start, name in DEMUXERS.items() if facts.container.startswith(start)), None)
    if demuxer is None:
        raise ValueError(f"no GStreamer pipeline is built for {facts.container}; take --decoder ffmpeg, or --pipeline")
    return (f"filesrc location={quote(str(source.path))}", demuxer, "queue", *parser)


def _without_sink(pipeline: str) -> str:
    """A user's pipeline without the appsink that it may end with."""
    start, separator, last = pipeline.rpartition("!")
    return start.strip() if separator and last.split()[:1] == ["appsink"] else pipeline


def _limit_rate(facts: VideoFacts, pace: Pace) -> Sequence[str]:
    """Elements that leave only the kept frames, and at a pace of its own repeat them where the source is slower."""
    rate = Fraction(pace.fps).limit_denominator(1001) if pace.fps else facts.rate
    if rate is None or (pace.step == 1 and not pace.fps):
        return ()
    rate /= pace.step
    drop_only = "false" if pace.fps else "true"
    return (f"videorate drop-only={drop_only}", f"video/x-raw(ANY),framerate={rate.numerator}/{rate.denominator}")


def _scaled_size(facts: VideoFacts, size: int) -> str:
    """The whole frame with its short side at `size`."""
    scale = size / max(1, min(facts.width, facts.height))
    return f"width={int(facts.width * scale + 0.5)},height={int(facts.height * scale + 0.5)}"
