"""Which index suits a task?  What a graph would take, what searches take and find now, and what follows from it.

What is measured is in `measuring.py`, against the exact answers of `exact.py`; what filters demand in `filters.py`, what a
graph takes in `cost.py`. `verdict.py` draws the conclusion (pure).
"""

from __future__ import annotations

from lockstep.advising.cost import GraphCost, check_disk, graph_cost
from lockstep.advising.findings import Advice, FilterFinding, Measured

__all__ = ["Advice", "FilterFinding", "GraphCost", "Measured", "check_disk", "graph_cost"]
