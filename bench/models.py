"""How fast and how true is the built-in model beside the other libraries that run all-MiniLM-L6-v2 on a processor?

    pip install torch==2.13.0 && pip install -r bench/contenders.txt
    python -m bench.models [FOLDER] [--models MODELS] [--quick]

FOLDER holds judged data as in `bench.minilm`: then the texts are its own, and the answers of each contender are judged by
exact search. MODELS keeps the published weights and what the contenders make of them; they are made when they are not
there. Every contender has its library's defaults, 256 tokens at most, and the same texts.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lockstep
from bench.contenders import CONTENDERS, DEFAULT, MEASURE, VECTORS, instructions
from bench.harness import in_turns, run_child, save, serve_child
from bench.minilm import data_of, documents
from lockstep.chunking import chunk_texts
from lockstep.evaluate import ndcg, read_qrels
from lockstep.models.base import Model
from lockstep.types import Text

MODELS = Path.home() / ".cache" / "lockstep-bench"
PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum-onnx",
    "onnxruntime",
    "optimum-intel",
    "fastembed",
)
COUNTS = {"random": 500, "short": 500, "long": 128}
QUERIES, WAKING_QUERIES = 300, 20
SHORT_WORDS, QUERY_WORDS = 5, 10
QUICKER = 6  # so many times fewer texts in a quick run

MAKE = "from bench.contenders import make_ready; make_ready({name!r}, {models!r})"
FIRST = """
from bench.contenders import open_contender
open_contender({name!r}, {models!r}).queries(['a few words'])
import os
os._exit(0)  # what the libraries do at the end is not measured
"""
IMPORT = "import time; started = time.perf_counter(); import lockstep; print(time.perf_counter() - started)"

Results = dict[str, Any]


class Failed(Exception):
    """A contender cannot run; carries the last line that it wrote."""


def write_texts(folder: Path, arguments: Results) -> Results:
    """Choose the texts that all contenders get, and tell how long they are.

    Each set has twice as many different texts as are timed: the others are to wake the model with.
    """
    del folder
    data, divisor = data_of(arguments), arguments["divisor"]
    model = lockstep.model("local:minilm")
    found = documents(data)
    chunks = chunks_of(model, [document["text"] for document in found])
    random.Random(0).shuffle(chunks)
    pools = {"random": chunks, "short": first_words(chunks, SHORT_WORDS), "long": longest(model, chunks)}
    sets = {kind: text_set(model, pool, COUNTS[kind] // divisor) for kind, pool in pools.items()}
    queries = first_words(chunks, QUERY_WORDS)
    texts = {
        "sets": sets,
        "queries": queries[: QUERIES // divisor],
        "waking_queries": queries[-WAKING_QUERIES:],
        "judged": judged_texts(data, model, found) if data else {},
    }
    Path(arguments["texts"]).write_text(json.dumps(texts), encoding="utf-8")
    return {
        kind: {"texts": len(some["timed"]), "tokens_mean": round(some["tokens_mean"], 1)} for kind, some in sets.items()
    }


def limit_of(model: Model) -> int:
    return model.info.max_tokens - model.info.special_tokens


def chunks_of(model: Model, texts: Sequence[str]) -> list[str]:
    """The texts cut into chunks that the model takes, each once."""
    rows = chunk_texts([Text("text", text) for text in texts], lockstep.Chunking(), limit_of(model), model.tokenizer)
    return list(dict.fromkeys(chunk.text for row in rows if isinstance(row, list) for chunk in row))


def first_words(texts: Sequence[str], count: int) -> list[str]:
    """The beginnings of the texts that have so many words."""
    words = (text.split()[:count] for text in texts)
    return list(dict.fromkeys(" ".join(some) for some in words if len(some) == count))


def longest(model: Model, texts: Sequence[str]) -> list[str]:
    """Texts of exactly as many tokens as the model takes, cut out of all of them in a row."""
    limit = limit_of(model)
    wanted = 2 * COUNTS["long"]
    whole = "\n".join(texts[: 8 * wanted])
    (tokens,) = model.tokenizer.encode([whole])
    starts = range(0, len(tokens.ids) - limit, limit)
    cut = [whole[tokens.starts[start] : tokens.ends[start + limit - 1]] for start in starts]
    return [text for text, ids in zip(cut, model.tokenizer.encode(cut), strict=True) if len(ids.ids) == limit]


def text_set(model: Model, pool: Sequence[str], count: int) -> Results:
    assert len(pool) >= 2 * count, f"{len(pool)} texts; needs {2 * count}."
    timed = list(pool[:count])
    lengths = [len(tokens.ids) + model.info.special_tokens for tokens in model.tokenizer.encode(timed)]
    return {
        "timed": timed,
        "waking": pool[count : 2 * count],
        "tokens_mean": statistics.mean(lengths),
    }


def judged_texts(data: Path, model: Model, found: Sequence[Results]) -> Results:
    """The queries, and of each document its first chunk: what the model takes of it."""
    lines = (data / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    rows = chunk_texts([Text("text", d["text"]) for d in found], lockstep.Chunking(), limit_of(model), model.tokenizer)
    return {
        "documents": {
            d["id"]: row[0].text for d, row in zip(found, rows, strict=True) if isinstance(row, list) and row
        },
        "queries": {query["_id"]: query["text"] for query in map(json.loads, lines)},
    }


def run_python(code: str) -> tuple[float, str]:
    """Seconds from the process's start to its end, and what it printed.

    Raises:
        Failed: it did.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise Failed(next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}"))
    return seconds, done.stdout


def why_missing(models: str) -> dict[str, str]:
    """Make every contender ready and let it embed one text; the errors of those that cannot."""
    missing = {}
    for name in CONTENDERS:
        try:
            for code in (MAKE, FIRST):
                run_python(code.format(name=name, models=models))
        except Failed as failure:
            missing[name] = str(failure)
    return missing


def starts(names: Sequence[str], models: str, rounds: int) -> dict[str, float]:
    """Median seconds from the start of a process to its first vector, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seconds[name].append(run_python(FIRST.format(name=name, models=models))[0])
    return {name: round(statistics.median(found), 3) for name, found in seconds.items()}


def agreement(vectors: Mapping[str, Any], exact: Mapping[str, Any], kinds: Sequence[str]) -> Results:
    """Cosine similarity with the vectors of the default in fp32."""
    found = {}
    for kind in kinds:
        cosines = np.einsum("ij,ij->i", unit(vectors[kind]), unit(exact[kind]))
        found[kind] = {"mean": round(float(cosines.mean()), 5), "smallest": round(float(cosines.min()), 5)}
    return found


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ndcg_at_10(vectors: Mapping[str, Any], judged: Results, data: Path) -> float:
    """Of exact search with the contender's own vectors."""
    ids = np.array(list(judged["documents"]))
    scores = unit(vectors["queries"]) @ unit(vectors["documents"]).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    run = {query: list(ids[row]) for query, row in zip(judged["queries"], best, strict=True)}
    return round(ndcg(run, read_qrels(data / "qrels" / "test.tsv"), 10), 4)


def compare(names: Sequence[str], arguments: Results) -> dict[str, Results]:
    """What each contender's vectors are worth."""
    texts = json.loads(Path(arguments["texts"]).read_text(encoding="utf-8"))
    for name in names:
        run_child("bench.contenders", VECTORS + name, arguments)
    vectors = {name: np.load(Path(arguments["vectors"]) / f"{name}.npz") for name in names}
    found: dict[str, Results] = {name: {} for name in names}
    for name in names:
        if DEFAULT in vectors:
            found[name]["cosine_to_fp32"] = agreement(vectors[name], vectors[DEFAULT], list(texts["sets"]))
        if data := data_of(arguments):
            found[name]["ndcg_at_10"] = ndcg_at_10(vectors[name], texts["judged"], data)
    return found


def ratios(measured: Mapping[str, Results]) -> Results:
    """Lockstep's rate over the default's, and over the best other's."""
    others = [name for name in measured if name != "lockstep"]
    found: Results = {}
    for kind in COUNTS if others else ():
        rates = {name: measured[name][f"{kind}_texts_per_s"] for name in measured}
        best = max(others, key=lambda name: rates[name])
        found[kind] = {"best_other": best, "to_best_other": round(rates["lockstep"] / rates[best], 2)}
        if DEFAULT in rates:
            found[kind]["to_default"] = round(rates["lockstep"] / rates[DEFAULT], 2)
    return found


def compete(arguments: Results, rounds: int) -> Results:
    texts = run_child("bench.models", "texts", arguments)
    missing = why_missing(arguments["models"])
    names = [name for name in CONTENDERS if name not in missing]
    first = starts(names, arguments["models"], rounds)
    runs = in_turns("bench.contenders", [MEASURE + name for name in names], arguments, rounds)
    measured = {name: runs[MEASURE + name] for name in names}
    worth = compare(names, arguments)
    return {
        "texts": {kind: texts[kind] for kind in COUNTS},
        "onnx_int8_for": instructions(),
        "import_lockstep_s": round(statistics.median(float(run_python(IMPORT)[1]) for _ in range(5)), 3),
        "contenders": {
            **{name: {**measured[name], "first_vector_s": first[name], **worth[name]} for name in names},
            **{name: {"missing": reason} for name, reason in missing.items()},
        },
        "ratios": ratios(measured),
    }


def main() -> None:
    if serve_child({"texts": write_texts}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="judged data in BEIR's layout")
    parser.add_argument(
        "--models", type=Path, default=MODELS, help="folder that keeps the models; default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="see whether it works")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        arguments = {
            "data": str(given.folder.resolve()) if given.folder else "",
            "divisor": QUICKER if given.quick else 1,
            "seconds_min": 0.5 if given.quick else 3.0,
            "models": str(given.models.resolve()),
            "texts": str(Path(work) / "texts.json"),
            "vectors": work,
        }
        results = compete(arguments, 1 if given.quick else 3)
    name = "-".join(["models", *(["judged"] if given.folder else []), *(["quick"] if given.quick else [])])
    save(name, results, PACKAGES)


if __name__ == "__main__":
    main()
