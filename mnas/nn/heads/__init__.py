"""Heads that make a backbone a network for segmentation or detection."""
