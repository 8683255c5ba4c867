"""Take a DualFormer video network from a PyTorch checkpoint to an engine on an NVIDIA GPU or a Jetson."""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dualexport")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# Libraries that report on their users unless told otherwise, which they have to be before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # read when OpenCV is: no picture takes gigabytes
