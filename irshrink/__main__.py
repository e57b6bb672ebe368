"""``python -m irshrink``: the same as the ``irshrink`` script."""

from irshrink.cli import main

main()
