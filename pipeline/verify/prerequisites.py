"""Prerequisites of a verification: what is missing is said before the first clip is decoded."""

from __future__ import annotations

import importlib.util

from ...clips.gstreamer import SOFTWARE, require_elements
from ...core.choices import Decoder, Reference
from ...core.errors import MissingDependencyError
from ...core.extras import needing_extra, require_libraries
from ...core.manifest import check_artifact
from . import inputs
from .job import VerifyJob


def require_tools(*, plan: bool, layers: bool, bisect: bool) -> None:
    """Raise MissingDependencyError for a library that what is asked for needs."""
    if plan:
        from ...runtimes.tensorrt.library import library_version  # noqa: F401  # says so itself
    if layers:
        require_libraries("verify --layers", "torch", "onnxruntime")
    if bisect:
        require_libraries("verify --bisect", "onnxruntime")


def require_decoder(decoder: Decoder) -> None:
    """Raise MissingDependencyError where a decoder, or an element that it needs for files, is not installed."""
    if decoder is Decoder.GSTREAMER:
        require_elements("--decoder gstreamer", SOFTWARE)


def require_reference(job: VerifyJob, *, with_network: bool) -> None:
    """Raise for a reference that is not there; `with_network`, the PyTorch network is needed besides it."""
    if job.reference is Reference.TORCH or with_network:
        _require_network(job)
    if job.reference is Reference.ONNX:
        require_libraries("verify --reference onnx", "onnxruntime")
        check_artifact(inputs.require_fp32(job.manifest))
    elif job.reference is Reference.WHOLE:
        inputs.find_whole_clip(job.manifest).find_frames(job.manifest.preprocessing)
        _require_network(job)
    elif job.reference is not Reference.TORCH:
        with inputs.open_reference(job.manifest, job.checkpoint, job.reference):
            pass


def require_ray() -> None:
    """Raise MissingDependencyError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "`dualexport verify --ray` needs ray, which is not installed", fix='pip install "dualexport[ray]"'
        )


def _require_network(job: VerifyJob) -> None:
    """Load PyTorch, and look for the checkpoint; the network itself is not built."""
    try:
        with needing_extra("verify"):
            from ...exporter.loading import find_checkpoint
    except MissingDependencyError as error:
        raise inputs.suggest_references(error) from error
    find_checkpoint(job.manifest, job.checkpoint)
