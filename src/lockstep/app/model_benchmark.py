"""How fast is a model on this machine?  Real texts, real queries, some seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import lockstep
from lockstep.app import stdlib
from lockstep.chunking import chunk_texts
from lockstep.models.base import Model
from lockstep.types import Chunking, Text

TEXTS_MAX = 4096
WAKING_TEXTS = 256
TEXTS_PER_CALL = 512
QUERIES = 300
QUERY_WORDS = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model does here."""

    model: str
    load_s: float
    """Until the first vector."""
    texts_per_s: float
    """Of the standard library's documentation, cut to what the model takes."""
    tokens_per_s: float
    tokens_per_text: float
    query_ms_median: float
    query_ms_p99: float
    documents: int
    documents_s: float
    """How long so many texts like these would take."""


def measure(uri: str, documents: int, seconds: float) -> Measured:
    """Measure a model.

    Args:
        uri: it must be here.
        documents: for how many the time is estimated.
        seconds: how long texts are embedded.
    """
    started = time.perf_counter()
    model = lockstep.model(uri)
    model.embed_queries(["a first vector"])
    load_s = time.perf_counter() - started
    texts = _texts(model)
    model.embed_documents(texts[:WAKING_TEXTS])
    done, took = _embed_for(model, texts, seconds)
    tokens = sum(model.count_tokens(texts[:done])) / done
    queries = sorted(_queries(model, texts))
    return Measured(
        model=uri,
        load_s=round(load_s, 3),
        texts_per_s=round(done / took, 1),
        tokens_per_s=round(done * tokens / took),
        tokens_per_text=round(tokens, 1),
        query_ms_median=round(1000 * queries[len(queries) // 2], 2),
        query_ms_p99=round(1000 * queries[int(0.99 * len(queries))], 2),
        documents=documents,
        documents_s=round(documents * took / done, 1),
    )


def _texts(model: Model) -> list[str]:
    whole = [Text("text", document["text"]) for document in islice(stdlib.documents(), TEXTS_MAX)]
    chunks = chunk_texts(whole, Chunking(), model.text_tokens_max(), model.tokenizer)
    return list(dict.fromkeys(chunk.text for some in chunks if isinstance(some, list) for chunk in some))


def _embed_for(model: Model, texts: Sequence[str], seconds: float) -> tuple[int, float]:
    """(texts embedded, seconds that took): all of them, or as many as there is time for."""
    started = time.perf_counter()
    for at in range(0, len(texts), TEXTS_PER_CALL):
        model.embed_documents(texts[at : at + TEXTS_PER_CALL])
        took = time.perf_counter() - started
        if took > seconds:
            break
    return min(at + TEXTS_PER_CALL, len(texts)), took


def _queries(model: Model, texts: Sequence[str]) -> list[float]:
    """Seconds of each of some single queries, the first of which is not counted."""
    latencies = []
    for text in texts[: QUERIES + 1]:
        started = time.perf_counter()
        model.embed_queries([" ".join(text.split()[:QUERY_WORDS])])
        latencies.append(time.perf_counter() - started)
    return latencies[1:]
