"""One search, step by step, from its configuration to the winners on disk."""
