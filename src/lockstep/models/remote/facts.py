"""What is known of services' models without asking: dimensions, longest input, list prices."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

# Kinds that reach the same models by another protocol.
SAME_MODELS = {"dashscope-compatible": "dashscope", "ollama-openai": "ollama"}


class Price(NamedTuple):
    """What a service asks, as its page said on a day."""

    per_million_tokens: float
    """US dollars per million input tokens."""
    batch: float | None
    """The same through the batch endpoint; None where there is none."""
    source: str
    date: str


def facts_of(kind: str, name: str) -> dict[str, Any]:
    """`dimensions`, `max_tokens`, `matryoshka` of a model, as far as they are known."""
    return _read("facts.json").get((SAME_MODELS.get(kind, kind), name.lower()), {})


def names_of(kind: str) -> list[str]:
    """The models of a kind that are known, in the order of the file."""
    return [
        entry["name"] for (its_kind, _), entry in _read("facts.json").items() if its_kind == SAME_MODELS.get(kind, kind)
    ]


def price_of(kind: str, name: str) -> Price | None:
    """The list price of a model; None when it is not known."""
    found = _read("prices.json").get((SAME_MODELS.get(kind, kind), name.lower()))
    if found is None:
        return None
    return Price(found["price"], found.get("batch_price"), found["source"], found["date"])


@cache
def _read(file: str) -> dict[tuple[str, str], dict[str, Any]]:
    content = json.loads(resources.files(__package__).joinpath(file).read_text("utf-8"))
    if "models" in content:
        return {(entry["kind"], entry["name"].lower()): entry for entry in content["models"]}
    return {(kind, entry["name"].lower()): entry for kind, entries in content.items() for entry in entries}
