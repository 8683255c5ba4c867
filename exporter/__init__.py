"""Checkpoint -> network -> ONNX, and the manifest that says what was made from what."""
