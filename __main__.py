"""`python -m dualexport` is the command `dualexport`."""

from .cli import main

main()
