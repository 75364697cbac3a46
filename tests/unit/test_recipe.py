"""Task names and settings: what is allowed, and what makes another recipe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import ConfigError, UnknownName
from lockstep.recipe import Task, check_name, recipe_identity, slug
from lockstep.types import IndexSettings


def make(**settings: object) -> Task:
    return Task.create("shop", **({"source": "products", "fields": ["text"]} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "shop-search", "0", "a-b-c-1", "x" * 64])
def test_slugs_are_allowed(name: str) -> None:
    """a-z, 0-9 and single dashes."""
    check_name(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Shop Search", 'not allowed: " ", "S"'),
        ("shöp", 'not allowed: "ö"'),
        ("shop_search", 'for example "shop-search"'),
        ("", "is empty"),
        ("-a", "starts or ends with a dash"),
        ("a-", "starts or ends with a dash"),
        ("a--b", "two dashes"),
        ("a" * 65, "longer than 64"),
        ("a\n", 'not allowed: "\n"'),
        ("٣", "not allowed"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, problem: str) -> None:
    """The message names the characters that are wrong, and a name that would do."""
    with pytest.raises(ConfigError) as caught:
        check_name(name)
    assert problem in str(caught.value)


@given(st.text(max_size=100))
def test_a_slug_made_from_any_name_is_allowed(name: str) -> None:
    """What we suggest, we accept."""
    made = slug(name)
    if made:
        check_name(made)


@pytest.mark.parametrize(
    "settings",
    [
        {"fields": []},
        {"fields": ["a", "a"]},
        {"fields": ["a..b"]},
        {"cache_days": -1},
        {"concurrency": 0},
        {"batch_documents": 0},
        {"batch_documents": 1.5},
        {"chunking": {"max_tokens": 0}},
        {"chunking": {"max_tokens": 10, "overlap_tokens": 10}},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    """Everything has a limit."""
    with pytest.raises(ConfigError):
        make(**settings)


def test_an_unknown_setting_names_the_nearest() -> None:
    """A typo is an error, never ignored."""
    with pytest.raises(UnknownName, match='Did you mean "cache_days"'):
        make(cache_day=3)


def test_a_task_survives_being_stored() -> None:
    """What is read back is what was said."""
    task = make(chunking={"max_tokens": 64, "overlap_tokens": 8}, cache_days=3)
    assert Task.from_json(task.to_json()) == task


def test_only_what_changes_vectors_makes_another_recipe() -> None:
    """Name, cache and batches are no part of it; fields, model, source and chunking are."""
    same = recipe_identity(make(), "m", 254)
    assert recipe_identity(make(cache_days=1, concurrency=2, batch_documents=5), "m", 254) == same
    others = [
        recipe_identity(make(fields=["text", "name"]), "m", 254),
        recipe_identity(make(source="others"), "m", 254),
        recipe_identity(make(), "another", 254),
        recipe_identity(make(), "m", 100),
        recipe_identity(make(chunking={"overlap_tokens": 5}), "m", 254),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_task_can_be_read_when_the_defaults_of_graphs_have_changed() -> None:
    """What is stored of graphs beside the index "bits" was the default when it was written."""
    stored = json.loads(Task.create("task", source="t", fields=["a"]).to_json())
    stored["index"] = {"kind": "bits", "m": 7, "ef_construction": 9, "ef_search": 11}
    assert Task.from_json(json.dumps(stored)).index == IndexSettings()
    stored["index"]["kind"] = "hnsw"
    assert Task.from_json(json.dumps(stored)).index.ef_search == 11
