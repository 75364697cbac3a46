"""A cross-encoder that torch runs, through sentence-transformers' `CrossEncoder`: on a GPU, or where there is no graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import ConfigError
from lockstep.models.local.by_torch.batches import Batches
from lockstep.models.local.by_torch.facts import has_no_words, max_tokens_of, set_limit
from lockstep.models.local.by_torch.faults import AGAIN, loading_error, reported
from lockstep.models.local.by_torch.folder import kept_dtype, transformer_folder, weight_files
from lockstep.models.local.by_torch.loading import compute_dtype, find_device, import_torch, quietly
from lockstep.models.local.options import LocalOptions
from lockstep.models.rerank.base import Reranked, RerankerInfo
from lockstep.types import Usage, Vectors

BYTES_PER_TOKEN = 4
"""Of a text in UTF-8, roughly, in any language."""
PAIRS_AT_ONCE = 1 << 20
"""How many go through the package together is ours to say, by tokens (`Batches`)."""


class TorchReranker:
    """A scorer run by torch. Safe to call from several threads, one of which computes at a time."""

    def __init__(self, info: RerankerInfo, folder: Path, activation: str | None, options: LocalOptions) -> None:
        """Load the weights and score a pair, so that what does not work fails here. Nothing is downloaded.

        Args:
            info: what is known of it besides what its folder says.
            folder: where it is.
            activation: "sigmoid" or "none"; None for the model's own.
            options: the user's.

        Raises:
            MissingExtra: sentence-transformers is not installed.
            ConfigError: a file is missing or damaged, the device is not there, the model brings code that may not be run,
                or it is no reranker.
        """
        torch = import_torch(info.uri)
        torch.set_num_threads(options.threads)
        device = find_device(options.device)
        self._lock = threading.Lock()
        self._batches = Batches(info.uri, device)
        self._module = load(info.uri, folder, device, options)
        if activation is not None:
            self._module.activation_fn = torch.nn.Sigmoid() if activation == "sigmoid" else torch.nn.Identity()
        max_tokens = max_tokens_of(self._module)
        set_limit(getattr(self._module, "tokenizer", None), max_tokens)
        size = sum(file.stat().st_size for file in weight_files(folder))
        self.info = replace(info, max_tokens=max_tokens, size_bytes=size)
        self._try(info.uri)

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """See `Scorer.score`.

        Raises:
            ProviderRejected: a pair does not fit in the device's memory, or the model cannot score it.
        """
        del timeout_s
        assert self.info.max_tokens is not None
        own = len(query.encode())
        sizes = [min((own + len(text.encode())) // BYTES_PER_TOKEN + 4, self.info.max_tokens) for text in texts]

        def encode(rows: Sequence[int]) -> Vectors:
            return self._run([(query, texts[row]) for row in rows])

        return Reranked(self._batches.run("text", sizes, 1, encode)[:, 0], Usage(texts=len(texts)))

    def _run(self, pairs: list[tuple[str, str]]) -> Vectors:
        """The scores of one batch: float32, shape (len(pairs), 1)."""
        with self._lock:
            found = self._module.predict(pairs, batch_size=PAIRS_AT_ONCE, show_progress_bar=False)
        return np.asarray(found, np.float32).reshape(len(pairs), -1)[:, :1]

    def _try(self, uri: str) -> None:
        """Score a pair.

        Raises:
            ConfigError: it cannot.
        """
        try:
            self._run([("a", "a")])
        except Exception as exc:
            raise ConfigError(
                f'Model "{uri}" was loaded, and cannot score a text: {" ".join(str(exc).split())[:300]}.',
                "Check that it is a cross-encoder.",
            ) from exc


def load(uri: str, folder: Path, device: Any, options: LocalOptions) -> Any:
    """The folder as a `CrossEncoder`, ready to score.

    Raises:
        ConfigError: it cannot be loaded; says why, and names the file where one is at fault.
    """
    from sentence_transformers import CrossEncoder

    with quietly() as said:
        try:
            module = CrossEncoder(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=options.trust_remote_code,
                model_kwargs={"dtype": compute_dtype(device, options, kept_dtype(folder))},
            )
        except Exception as exc:
            raise loading_error(uri, folder, options, exc, said) from exc
    lost = [name for name in reported(said, "MISSING") if "position_ids" not in name]
    if lost:
        raise ConfigError(
            f"The weights in {folder} lack {len(lost)} that the model needs, the first: {lost[0]}.",
            "They would be random. " + AGAIN,
        )
    if module.num_labels != 1:
        raise ConfigError(
            f'Model "{uri}" is a classifier with {module.num_labels} labels; a reranker has one, the relevance.',
            "Choose a cross-encoder for search.",
        )
    if has_no_words(getattr(module, "tokenizer", None)):
        raise ConfigError(f"The model's file {transformer_folder(folder) / 'tokenizer.json'} is missing.", AGAIN)
    return module.eval()
