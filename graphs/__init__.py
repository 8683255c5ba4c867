"""ONNX files, read and rewritten without torch or a runtime."""
