"""Images with masks or boxes: data for segmentation and detection."""
