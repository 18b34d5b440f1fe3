"""What networks for segmentation and detection are judged by."""
