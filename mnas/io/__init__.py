"""Files: strict YAML, JSON Lines, presets, names and paths."""
