"""What differs between two decisions, or a decision, its replay and the human correction. Pure.

``places``: where the three outputs differ. ``structure`` and ``content``: what leads from left to right.
``equality``: when outputs count as equal. ``verdict``: what it comes to. ``parts``: all of it, put together.
"""

from loopgrid.judgement import Judgement
from loopgrid_query.compare.equality import ABSENT, EXACT, Equality, same
from loopgrid_query.compare.parts import parts
from loopgrid_query.compare.places import SIDES, changes, differences
from loopgrid_query.compare.verdict import MAX_COMPARED_CHARS, Large, Side, Verdict, judge, why_nothing

__all__ = [
    "ABSENT",
    "EXACT",
    "MAX_COMPARED_CHARS",
    "SIDES",
    "Equality",
    "Judgement",
    "Large",
    "Side",
    "Verdict",
    "changes",
    "differences",
    "judge",
    "parts",
    "same",
    "why_nothing",
]
