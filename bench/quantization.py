"""What does each form of a vector cost in time and in recall?

    python -m bench.quantization [FOLDER] [--quick]

Encoding, decoding and sign bits are timed on 100,000 random vectors of 384 dimensions. Recall@10 is the share of the ten
nearest by float32 that are among the ten nearest by the decoded vectors, all compared, the query in float32: on clustered
random vectors, on the documentation of Python's standard library, and with FOLDER (corpus.jsonl and queries.jsonl in
BEIR's layout) on its documents and queries; both embedded with the built-in model.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import lockstep
from bench.harness import in_turns, save, serve_child
from lockstep.app import stdlib
from lockstep.types import FORMS, Form, Vectors
from lockstep.vectors.quantization import bytes_per_vector, codec
from lockstep.vectors.similarity import normalise, similarity

DIMENSIONS = 384
NEIGHBOURS = 10
CANDIDATES = (10, 40, 100, 400)
"""How many are taken by a coarse form and then ranked by float32."""
QUERIES_MAX = 500
PAGE = 5000


def speed(form: Form) -> Callable[[Path, dict[str, Any]], dict[str, Any]]:
    """Milliseconds for all vectors, the best of seven; what is only looked at in another way takes none."""

    def child(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
        del folder
        count = arguments["vectors"]
        vectors = np.random.default_rng(1).standard_normal((count, DIMENSIONS)).astype(np.float32)
        chosen = codec(form)
        made = chosen.encode(vectors)
        return {
            "vectors": count,
            "encode_ms": 1000 * best(lambda: chosen.encode(vectors)),
            "decode_ms": 1000 * best(lambda: chosen.decode(made.data, DIMENSIONS, made.scales)),
            "sign_bits_ms": 1000 * best(lambda: chosen.sign_bits(made.data, DIMENSIONS)),
        }

    return child


def best(action: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def clustered(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Random vectors around random centres; queries are other vectors around them."""
    del folder
    random = np.random.default_rng(2)
    centres = random.standard_normal((200, DIMENSIONS))
    count = arguments["clustered"] + QUERIES_MAX
    rows = centres[random.integers(0, len(centres), count)] + 0.7 * random.standard_normal((count, DIMENSIONS))
    vectors = normalise(rows.astype(np.float32))
    return recalls(vectors[QUERIES_MAX:], vectors[:QUERIES_MAX])


def documentation(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The standard library's documentation, each query the first line of another document."""
    del folder
    found = list(islice(stdlib.documents(), arguments["texts"]))
    texts = list(dict.fromkeys(document["text"] for document in found))
    step = max(2, len(texts) // QUERIES_MAX)
    queries, documents = texts[::step], [text for number, text in enumerate(texts) if number % step]
    model = lockstep.model("local:minilm")
    return recalls(
        model.embed_documents(documents, truncate="end"),
        model.embed_queries([text.partition("\n")[0] or text[:100] for text in queries], truncate="end"),
    )


def judged(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A data set's documents and queries."""
    del folder
    data = Path(arguments["data"])
    with (data / "corpus.jsonl").open(encoding="utf-8") as file:
        found = [json.loads(line) for line in islice(file, arguments["texts"])]
    with (data / "queries.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["text"] for line in islice(file, QUERIES_MAX)]
    model = lockstep.model("local:minilm")
    return recalls(
        model.embed_documents([f"{d['title']}\n{d['text']}" for d in found], truncate="end"),
        model.embed_queries(queries),
    )


def recalls(vectors: Vectors, queries: Vectors) -> dict[str, Any]:
    """Per form recall@10 by its vectors alone, and after its best candidates were ranked by float32."""
    wanted = ranked(queries, vectors, NEIGHBOURS)
    found: dict[str, Any] = {"vectors": len(vectors), "queries": len(queries)}
    for form in FORMS:
        made = codec(form).encode(vectors)
        decoded = codec(form).decode(made.data, vectors.shape[1], made.scales)
        best_first = ranked(queries, decoded, CANDIDATES[-1])
        for candidates in CANDIDATES:
            found[f"{form}_recall_at_10_of_{candidates}"] = share(wanted, best_first[:, :candidates])
        found[f"{form}_cosine_mean"] = float(np.einsum("ij,ij->i", normalise(vectors), normalise(decoded)).mean())
    return found


def ranked(queries: Vectors, vectors: Vectors, count: int) -> np.ndarray:
    pages = [similarity(queries, vectors[at : at + PAGE], "cosine") for at in range(0, len(vectors), PAGE)]
    return np.argsort(-np.concatenate(pages, axis=1), axis=1, kind="stable")[:, :count]


def share(wanted: np.ndarray, found: np.ndarray) -> float:
    """Of the wanted that are among the found: what ranking these by float32 would bring to the top."""
    return float(np.mean([np.isin(some, others).mean() for some, others in zip(wanted, found, strict=True)]))


SPEEDS = {f"speed_{form}": speed(form) for form in FORMS}
CHILDREN = {**SPEEDS, "clustered": clustered, "documentation": documentation, "judged": judged}


def main() -> None:
    if serve_child(CHILDREN):
        return
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    quick = "--quick" in sys.argv
    arguments: dict[str, Any] = {
        "data": str(Path(folders[0]).resolve()) if folders else "",
        "vectors": 5_000 if quick else 100_000,
        "clustered": 2_000 if quick else 50_000,
        "texts": 300 if quick else 20_000,
    }
    results: dict[str, Any] = {"bytes_per_vector": {form: bytes_per_vector(form, DIMENSIONS) for form in FORMS}}
    results |= in_turns("bench.quantization", list(SPEEDS), arguments, 1 if quick else 5)
    named = ["clustered", "documentation", *(["judged"] if folders else [])]
    results |= in_turns("bench.quantization", named, arguments, 1)
    save("quantization-quick" if quick else "quantization", results)


if __name__ == "__main__":
    main()
