"""``python -m core.cli``: the command without its console script."""

from core.cli.app import main

main()
