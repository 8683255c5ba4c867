"""Builds, loads and runs TensorRT engines."""
