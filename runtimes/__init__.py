"""Run the network (PyTorch, ONNX Runtime), compare what the runners compute, and classify clips."""
