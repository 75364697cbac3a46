"""What a change of settings demands: every setting is in the table, and every kind of change is in these tests."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from lockstep.recipe import DEMANDS, Demand, Task, changed_settings, demand_of, recipe_identity

BASE: dict[str, Any] = {"source": "products", "fields": ["text"], "model": "fake:hash", "where": {"n": 1}}
# Another value for each setting, with what else must change for it to be allowed.
OTHER: dict[str, dict[str, Any]] = {
    "source": {"source": "articles"},
    "fields": {"fields": ["title", "text"]},
    "files": {"files": ["manual"]},
    "template": {"fields": [], "template": "{{ text }}"},
    "script": {"fields": [], "script": "embeddings.generate({a: this.a})"},
    "function": {"fields": [], "function": "a.b:c"},
    "vectors": {"fields": [], "vectors": "v", "dimensions": 8},
    "dimensions": {"fields": [], "vectors": "v", "dimensions": 8},
    "where": {"where": {"price": 1}},
    "model": {"model": "fake:hash?dimensions=7"},
    "chunking": {"chunking": {"overlap_tokens": 3}},
    "field_chunking": {"field_chunking": {"text": {"method": "lines"}}},
    "quantization": {"quantization": "int8"},
    "query_chunking": {"query_chunking": {"max_tokens": 9}},
    "metric": {"metric": "dot"},
    "index": {"index": "hnsw"},
    "cache_days": {"cache_days": 3},
    "query_cache_days": {"query_cache_days": 3},
    "batch_documents": {"batch_documents": 3},
    "concurrency": {"concurrency": 3},
    "max_cost_per_day": {"max_cost_per_day": 3},
    "enabled": {"enabled": False},
}


def make(**settings: Any) -> Task:
    return Task.create("shop", **(BASE | settings))


def test_every_setting_is_in_the_table() -> None:
    """A setting that is added says what a change of it demands, or this fails."""
    names = {field.name for field in fields(Task)} - {"name"}
    assert names == DEMANDS.keys() == OTHER.keys()


@pytest.mark.parametrize("setting", OTHER)
def test_a_change_demands_what_the_table_says_in_both_directions(setting: str) -> None:
    """Alone, and as part of the recipe's identity."""
    before, after = make(), make(**OTHER[setting])
    assert setting in changed_settings(before, after)
    same_model = setting != "model"
    assert demand_of(before, after, same_model=same_model) == DEMANDS[setting]
    assert demand_of(after, before, same_model=same_model) == DEMANDS[setting]
    identities = {recipe_identity(task, task.model if not same_model else "m", 254) for task in (before, after)}
    assert len(identities) == (1 if DEMANDS[setting] == "nothing" else 2)


@pytest.mark.parametrize(
    ("settings", "same_model", "demand"),
    [
        ({}, True, "nothing"),
        ({"metric": "dot", "cache_days": 1}, True, "nothing"),
        ({"metric": "dot", "quantization": "binary"}, True, "requantise"),
        ({"quantization": "binary", "where": {"a": 1}}, True, "rebuild"),
        # The same model by another name: an endpoint, a connection, an alias.
        ({"model": "eu:hash"}, True, "nothing"),
        ({"model": "eu:hash", "quantization": "float16"}, True, "requantise"),
        # Another model by the same name: its files were changed.
        ({}, False, "rebuild"),
        ({"quantization": "binary"}, False, "rebuild"),
        # Equal in Python, and not in a filter.
        ({"where": {"n": True}}, True, "rebuild"),
    ],
)
def test_several_changes_demand_the_most_of_them(settings: dict[str, Any], same_model: bool, demand: Demand) -> None:
    """And what a model is called does not matter."""
    assert demand_of(make(), make(**settings), same_model=same_model) == demand


@pytest.mark.parametrize("setting", OTHER)
def test_settings_survive_the_way_through_the_database(setting: str) -> None:
    """As JSON and back."""
    task = make(**OTHER[setting])
    assert Task.from_json(task.to_json()) == task
