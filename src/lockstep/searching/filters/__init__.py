"""Filters in MongoDB's form, compiled to SQL with bound parameters.

    {"price": {"$lt": 90}, "$or": [{"colour": "red"}, {"items.name": {"$regex": "^rain", "$options": "i"}}]}

`docs/filters.md` has the rules. A field of a collection is a path into the document; of a table, a column, or a path
into a column that holds JSON.
"""

from __future__ import annotations

from lockstep.searching.filters.compiler import Compiler, Where, compile_filter

__all__ = ["Compiler", "Where", "compile_filter"]
