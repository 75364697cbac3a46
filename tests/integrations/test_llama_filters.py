"""LlamaIndex's filters, compared with what LlamaIndex's own store finds, for random filters on random metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from lockstep.errors import QueryError, UnknownName
from lockstep.integrations.llama_filters import FilterTranslator
from lockstep.integrations.llama_index import LockstepVectorStore

METADATA: dict[str, dict[str, Any]] = {
    "plain": {"text": "Rain", "number": 1, "list": ["a", "b"], "numbers": [1, 2], "nested": {"deep": "x"}},
    "other": {"text": "rain check", "number": 2.5, "list": ["b"], "numbers": [3]},
    "empty": {"text": "", "number": 0, "list": [], "numbers": []},
    "null": {"text": None, "number": None, "list": None, "numbers": None},
    "missing": {},
    "signs": {"text": "100% of (a|b).*", "number": -1, "list": ["%", "_"], "numbers": [2, 2]},
}
OPERATORS: dict[str, tuple[FilterOperator, ...]] = {
    "text": (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE),
    "list": (FilterOperator.CONTAINS,),
    "any": (FilterOperator.ANY, FilterOperator.ALL),
    "in": (FilterOperator.IN, FilterOperator.NIN),
    "order": (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE),
    "equal": (FilterOperator.EQ, FilterOperator.NE),
}
TEXTS = st.sampled_from(["Rain", "rain", "a", "b", "", "%", "(a|b)", ".*", "check", "x"])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 2.5, 1.0])


def one(key: str, kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[MetadataFilter]:
    operator = st.sampled_from(OPERATORS[kind])
    return st.builds(MetadataFilter, key=st.just(key), operator=operator, value=values)


NO_NUMBERS_MIXED = st.one_of(st.lists(TEXTS, max_size=3), st.lists(st.sampled_from([0, 1, 2]), max_size=3))
FILTERS = st.one_of(
    one("text", "text", TEXTS),
    one("text", "list", TEXTS),  # for LlamaIndex a text contains its parts
    one("text", "any", st.lists(TEXTS, max_size=3)),
    one("text", "order", TEXTS),
    one("number", "order", NUMBERS),
    one("list", "list", TEXTS),
    one("numbers", "list", st.sampled_from([1, 2, 3])),
    one("list", "any", st.lists(TEXTS, max_size=3)),
    one("numbers", "any", st.lists(st.sampled_from([1, 2, 3]), max_size=3)),
    *(one(key, "equal", st.one_of(TEXTS, NUMBERS)) for key in ("text", "number", "list", "numbers", "none")),
    *(one(key, "in", NO_NUMBERS_MIXED) for key in ("text", "number", "list", "numbers", "none")),
    *(
        st.just(MetadataFilter(key=key, operator=FilterOperator.IS_EMPTY, value=None))
        for key in ("text", "number", "list", "none")
    ),
)
CONDITIONS = st.sampled_from([FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT, None])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockstepVectorStore]:
    made = LockstepVectorStore(tmp_path_factory.mktemp("filters") / "store.db")
    made.add([TextNode(id_=name, text=name, embedding=[1.0], metadata=metadata) for name, metadata in METADATA.items()])
    yield made
    made.close()


def theirs(filters: MetadataFilters) -> set[str]:
    """What a filter lets through for LlamaIndex, nested ones by its own rules for one level."""
    matches = build_metadata_filter_fn(METADATA.__getitem__, filters)
    return {name for name in METADATA if matches(name)}


def ours(store: LockstepVectorStore, filters: MetadataFilters) -> set[str]:
    return {node.node_id for node in store.get_nodes(filters=filters)}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=st.builds(MetadataFilters, filters=st.lists(FILTERS, max_size=3), condition=CONDITIONS))
def test_a_filter_finds_what_llamaindex_finds(store: LockstepVectorStore, filters: MetadataFilters) -> None:
    """Every operator and condition, with missing values, null, empty and full lists, and signs of patterns."""
    assert ours(store, filters) == theirs(filters)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(
        st.builds(MetadataFilters, filters=st.lists(FILTERS, min_size=1, max_size=2), condition=CONDITIONS),
        min_size=1,
        max_size=3,
    ),
    condition=CONDITIONS,
)
def test_nested_filters(
    store: LockstepVectorStore, groups: list[MetadataFilters], condition: FilterCondition | None
) -> None:
    """Groups of groups, which LlamaIndex's own store refuses: put together by what each finds."""
    found = [theirs(group) for group in groups]
    match condition:
        case FilterCondition.OR:
            expected = set.union(*found)
        case FilterCondition.NOT:
            expected = set(METADATA) - set.union(*found)
        case _:
            expected = set.intersection(*found)
    assert ours(store, MetadataFilters(filters=list(groups), condition=condition)) == expected


def test_every_operator_is_translated() -> None:
    """An operator that a new LlamaIndex brings is noticed here."""
    covered = {operator for operators in OPERATORS.values() for operator in operators} | {FilterOperator.IS_EMPTY}
    assert covered == set(FilterOperator)


def test_null_and_paths(store: LockstepVectorStore) -> None:
    """Null means that there is no value, where LlamaIndex's own store finds nothing; a dot leads into objects."""
    for operator, expected in (
        (FilterOperator.EQ, {"null", "missing"}),
        (FilterOperator.NE, set(METADATA) - {"null", "missing"}),
    ):
        assert (
            ours(store, MetadataFilters(filters=[MetadataFilter(key="text", value=None, operator=operator)]))
            == expected
        )
    assert ours(store, MetadataFilters(filters=[MetadataFilter(key="nested.deep", value="x")])) == {"plain"}


@pytest.mark.parametrize(
    ("key", "value", "operator"),
    [
        ("text", "a", FilterOperator.IN),
        ("text", 3, FilterOperator.NIN),
        ("text", "a", FilterOperator.ANY),
        ("text", None, FilterOperator.ALL),
        ("text", 3, FilterOperator.TEXT_MATCH),
        ("text", None, FilterOperator.TEXT_MATCH_INSENSITIVE),
        ("", "a", FilterOperator.EQ),
        ("$where", "a", FilterOperator.EQ),
    ],
)
def test_what_has_no_meaning_is_refused(
    store: LockstepVectorStore, key: str, value: Any, operator: FilterOperator
) -> None:
    """With the key, the operator and the value."""
    with pytest.raises(QueryError):
        ours(store, MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)]))


def test_an_operator_or_condition_of_the_future_is_refused() -> None:
    """A newer LlamaIndex may have more; none is ignored."""
    translate = FilterTranslator(lambda key: key).translate
    strange = MetadataFilter(key="a", value=1).model_copy(update={"operator": "near"})
    with pytest.raises(UnknownName, match="near"):
        translate(strange)
    group = MetadataFilters(filters=[MetadataFilter(key="a", value=1)]).model_copy(update={"condition": "xor"})
    with pytest.raises(UnknownName, match="xor"):
        translate(group)
