"""Is a folder a cross-encoder, which scores a query with a text, rather than a model of vectors?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockstep.errors import ConfigError

CLASSIFIER = "ForSequenceClassification"
"""What the architecture of a cross-encoder's transformer ends with."""
DECLARED = "CrossEncoder"
"""What newer sentence-transformers write as the type of such a model."""


def is_cross_encoder(folder: Path) -> bool:
    """Whether a folder says so: by its declared type, else as a plain Transformers classifier with one label."""
    declared = read_object(folder / "config_sentence_transformers.json").get("model_type")
    if declared is not None:
        return bool(declared == DECLARED)
    if (folder / "modules.json").is_file():
        return False
    config = read_object(folder / "config.json")
    return architecture(config).endswith(CLASSIFIER) and labels(config) == 1


def architecture(config: Mapping[str, Any]) -> str:
    """The class that a Transformers config.json names; empty where it names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def labels(config: Mapping[str, Any]) -> int:
    """How many numbers the classifier of a config.json gives."""
    if isinstance(config.get("id2label"), dict):
        return len(config["id2label"])
    number = config.get("num_labels")
    return number if isinstance(number, int) else 2  # Transformers' own default, which it leaves out


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is none, or none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def not_a_model(uri: str) -> ConfigError:
    """The error for a reranker where an embedding model is wanted."""
    return ConfigError(
        f'"{uri}" is a reranker, which gives no vectors.',
        "Search with an embedding model, and let this one rerank what is found (docs/rerank.md).",
    )
