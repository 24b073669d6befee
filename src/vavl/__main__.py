"""``python -m vavl`` is the ``vavl`` command."""

from vavl.cli import main

main()
