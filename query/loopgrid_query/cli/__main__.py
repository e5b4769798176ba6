"""``python -m loopgrid_query.cli``: the same as ``loopgrid``."""

from loopgrid_query.cli import main

main()
