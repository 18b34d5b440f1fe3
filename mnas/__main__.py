"""`python -m mnas` is the `mnas` command."""

from mnas.cli import main

main()
