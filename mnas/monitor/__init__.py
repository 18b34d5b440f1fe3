"""What a person sees of a run: console, TensorBoard, the picture of the front."""
