"""Post-training quantisation to int8, by the tools of each runtime's maker."""
