"""Take a DualFormer video network from a PyTorch checkpoint to an engine on an NVIDIA GPU or a Jetson."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dualexport")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
