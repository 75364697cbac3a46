"""A folder becomes a model in torch: on which device, in which type, without a word on the terminal."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lockstep.errors import ConfigError, MissingExtra
from lockstep.models.local.by_torch.facts import has_no_words
from lockstep.models.local.by_torch.faults import AGAIN, loading_error, reported
from lockstep.models.local.by_torch.folder import kept_dtype, read_json, transformer_folder
from lockstep.models.local.options import LocalOptions

UNUSED_WEIGHTS = ("pooler", "position_ids", "logit_scale", "logit_bias")
"""Parts of names of weights that take no part in a vector, and that published models often lack."""

_loading = threading.Lock()
"""While a model is loaded, logging and warnings of the whole process are changed: one at a time."""


def import_torch(uri: str) -> Any:
    """The module torch, with sentence-transformers there beside it.

    Raises:
        MissingExtra: one of them is not installed.
    """
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import sentence_transformers
            import torch
        except ImportError as exc:
            raise MissingExtra(f'Model "{uri}" runs by torch, which', "torch") from exc
    del sentence_transformers
    return torch


def find_device(wanted: str | None) -> Any:
    """The `torch.device` that was asked for, or the best there is.

    Raises:
        ConfigError: it is not there.
    """
    import torch

    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    there = [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    chosen = "cuda:0" if wanted == "cuda" else wanted or there[0]
    if chosen not in there:
        raise ConfigError(f'There is no device "{wanted}".', f"There is: {', '.join(there)}.")
    return torch.device(chosen)


def load(uri: str, folder: Path, device: Any, options: LocalOptions) -> Any:
    """The folder as a `SentenceTransformer`, ready to embed.

    Raises:
        ConfigError: it cannot be loaded; says why, and names the file where one is at fault.
    """
    from sentence_transformers import SentenceTransformer

    kind = read_json(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        # The package would take it apart and put a pooling behind it that it was not trained with.
        raise ConfigError(
            f'Model "{uri}" is a {kind}, which gives no vectors to search with.',
            "Choose a model for sentence embeddings.",
        )
    with quietly() as said:
        try:
            module = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=options.trust_remote_code,
                model_kwargs={"dtype": compute_dtype(device, options, kept_dtype(folder))},
            )
        except Exception as exc:
            raise loading_error(uri, folder, options, exc, said) from exc
    lost = [name for name in reported(said, "MISSING") if not any(part in name for part in UNUSED_WEIGHTS)]
    if lost:
        raise ConfigError(
            f"The weights in {folder} lack {len(lost)} that the model needs, the first: {lost[0]}.",
            "They would be random. " + AGAIN,
        )
    if not module.supports("text"):
        raise ConfigError(f'Model "{uri}" takes no texts.', "Choose one that embeds texts, or texts and images.")
    if has_no_words(getattr(module, "tokenizer", None)):
        raise ConfigError(f"The model's file {transformer_folder(folder) / 'tokenizer.json'} is missing.", AGAIN)
    return module.eval()


def compute_dtype(device: Any, options: LocalOptions, kept: str) -> Any:
    """The `torch.dtype` to compute in: half precision on a GPU, of the kind that the weights have."""
    import torch

    if options.dtype is not None:
        return getattr(torch, options.dtype)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if kept == "bfloat16" else torch.float16


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Collect what the libraries say as they load a model, instead of letting it out; then all is as it was."""
    from transformers.utils import logging as library

    said: list[str] = []
    collector = logging.Handler()
    collector.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
        before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
        had_bars = library.is_progress_bar_enabled()
        library.disable_progress_bar()
        for logger in loggers:
            logger.handlers[:], logger.propagate = [collector], False
            logger.setLevel(logging.WARNING)
        try:
            yield said
        finally:
            for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
                logger.handlers[:], logger.propagate = handlers, propagate
                logger.setLevel(level)
            if had_bars:
                library.enable_progress_bar()
