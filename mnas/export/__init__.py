"""A trained network as files: PyTorch source and weights, ONNX, preprocessing, metrics, model card."""
