"""`apply`: a database comes to have the settings that are declared, and then there is nothing more to do."""

from __future__ import annotations

import sqlite3
import tempfile
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lockstep
from lockstep.declared import to_toml
from lockstep.errors import ConfigError, PlainHTTP, SourceUnavailable

FAKE = "fake:hash?dimensions=16"
EU = {"kind": "openai", "base_url": "https://eu.example.com/v1", "api_key": "env:EU_KEY"}


def task(**given: Any) -> dict[str, Any]:
    """A task's table."""
    return {"source": "t", "fields": ["name"], "model": FAKE, **given}


def shown(plan: Any) -> list[str]:
    return [str(step) for step in plan.steps]


@pytest.fixture
def filled(db: lockstep.Database, fill: Callable[[int], None]) -> lockstep.Database:
    """A database with a table of five rows."""
    fill(5)
    return db


def test_connections_and_tasks_are_added_and_then_nothing_is_left_to_do(filled: lockstep.Database) -> None:
    """Connections come first: tasks need them."""
    declared = {
        "tasks": {"shop": task(), "other": task(model="eu:text-embedding-3-small")},
        "connections": {"eu": EU},
    }
    plan = filled.plan_apply(declared)
    assert shown(plan) == ["+ connection eu", "+ task shop", "+ task other"]
    assert filled.tasks() == []
    assert shown(filled.apply(declared)) == shown(plan)
    assert [each.name for each in filled.tasks()] == ["other", "shop"]
    again = filled.apply(declared)
    assert (again.steps, again.unchanged) == ((), 3)


def test_settings_that_are_left_out_get_their_defaults(filled: lockstep.Database) -> None:
    """The file says all there is: the plan lists what falls back."""
    filled.apply({"connections": {"eu": EU | {"in_flight": 3}}, "tasks": {"shop": task(cache_days=3, enabled=False)}})
    plan = filled.apply({"connections": {"eu": EU}, "tasks": {"shop": task()}})
    assert shown(plan) == ["~ connection eu: in_flight", "~ task shop: cache_days, enabled"]
    assert filled.connections()[0].in_flight == 32
    assert (filled.task("shop").cache_days, filled.task("shop").enabled) == (90, True)
    assert filled.plan_apply({"connections": {"eu": EU}, "tasks": {"shop": task()}}).steps == ()


def test_what_must_be_built_anew_is_built_beside_what_serves(filled: lockstep.Database) -> None:
    """A plan says so; applying it again while it is built does nothing, and going back gives it up."""
    before, after = {"tasks": {"shop": task()}}, {"tasks": {"shop": task(chunking={"max_tokens": 7})}}
    filled.apply(before)
    filled.sync()
    assert shown(filled.apply(after)) == ["~ task shop: chunking (builds anew beside what serves)"]
    assert filled.search("shop", "name 3", exact=True)
    assert filled.apply(after).steps == ()
    more = {"tasks": {"shop": task(chunking={"max_tokens": 7}, cache_days=3)}}
    assert shown(filled.apply(more)) == ["~ task shop: cache_days"]
    assert shown(filled.apply(before)) == ["~ task shop: chunking, cache_days (gives up what is being built)"]
    assert filled.plan_apply(before).steps == ()
    quantised = {"tasks": {"shop": task(quantization="int8")}}
    assert shown(filled.apply(quantised)) == ["~ task shop: quantization (stores its vectors anew beside what serves)"]


def test_nothing_is_removed_unless_it_is_asked_for(filled: lockstep.Database) -> None:
    """A file of one team does not take away what another added; what is removed goes after its users."""
    everything = {"connections": {"eu": EU}, "tasks": {"old": task(model="eu:text-embedding-3-small"), "shop": task()}}
    filled.apply(everything)
    plan = filled.apply({"tasks": {"shop": task()}})
    assert (plan.steps, plan.left) == ((), ("task old", "connection eu"))
    assert shown(filled.apply({"tasks": {"shop": task()}}, remove=True)) == ["- task old", "- connection eu"]
    assert [each.name for each in filled.tasks()] == ["shop"]
    assert filled.connections() == []


def test_a_connection_that_serves_stays_until_nothing_uses_it(filled: lockstep.Database) -> None:
    """A task that leaves it is served through it until it is built anew."""
    at_eu = task(model="eu:text-embedding-3-small")
    filled.apply({"connections": {"eu": EU}, "tasks": {"shop": at_eu}})
    plan = filled.apply({"tasks": {"shop": task()}}, remove=True)
    assert shown(plan) == ["~ task shop: model (builds anew beside what serves)"]
    assert plan.in_use == {"eu": ("shop",)}
    assert [each.name for each in filled.connections()] == ["eu"]
    again = filled.plan_apply({"tasks": {"shop": at_eu}}, remove=True)
    assert again.in_use == {"eu": ("shop",)}


def test_a_connection_to_another_service_has_its_tasks_built_anew(filled: lockstep.Database) -> None:
    """Their models are others, though their names are the same."""
    tasks = {"shop": task(model="eu:m?dimensions=8"), "here": task()}
    filled.apply({"connections": {"eu": EU}, "tasks": tasks})
    other = {"connections": {"eu": EU | {"kind": "voyage"}}, "tasks": tasks}
    assert shown(filled.apply(other)) == [
        "~ connection eu: kind",
        "~ task shop: model (builds anew beside what serves)",
    ]
    assert filled.plan_apply(other).steps == ()


def test_what_does_not_fit_the_database_is_found_before_anything_is_done(filled: lockstep.Database) -> None:
    """All of it at once, each with its place."""
    filled.collection("docs").upsert([{"id": "1", "text": "x"}])
    filled.apply({"tasks": {"there": task()}})
    declared = {
        "connections": {"eu": EU},
        "tasks": {
            "a": task(source="tt"),
            "b": task(source="docs", fields="txet"),
            "c": task(model="lcoal:minilm"),
            "d": task(where={"price": {"$less": 3}}),
            "e": task(chunking={"max_tokens": 10**9}),
            "there": task(where={"nothere": 3}),
            "f": task(source="nothere", model="eu:text-embedding-3-small"),
            "good": task(),
        },
    }
    with pytest.raises(SourceUnavailable) as caught:
        filled.apply(declared)
    lines = str(caught.value).split("\n")
    assert lines[0] == "The mapping has 7 faults; nothing was changed."
    for place, said in (
        ("a", '"tt"'),
        ("b", 'Did you mean "text"?'),
        ("c", 'Did you mean "local"?'),
        ("d", '"$less"'),
        ("e", "1000000000 tokens are too long"),
        ("there", '"nothere"'),
        ("f", '"nothere"'),
    ):
        assert any(line.startswith(f"  tasks.{place}: ") and said in line for line in lines[1:]), lines
    assert filled.connections() == []
    assert [each.name for each in filled.tasks()] == ["there"]


def test_a_step_that_fails_says_which_were_done(filled: lockstep.Database, writer: sqlite3.Connection) -> None:
    """Each step is done or not; what was done before stays, and applying again goes on from there."""
    declared = {"connections": {"eu": EU}, "tasks": {"shop": task(), "zoo": task(source="u")}}
    writer.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT)")
    plan = filled.plan_apply(declared)
    writer.execute("DROP TABLE u")
    with pytest.raises(SourceUnavailable) as caught:
        filled.apply(plan)
    assert '"+ task zoo" could not be done' in str(caught.value)
    assert 'Done before it: "+ connection eu", "+ task shop".' in str(caught.value)
    writer.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT)")
    assert shown(filled.apply(declared)) == ["+ task zoo"]


def test_a_plan_is_carried_out_as_it_was_shown(filled: lockstep.Database) -> None:
    """What someone else did in the meantime is an error, not overwritten."""
    plan = filled.plan_apply({"tasks": {"shop": task()}})
    filled.add_task("shop", "t", "name", model=FAKE, cache_days=3)
    with pytest.raises(ConfigError, match=r"already.*Nothing was done before it"):
        filled.apply(plan)
    assert filled.task("shop").cache_days == 3


def test_a_connection_without_encryption_is_warned_of(filled: lockstep.Database) -> None:
    """As when it is added by hand."""
    declared = {"connections": {"far": {"kind": "openai", "base_url": "http://far.example.com/v1"}}}
    with pytest.warns(PlainHTTP):
        filled.apply(declared)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled.apply(declared)


def test_a_file_with_faults_changes_nothing(filled: lockstep.Database, tmp_path: Path) -> None:
    """Not even what is right in it."""
    file = tmp_path / "lockstep.toml"
    file.write_text('[connections.eu]\nkind = "openai"\n[tasks.shop]\nsource = "t"\nfields = "name"\ncache_days = -1\n')
    with pytest.raises(ConfigError, match=r"tasks\.shop\.cache_days"):
        filled.apply(file, remove=True)
    assert filled.connections() == []
    assert filled.tasks() == []


chunking = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(("text", "lines", "markdown")),
        "max_tokens": st.integers(4, 40),
        "overlap_tokens": st.integers(0, 3),
        "context_prefix": st.text("ab\n ", max_size=5),
    },
)
some_task = st.fixed_dictionaries(
    {"source": st.just("t"), "fields": st.lists(st.sampled_from(("name", "price")), min_size=1, unique=True)},
    optional={
        "model": st.sampled_from((FAKE, "fake:hash?dimensions=8", "eu:text-embedding-3-small")),
        "where": st.sampled_from(({"price": {"$lt": 3}}, {"name": None}, {"$or": [{"price": 1}, {"name": 'a"b\n'}]})),
        "chunking": chunking,
        "query_chunking": chunking,
        "quantization": st.sampled_from(("float32", "int8", "binary")),
        "metric": st.sampled_from(("cosine", "dot")),
        "cache_days": st.integers(0, 100),
        "max_cost_per_day": st.integers(0, 9) | st.floats(0, 9),
        "enabled": st.booleans(),
    },
)
some_settings = st.fixed_dictionaries(
    {
        "connections": st.fixed_dictionaries(
            {"eu": st.fixed_dictionaries({"kind": st.just("openai")}, optional={"in_flight": st.integers(1, 9)})}
        ),
        "tasks": st.dictionaries(st.sampled_from(("a", "b", "c")), some_task, max_size=3),
    }
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(some_settings, st.booleans(), st.booleans()), min_size=1, max_size=3))
def test_applying_twice_changes_nothing_whatever_was_there(rounds: list[tuple[dict[str, Any], bool, bool]]) -> None:
    """From any settings to any other; and what is written of a database applies to it without a change."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.db"
        writer = sqlite3.connect(file)
        writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
        writer.close()
        with lockstep.open(file) as db:
            for declared, remove, syncs in rounds:
                plan = db.apply(declared, remove=remove)
                assert db.plan_apply(declared, remove=remove).steps == (), shown(plan)
                there = db.plan_apply({}).there
                written = tomllib.loads(to_toml(there))
                assert db.plan_apply(written, remove=True).steps == ()
                assert {name: each.to_json() for name, each in db.plan_apply(written).declared.tasks.items()} == {
                    name: each.to_json() for name, each in there.tasks.items()
                }
                if syncs:
                    db.sync()
                    assert db.plan_apply(declared, remove=remove).steps == ()
