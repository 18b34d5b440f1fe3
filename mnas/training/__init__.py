"""Training a network: recipe, loop."""
