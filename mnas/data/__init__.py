"""Images in, batches out: sources, splits, augmentation, loading."""
