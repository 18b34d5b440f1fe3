"""One self-contained HTML page a run: `mnas report RUN`."""
