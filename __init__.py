"""Take a DualFormer video network from a PyTorch checkpoint to an engine on an NVIDIA GPU or a Jetson.

A step is a function that takes options and returns a result, both frozen dataclasses. Long ones take `progress` and
`notify`, two optional callables; an expected error is a DualExportError. Importing this module loads no library: a name
is imported when it is first asked for.
"""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("dualexport")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# Libraries that report on their users unless told otherwise, which they have to be before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's threads sleep while they wait
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # read when OpenCV is: no picture takes gigabytes

MODULES = {
    "core.choices": ("Precision", "Runtime", "TensorRTRelease"),
    "core.errors": ("DualExportError",),
    "core.types": ("Artifact",),
    "pipeline.bench": ("BenchOptions", "Benched", "bench"),
    "pipeline.build": ("BuildOptions", "Built", "build"),
    "pipeline.bundle": ("BundleOptions", "Bundled", "bundle"),
    "pipeline.classify": ("ClassProbability", "Prediction", "classify"),
    "pipeline.clips": ("Clips",),
    "pipeline.deepstream": ("DeepStreamApplication", "DeepStreamOptions", "deepstream"),
    "pipeline.distill": ("DistillOptions", "Distilled", "distill"),
    "pipeline.export": ("Exported", "export"),
    "pipeline.export_options": ("ExportOptions",),
    "pipeline.lint": ("lint",),
    "pipeline.load": ("Network", "load", "load_demo"),
    "pipeline.plan": ("PlanOptions", "Planned", "plan"),
    "pipeline.quantize": ("QuantizeOptions", "Quantized", "quantize"),
    "pipeline.runners": ("open_runner",),
    "pipeline.serve": ("ServedRepository", "TritonOptions", "triton"),
    "pipeline.synth": ("synth",),
    "pipeline.tune.options": ("TuneOptions",),
    "pipeline.tune.tune": ("Tuned", "tune"),
    "pipeline.verify.folder": ("Verified", "VerifyOptions", "verify"),
}
_PLACES = {name: module for module, names in MODULES.items() for name in names}

# From here to the functions: written from MODULES by scripts/write-api, for editors and type checkers.
if TYPE_CHECKING:
    from .core.choices import Precision as Precision
    from .core.choices import Runtime as Runtime
    from .core.choices import TensorRTRelease as TensorRTRelease
    from .core.errors import DualExportError as DualExportError
    from .core.types import Artifact as Artifact
    from .pipeline.bench import Benched as Benched
    from .pipeline.bench import BenchOptions as BenchOptions
    from .pipeline.bench import bench as bench
    from .pipeline.build import BuildOptions as BuildOptions
    from .pipeline.build import Built as Built
    from .pipeline.build import build as build
    from .pipeline.bundle import Bundled as Bundled
    from .pipeline.bundle import BundleOptions as BundleOptions
    from .pipeline.bundle import bundle as bundle
    from .pipeline.classify import ClassProbability as ClassProbability
    from .pipeline.classify import Prediction as Prediction
    from .pipeline.classify import classify as classify
    from .pipeline.clips import Clips as Clips
    from .pipeline.deepstream import DeepStreamApplication as DeepStreamApplication
    from .pipeline.deepstream import DeepStreamOptions as DeepStreamOptions
    from .pipeline.deepstream import deepstream as deepstream
    from .pipeline.distill import Distilled as Distilled
    from .pipeline.distill import DistillOptions as DistillOptions
    from .pipeline.distill import distill as distill
    from .pipeline.export import Exported as Exported
    from .pipeline.export import export as export
    from .pipeline.export_options import ExportOptions as ExportOptions
    from .pipeline.lint import lint as lint
    from .pipeline.load import Network as Network
    from .pipeline.load import load as load
    from .pipeline.load import load_demo as load_demo
    from .pipeline.plan import Planned as Planned
    from .pipeline.plan import PlanOptions as PlanOptions
    from .pipeline.plan import plan as plan
    from .pipeline.quantize import Quantized as Quantized
    from .pipeline.quantize import QuantizeOptions as QuantizeOptions
    from .pipeline.quantize import quantize as quantize
    from .pipeline.runners import open_runner as open_runner
    from .pipeline.serve import ServedRepository as ServedRepository
    from .pipeline.serve import TritonOptions as TritonOptions
    from .pipeline.serve import triton as triton
    from .pipeline.synth import synth as synth
    from .pipeline.tune.options import TuneOptions as TuneOptions
    from .pipeline.tune.tune import Tuned as Tuned
    from .pipeline.tune.tune import tune as tune
    from .pipeline.verify.folder import Verified as Verified
    from .pipeline.verify.folder import VerifyOptions as VerifyOptions
    from .pipeline.verify.folder import verify as verify

__all__ = [
    "Artifact",
    "BenchOptions",
    "Benched",
    "BuildOptions",
    "Built",
    "BundleOptions",
    "Bundled",
    "ClassProbability",
    "Clips",
    "DeepStreamApplication",
    "DeepStreamOptions",
    "DistillOptions",
    "Distilled",
    "DualExportError",
    "ExportOptions",
    "Exported",
    "Network",
    "PlanOptions",
    "Planned",
    "Precision",
    "Prediction",
    "QuantizeOptions",
    "Quantized",
    "Runtime",
    "ServedRepository",
    "TensorRTRelease",
    "TritonOptions",
    "TuneOptions",
    "Tuned",
    "Verified",
    "VerifyOptions",
    "__version__",
    "bench",
    "build",
    "bundle",
    "classify",
    "deepstream",
    "distill",
    "export",
    "lint",
    "load",
    "load_demo",
    "open_runner",
    "plan",
    "quantize",
    "synth",
    "triton",
    "tune",
    "verify",
]
# End of what is written.


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
