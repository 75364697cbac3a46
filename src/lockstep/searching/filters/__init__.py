"""Filters in MongoDB's form, compiled to SQL with bound parameters.

    {"price": {"$lt": 90}, "$or": [{"colour": "red"}, {"items.name": {"$regex": "^rain", "$options": "i"}}]}

`docs/filters.md` has the rules. A field of a collection is a path into the document; of a table, a column, or a path
into a column that holds JSON.
"""

from __future__ import annotations

from lockstep.searching.filters.compiler import Compiler, Where, compile_filter
from lockstep.searching.filters.indexes import IndexAdvice, advise, index_statement
from lockstep.searching.filters.keys import Keys

__all__ = ["Compiler", "IndexAdvice", "Keys", "Where", "advise", "compile_filter", "index_statement"]
