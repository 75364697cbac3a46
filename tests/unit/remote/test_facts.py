"""What is known of services' models: that it is well formed, and found."""

from __future__ import annotations

import json
from datetime import date
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import pytest

from lockstep.models.remote.facts import SAME_MODELS, facts_of, names_of, price_of
from lockstep.models.remote.kinds import KINDS


def read(file: str) -> Any:
    return json.loads(resources.files("lockstep.models.remote").joinpath(file).read_text("utf-8"))


FACTS = read("facts.json")
PRICES = read("prices.json")["models"]


def is_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(parts.hostname) and " " not in url


@pytest.mark.parametrize("kind", FACTS)
def test_every_fact_is_well_formed_and_has_a_source(kind: str) -> None:
    """A kind that there is, whole numbers, widths that grow up to the model's own, a place to look it up."""
    assert kind in KINDS
    for entry in FACTS[kind]:
        assert set(entry) <= {"name", "dimensions", "matryoshka", "max_tokens", "source"}
        assert entry["name"] == entry["name"].strip() != ""
        assert type(entry["dimensions"]) is int
        assert 1 <= entry["dimensions"] <= 16_384
        widths = entry.get("matryoshka", [])
        assert widths == sorted({width for width in widths if type(width) is int and 1 <= width < entry["dimensions"]})
        assert "max_tokens" not in entry or (type(entry["max_tokens"]) is int and 1 <= entry["max_tokens"] <= 1_000_000)
        assert is_address(entry["source"])


@pytest.mark.parametrize("kind", sorted({entry["kind"] for entry in PRICES}))
def test_every_price_has_a_source_and_a_day(kind: str) -> None:
    """Dollars for a model that is known; a batch costs no more."""
    assert kind in KINDS
    for entry in (entry for entry in PRICES if entry["kind"] == kind):
        assert set(entry) <= {"kind", "name", "price", "batch_price", "source", "date"}
        assert facts_of(kind, entry["name"])
        assert 0 <= entry.get("batch_price", entry["price"]) <= entry["price"] < 100
        assert is_address(entry["source"])
        assert date.fromisoformat(entry["date"]).isoformat() == entry["date"]


def test_no_model_is_there_twice() -> None:
    """The second would hide the first."""
    for keys in (
        [(kind, entry["name"].lower()) for kind, entries in FACTS.items() for entry in entries],
        [(entry["kind"], entry["name"].lower()) for entry in PRICES],
    ):
        assert len(keys) == len(set(keys))


def test_kinds_that_reach_the_same_models_know_the_same() -> None:
    """DashScope's models are the same in both of its protocols, and so are Ollama's."""
    for kind, other in SAME_MODELS.items():
        assert kind in KINDS
        assert names_of(kind) == names_of(other) != []
        for name in names_of(other):
            assert facts_of(kind, name) == facts_of(other, name)
            assert price_of(kind, name) == price_of(other, name)


def test_names_are_found_whatever_their_case() -> None:
    """Services mix them."""
    assert facts_of("deepinfra", "baai/BGE-M3") == facts_of("deepinfra", "BAAI/bge-m3")
    assert facts_of("deepinfra", "BAAI/bge-m3")["dimensions"] == 1024


def test_what_is_not_known_is_not_made_up() -> None:
    """The service is asked then, or the user."""
    assert facts_of("openai", "no-such-model") == {}
    assert facts_of("no-such-kind", "text-embedding-3-small") == {}
    assert price_of("openai", "no-such-model") is None
    assert names_of("no-such-kind") == []


def test_a_price_says_where_and_when_it_was_read() -> None:
    """So that one can look whether it still is."""
    found = price_of("openai", "text-embedding-3-small")
    assert found is not None
    assert found.per_million_tokens > 0
    assert is_address(found.source)
    assert date.fromisoformat(found.date)
