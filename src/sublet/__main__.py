"""`python -m sublet`, the same as the `sublet` command."""

from sublet.cli import main

main()
