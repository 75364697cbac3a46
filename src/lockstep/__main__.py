"""`python -m lockstep` is the command `lockstep`."""

from lockstep.app.cli import main

main()
