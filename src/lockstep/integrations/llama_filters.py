"""LlamaIndex's metadata filters as filters of Lockstep's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from lockstep.errors import MissingExtra, QueryError, UnknownName

try:
    from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
except ImportError as exc:
    raise MissingExtra("The adapter for LlamaIndex", "llamaindex") from exc

Condition = dict[str, Any]

NOT_A_LIST: Condition = {"$not": {"$type": "array"}}
"""In MongoDB's filters a list matches by each of its items; in LlamaIndex's only CONTAINS, ANY and ALL look into it."""


class FilterTranslator:
    """Translates filters to what they mean for LlamaIndex's own vector store.

    Where that raises TypeError, as for a text that is compared with a number, nothing matches.
    """

    def __init__(self, path_of: Callable[[str], str], *, lists: bool = True) -> None:
        """Prepare.

        Args:
            path_of: where in a document a key of the metadata is.
            lists: whether a value may be a list; False for columns of a table, which hold them as JSON at most.
        """
        self._path_of = path_of
        self._lists = lists

    def translate(self, filters: MetadataFilters | MetadataFilter) -> Condition:
        """A filter in MongoDB's form; `{}` matches everything.

        Raises:
            QueryError: a value does not go with its operator.
            UnknownName: there is no such operator or condition here.
        """
        if isinstance(filters, MetadataFilter):
            return self._one(filters)
        parts = [part for part in map(self.translate, filters.filters) if part]
        if not parts:
            return {}
        match filters.condition or FilterCondition.AND:
            case FilterCondition.AND:
                return {"$and": parts}
            case FilterCondition.OR:
                return {"$or": parts}
            case FilterCondition.NOT:
                return {"$nor": parts}
            case other:
                raise UnknownName("filter condition", str(other), [each.value for each in FilterCondition])

    def _one(self, given: MetadataFilter) -> Condition:
        path, value = self._path_of(checked_key(given.key)), given.value
        match given.operator:
            case FilterOperator.EQ:
                return self._single(path, {"$eq": value})
            case FilterOperator.NE:
                return {"$nor": [self._single(path, {"$eq": value})]}
            case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
                return self._single(path, {COMPARISONS[given.operator]: value})
            case FilterOperator.IN:
                return self._single(path, {"$in": listed(given)})
            case FilterOperator.NIN:
                return {"$nor": [self._single(path, {"$in": listed(given)})]}
            case FilterOperator.CONTAINS:
                return self._contains(path, value)
            case FilterOperator.ANY:
                found = [self._contains(path, each) for each in listed(given)]
                return {"$or": found} if found else nothing(path)
            case FilterOperator.ALL:
                return {"$and": [self._there(path), *(self._contains(path, each) for each in listed(given))]}
            case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
                return self._single(path, has_text(given))
            case FilterOperator.IS_EMPTY:
                return {"$or": [self._single(path, {"$in": [None, ""]}), *([{path: []}] if self._lists else [])]}
            case other:
                raise UnknownName("filter operator", str(other), [each.value for each in FilterOperator])

    def _single(self, path: str, condition: Condition) -> Condition:
        """The condition on a value that is no list."""
        return {"$and": [{path: condition}, {path: NOT_A_LIST}]} if self._lists else {path: condition}

    def _there(self, path: str) -> Condition:
        return {"$nor": [self._single(path, {"$eq": None})]}

    def _contains(self, path: str, value: Any) -> Condition:
        """A list has the value, or a text has it as a part."""
        ways: list[Condition] = [{path: {"$elemMatch": {"$eq": value}}}]
        if isinstance(value, str):
            ways.append(self._single(path, {"$regex": re.escape(value)}))
        return {"$or": ways}


COMPARISONS = {
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
}


def checked_key(key: str) -> str:
    """The key of a filter.

    Raises:
        QueryError: it cannot be a path.
    """
    if not key or key.startswith("$"):
        raise QueryError(f'A filter is on the key "{key}".', "A key is a name, or a path such as address.city.")
    return key


def listed(given: MetadataFilter) -> Sequence[Any]:
    """The values of an operator that takes several.

    Raises:
        QueryError: it has no list.
    """
    if not isinstance(given.value, list):
        raise QueryError(
            f'The filter on "{given.key}" has the operator {given.operator.value} and the value {given.value!r}.',
            "Give a list.",
        )
    return given.value


def has_text(given: MetadataFilter) -> Condition:
    """That a text has another as a part.

    Raises:
        QueryError: the value is no text.
    """
    if not isinstance(given.value, str):
        raise QueryError(
            f'The filter on "{given.key}" has the operator {given.operator.value} and the value {given.value!r}.',
            "Give a text.",
        )
    insensitive = given.operator == FilterOperator.TEXT_MATCH_INSENSITIVE
    return {"$regex": re.escape(given.value), **({"$options": "i"} if insensitive else {})}


def nothing(path: str) -> Condition:
    """What no document meets."""
    return {"$and": [{path: {"$exists": True}}, {path: {"$exists": False}}]}
