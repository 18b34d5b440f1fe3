"""`python -m mnas` is the `mnas` command."""

from mnas.cli.app import main

main()
