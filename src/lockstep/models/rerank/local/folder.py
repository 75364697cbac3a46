"""What a cross-encoder's folder says of itself: its graph, its tokenizer, its longest pair, what becomes of its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.errors import ConfigError
from lockstep.models.local.cross_encoder import CLASSIFIER, architecture, is_cross_encoder, labels, read_object
from lockstep.models.local.folder import ModelFolder, read_folder
from lockstep.models.rerank import not_a_reranker

ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Identity": "none",
    "Tanh": "tanh",
}
"""Names of torch's classes -> ours."""
ANOTHER = "Choose a cross-encoder, such as local:cross-encoder/ms-marco-MiniLM-L6-v2."


@dataclass(frozen=True, slots=True)
class CrossEncoderFolder:
    """A cross-encoder's folder, read; the weights themselves are not."""

    files: ModelFolder
    activation: str
    """What becomes of the number that the graph gives: a value of `ACTIVATIONS`."""
    torch_only: str
    """Why nothing but torch can run it; empty when it need not."""


def read_cross_encoder(path: Path, uri: str, file: str | None = None) -> CrossEncoderFolder:
    """Read what a folder says.

    Args:
        path: the folder.
        uri: of the reranker, for messages.
        file: the graph to run, relative to the folder.

    Raises:
        ConfigError: it is no model's folder, no cross-encoder, or a file is missing or damaged.
    """
    files = read_folder(path, file)
    config = read_object(path / "config.json")
    _check(path, uri, config)
    sentence = read_object(path / "config_sentence_transformers.json")
    named = activation_name(sentence, config)
    reasons = (
        files.torch_only,
        "it has a layer behind the transformer" if files.dense else "",
        "it is no classifier" if config and not architecture(config).endswith(CLASSIFIER) else "",
        f"its scores go through {named}" if named not in ACTIVATIONS else "",
        "it has a prompt" if sentence.get("default_prompt_name") else "",
    )
    return CrossEncoderFolder(files, ACTIVATIONS.get(named, "none"), next(filter(None, reasons), ""))


def activation_name(sentence: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The class of torch that a cross-encoder's number goes through, without its module; Sigmoid where none is named.

    sentence-transformers has kept it in three places over time; the newest counts.
    """
    newer = config.get("sentence_transformers")
    named = (
        sentence.get("activation_fn"),
        newer.get("activation_fn") if isinstance(newer, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    return next((str(name).rpartition(".")[2] for name in named if name), "Sigmoid")


def _check(path: Path, uri: str, config: Mapping[str, Any]) -> None:
    """Refuse what is no cross-encoder; a graph without a config.json tells by its output.

    Raises:
        ConfigError: it is something else; says what.
    """
    if is_cross_encoder(path):
        return
    if architecture(config).endswith(CLASSIFIER) and not (path / "modules.json").is_file():
        raise ConfigError(
            f'Model "{uri}" is a classifier with {labels(config)} labels; a reranker has one, the relevance.', ANOTHER
        )
    if config or (path / "modules.json").is_file():
        raise not_a_reranker(uri, ANOTHER)
