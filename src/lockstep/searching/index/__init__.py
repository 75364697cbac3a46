"""Where might the nearest vectors be?  Derived files that find candidates: sign bits of all, a graph on request."""

from __future__ import annotations

from lockstep.searching.index.files import index_folder
from lockstep.searching.index.parts import Ids, Written
from lockstep.searching.index.vector_index import IndexUse, VectorIndex, bits_path, graph_path

__all__ = ["Ids", "IndexUse", "VectorIndex", "Written", "bits_path", "graph_path", "index_folder"]
