"""What a reranker must offer, and `Reranker`: one whose scores are checked before anyone sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lockstep.errors import BadEmbedding, ConfigError, QueryError
from lockstep.models.base import checked_texts
from lockstep.types import Usage

Scores = npt.NDArray[np.float32]
SURROGATES = re.compile("[\ud800-\udfff]")


class Reranked(NamedTuple):
    """What came of one query and its texts."""

    scores: Scores
    """float32, shape (number of texts,), in the order of the texts; higher is more relevant."""
    usage: Usage = Usage()
    """What it took; `tokens` as the service counts them, estimated where it does not say, 0 for what runs here."""
    search_units: int = 0
    """What is billed instead of tokens, by services that count searches (Cohere: a query with up to 100 texts); else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerInfo:
    """Facts about a reranker."""

    uri: str
    """Without options."""
    max_tokens: int | None = None
    """Most tokens of a query and a text together, special ones included; what is longer is cut. None: not known here."""
    texts_max: int | None = None
    """Most texts in one request; more go in several. None where there are no requests."""
    local: bool = True
    """Whether it runs here and costs nothing."""
    bills_searches: bool = False
    """Whether its service counts searches and no tokens; see `Reranked.search_units`."""
    price_per_million_tokens: float | None = 0.0
    """US dollars; None where it is not known, or tokens are not what is billed."""
    size_bytes: int | None = None
    revision: str = ""
    languages: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""


@runtime_checkable
class Scorer(Protocol):
    """One open reranker. Safe to call from several threads at once."""

    @property
    def info(self) -> RerankerInfo:
        """Facts about it."""
        ...

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """How relevant each of `texts` is to `query`.

        Args:
            query: not blank.
            texts: one or more.
            timeout_s: for all of it, where it is elsewhere; what runs here takes the time that it takes.
        """
        ...


class Reranker:
    """Reads a query and each text together, and says how relevant the text is. Safe between threads.

    Scores of one reranker compare the texts of one query; those of two rerankers, or of two queries, do not compare.
    """

    def __init__(self, uri: str, scorer: Scorer) -> None:
        self.uri = uri
        self.scorer = scorer

    @property
    def info(self) -> RerankerInfo:
        """Facts about it: longest text, where it runs, what is billed."""
        return self.scorer.info

    def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        """How relevant each text is to the query.

        Args:
            query: what is looked for.
            texts: any number; one that is longer than the reranker takes is cut at its end.

        Returns:
            float32, shape (len(texts),), finite, in the order given; higher is more relevant.

        Raises:
            QueryError: the query is blank.
            ConfigError: `texts` is one string, or holds something that is no text.
            BadEmbedding: the answer must not be used.
            ProviderUnavailable: it may work later.
            ProviderRejected: it will not.
        """
        return self.ask(query, texts).scores

    def ask(self, query: str, texts: Sequence[str], *, timeout_s: float | None = None) -> Reranked:
        """As `rerank`, with what it took.

        Args:
            query: what is looked for.
            texts: any number.
            timeout_s: most seconds to wait for a service, all tries together; without, each try has the connection's
                `timeout_s`.

        Raises:
            ProviderUnavailable: the time is over; else as `rerank`.
        """
        query = checked_query(query)
        texts = checked_documents(texts)
        if not texts:
            return Reranked(np.zeros(0, np.float32))
        found = self.scorer.score(query, texts, timeout_s)
        return found._replace(scores=checked_scores(found.scores, len(texts), self.uri))


def checked_query(query: str) -> str:
    """The query, unless there is nothing to look for.

    Raises:
        ConfigError: it is no text.
        QueryError: it is blank.
    """
    if not isinstance(query, str):
        raise ConfigError(f"The query is of type {type(query).__name__}, not a text.", "A reranker reads texts.")
    if not query.strip():
        raise QueryError("The query is empty.", "Say what to look for.")
    return whole_characters(query)


def checked_documents(texts: Sequence[str]) -> Sequence[str]:
    """The texts, unless something among them is none.

    Raises:
        ConfigError: says which.
    """
    return [whole_characters(text) for text in checked_texts(texts)]


def whole_characters(text: str) -> str:
    """The text without half surrogate pairs, which neither JSON in UTF-8 nor a tokenizer takes."""
    return SURROGATES.sub("\ufffd", text)


def checked_scores(found: Scores, count: int, uri: str) -> Scores:
    """The scores as float32, unless they must not be used.

    Raises:
        BadEmbedding: there are more or fewer than texts, or one is NaN or infinite.
    """
    if found.shape != (count,):
        raise BadEmbedding(
            f'Reranker "{uri}" returned scores of shape {found.shape} for {count} text(s).',
            "There must be one score for each text.",
            model=uri,
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        scores = np.ascontiguousarray(found, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise BadEmbedding(
            f'Reranker "{uri}" returned {len(bad)} score(s) that are NaN or infinite, the first for text {bad[0]} '
            f"of {count}.",
            "Try again; if it lasts, the model or its settings are wrong.",
            model=uri,
        )
    return scores
