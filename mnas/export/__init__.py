"""The winner as files that stand alone: PyTorch source with its weights, ONNX, preprocessing, model card."""
