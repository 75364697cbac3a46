"""Public fakes, for the tests of whoever builds on Lockstep as for our own.

`HashModel`, as a model of a task `fake:hash`, embeds by hashing: equal texts have equal vectors, others are nearly
orthogonal. Its options make it slow or faulty on command, and let a test count what it was asked, across processes:

    fake:hash?dimensions=64
    fake:hash?delay_ms=20             each call takes so long
    fake:hash?fail_every=7            every 7th call finds the provider away (ProviderUnavailable)
    fake:hash?nan_every=7             every 7th text gets NaN
    fake:hash?reject=poison           a text with this word in it is refused (ProviderRejected)
    fake:hash?log=/tmp/asked          every text embedded adds a line, the hash of it, to this file

`fake:overlap`, as a reranker, scores a text by the words that it shares with the query (`overlap_scores`); with
`?fail_every=7` every 7th call finds it away.

`ChaosServer` is a provider of embeddings and of reranking behind a real HTTP server, which speaks the providers'
protocols, has rate limits, fails in all the ways that networks and services do, and counts what it was paid for: see
`lockstep.testing.chaos`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockstep.testing.hash_model import HashModel, hash_vectors
from lockstep.testing.overlap import OverlapReranker, overlap_scores

if TYPE_CHECKING:
    from lockstep.testing.chaos.server import ChaosServer

__all__ = ["ChaosServer", "HashModel", "OverlapReranker", "hash_vectors", "overlap_scores"]


def __getattr__(name: str) -> Any:
    """`ChaosServer`, loaded when it is first used: a task with a fake model needs no HTTP server."""
    if name == "ChaosServer":
        from lockstep.testing.chaos.server import ChaosServer

        return ChaosServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
