"""`fake:overlap`, a reranker that counts common words; the fake services rank by it as well."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lockstep.errors import ProviderUnavailable, UnknownName
from lockstep.models.rerank.base import Reranked, RerankerInfo, Scores
from lockstep.models.uri import ModelURI
from lockstep.types import Usage

WORD = re.compile(r"\w+")
SHARE = 0.9  # of a score that the common words decide; the rest tells texts apart that have as many


@dataclass(kw_only=True)
class OverlapReranker:
    """A scorer of `overlap_scores`."""

    fail_every: int = 0
    """Every so many calls raise ProviderUnavailable; 0 never."""
    texts_ranked: int = field(default=0, init=False)
    """How many texts were ranked by this object."""

    def __post_init__(self) -> None:
        self._calls = itertools.count(1)

    @property
    def info(self) -> RerankerInfo:
        """Facts about it; it counts as remote, so that tests exercise what is done to spare a service."""
        return RerankerInfo(uri="fake:overlap", local=False, description="Counts common words; for tests.")

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """See `Scorer.score`."""
        del timeout_s
        if self.fail_every and next(self._calls) % self.fail_every == 0:
            raise ProviderUnavailable("The fake reranker fails on command.", "Try again.", model="fake:overlap")
        self.texts_ranked += len(texts)
        return Reranked(overlap_scores(query, texts), Usage(requests=1, texts=len(texts)))


def open_fake(uri: ModelURI, *, download: bool = False) -> OverlapReranker:
    """The reranker that a URI `fake:overlap?fail_every=…` describes."""
    del download
    if uri.name != "overlap":
        raise UnknownName("fake reranker", uri.name, ["overlap"])
    uri.allow("fail_every")
    return OverlapReranker(fail_every=uri.number("fail_every", 0))


def overlap_scores(query: str, texts: Sequence[str]) -> Scores:
    """The share of the query's words that each text has, and a little of a hash: float32, shape (len(texts),), below 1.

    Texts with more of the query's words have higher scores; no two texts have one score.
    """
    wanted = set(WORD.findall(query.lower())) or {""}
    shares = [len(wanted & set(WORD.findall(text.lower()))) / len(wanted) for text in texts]
    hashes = [hashlib.shake_128(f"{query}\n{text}".encode("utf-8", "surrogatepass")).digest(4) for text in texts]
    noise = np.array([int.from_bytes(each) for each in hashes]) / 2**32 / max(len(wanted), 1)
    return (SHARE * np.array(shares) + (1 - SHARE) * noise).astype(np.float32)
