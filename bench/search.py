"""How fast, and how true, is a search: alone, filtered, by words, just opened, and while others write?

    pip install -r bench/contenders-search.txt
    python -m bench.search [--sizes 5000,100000,1000000] [--judged FOLDER] [--cache FOLDER] [--quick]

Up to 100,000 rows are real texts of this machine, embedded by the built-in model; a million are drawn from clusters (see
`bench.search_data`). All contenders get the same vectors, queries and number of results, keep them on disk, and answer in
one thread where that can be set. Recall is that of the exact answers by float32. Databases are built once and kept in the
cache. FOLDER holds judged data as in `bench.minilm`: then the ways to search are judged by nDCG@10.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import in_turns, run_child, save, serve_child
from bench.search_contenders import CONTENDERS, TASK, Search, bytes_in
from bench.search_data import SHARES, Corpus, corpus, recall_at_k
from bench.search_live import live
from bench.search_words import build_documents, build_texts, filter_json, judge, judged_modes, words, words_fts5

HERE = Path(__file__).parent.parent
CACHE = Path.home() / ".cache" / "lockstep-bench" / "search"
PACKAGES = ("apsw", "sqlite-vec", "lancedb", "chromadb")
SIZES = "5000,100000,1000000"
SIZE_QUICK = 2_000
BUILD_S_MAX = 300
WAKING = 20
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "TOKIO_WORKER_THREADS",
)
FIRST = """
import json, sys, time
path, query = sys.argv[1], json.loads(sys.argv[2])
started = time.perf_counter()
import lockstep
imported = time.perf_counter()
db = lockstep.open(path)
opened = time.perf_counter()
hits = db.search(sys.argv[3], query)
done = time.perf_counter()
assert hits
print(json.dumps({"import_ms": 1000 * (imported - started), "open_ms": 1000 * (opened - imported),
                  "search_ms": 1000 * (done - opened), "open_to_first_hit_ms": 1000 * (done - imported)}))
"""

Results = dict[str, Any]


def place(arguments: Results) -> Corpus:
    return Corpus(Path(arguments["corpus"]))


# --- building ----------------------------------------------------------------------------------------------------------


def make_corpus(folder: Path, arguments: Results) -> Results:
    """The vectors and the exact answers."""
    del folder
    judged = Path(arguments["judged"]) if arguments["judged"] else None
    made = corpus(Path(arguments["cache"]), arguments["rows"], judged)
    for bound in (None, *SHARES.values()):
        made.truth(bound)
    return {"folder": str(made.folder)}


def build(folder: Path, arguments: Results) -> Results:
    """One contender's files; a folder is there whole or not at all."""
    del folder
    source = place(arguments)
    contender = CONTENDERS[arguments["contender"]]
    part = source.folder / f"{contender.folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    started = time.perf_counter()
    found: Results = dict(contender.build(part, source))
    found |= {"build_s": time.perf_counter() - started, "disk_mb": bytes_in(part) / 1e6}
    found = {name: round(value, 2) for name, value in found.items()}
    (part / "built.json").write_text(json.dumps(found))
    part.rename(source.folder / contender.folder)
    return found


def built(name: str, arguments: Results) -> Results:
    """What its building took, now or when it was built; or why it is left out."""
    contender = CONTENDERS[name]
    if not contender.supported():
        return {"missing": "this version cannot"}
    there = Path(arguments["corpus"]) / contender.folder / "built.json"
    if not there.exists():
        limit = None if name.startswith("lockstep") else BUILD_S_MAX
        wanted = json.dumps(arguments | {"contender": name})
        command = [sys.executable, "-m", "bench.search", "--child", "build", "", wanted]
        try:
            subprocess.run(command, check=True, timeout=limit, capture_output=True, text=True, cwd=HERE)
        except subprocess.TimeoutExpired:
            return {"left_out": f"did not build within {BUILD_S_MAX} s"}
        except subprocess.CalledProcessError as failure:
            return {"missing": next(iter(failure.stderr.strip().splitlines()[-1:]), f"exit code {failure.returncode}")}
    found: Results = json.loads(there.read_text())
    return found


# --- vectors -----------------------------------------------------------------------------------------------------------


def vectors(name: str) -> Callable[[Path, Results], Results]:
    """Measures a contender: open, all queries without a filter and with each, and the memory that is left then."""

    def measure(folder: Path, arguments: Results) -> Results:
        del folder
        source = place(arguments)
        contender = CONTENDERS[name]
        queries = source.queries
        read_once(source.folder / contender.folder)
        started = time.perf_counter()
        search = contender.open(source.folder / contender.folder, source)
        search(queries[-1], None)
        found: Results = {"open_and_first_ms": 1000 * (time.perf_counter() - started)}
        found |= timed(search, source, None, "", arguments)
        found |= memory()
        for share, bound in SHARES.items():
            found |= timed(search, source, bound, f"{share}: ", arguments)
        return found

    return measure


def read_once(folder: Path) -> None:
    """Bring files into the system's memory, for all contenders alike: a disk is not what is measured."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


def timed(search: Search, source: Corpus, bound: int | None, label: str, arguments: Results) -> Results:
    """Latency and recall of as many queries as there is time for."""
    queries = source.queries
    # Once awake, a filter is all that is new.
    for query in queries[-WAKING:] if bound is None else queries[-1:]:
        search(query, bound)
    milliseconds: list[float] = []
    answers: list[list[int]] = []
    until = time.perf_counter() + arguments["seconds_max"]
    computed = time.process_time()
    for query in queries[: arguments["queries"]]:
        started = time.perf_counter()
        answers.append(search(query, bound))
        milliseconds.append(1000 * (time.perf_counter() - started))
        if time.perf_counter() > until:
            break
    computed = time.process_time() - computed
    truth = source.truth(bound)[: len(answers)]
    padded = np.full_like(truth, -1)
    for row, answer in zip(padded, answers, strict=True):
        row[: len(answer)] = answer
    return {f"{label}{key}": value for key, value in quantiles(milliseconds).items()} | {
        f"{label}processor_ms_mean": 1000 * computed / len(answers),
        f"{label}recall_at_10": recall_at_k(padded, truth),
        f"{label}results_mean": sum(map(len, answers)) / len(answers),
    }


def quantiles(milliseconds: Sequence[float]) -> Results:
    median, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return {"median_ms": float(median), "p99_ms": float(p99), "queries": len(milliseconds)}


def memory() -> Results:
    """What this process holds now, apart from the files that it has mapped; Linux says it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return {"anonymous_mb": kilobytes["RssAnon"] / 1024, "mapped_files_mb": kilobytes["RssFile"] / 1024}


def first_answer(database: Path, task: str, query: Sequence[float], rounds: int) -> Results:
    """Medians of the steps from the start of a program to its first hit, each in a new process."""
    command = [sys.executable, "-c", FIRST, str(database), json.dumps(query), task]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(rounds)]
    return {key: round(float(np.median([run[key] for run in runs])), 1) for key in runs[0]}


# --- all of it ---------------------------------------------------------------------------------------------------------


CHILDREN = {
    "corpus": make_corpus,
    "build": build,
    **{f"vectors {name}": vectors(name) for name in CONTENDERS},
    "texts": build_texts,
    "documents": build_documents,
    "words keyword": words("keyword"),
    "words hybrid": words("hybrid"),
    "words fts5": words_fts5,
    "filter json": filter_json,
    "live lockstep": live("lockstep"),
    "live lockstep-hnsw": live("lockstep-hnsw"),
    "judge": judge,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes that are started in it compute in one thread, where their packages listen to the environment."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def of_size(rows: int, arguments: Results, rounds: int) -> Results:
    """Everything about a number of rows."""
    arguments = arguments | {"rows": rows}
    folder = Path(run_child("bench.search", "corpus", arguments)["folder"])
    arguments |= {"corpus": str(folder)}
    chosen = [name for name in CONTENDERS if not arguments["only"] or name in arguments["only"]]
    found: Results = {"rows": rows, "data": folder.name.partition("-")[0], "built": {}}
    for name in chosen:
        found["built"][name] = built(name, arguments)
    names = [name for name in chosen if "build_s" in found["built"][name]]
    with one_thread():
        runs = in_turns("bench.search", [f"vectors {name}" for name in names], arguments, rounds)
        found["vectors"] = {name: nested(runs[f"vectors {name}"]) for name in names}
        found["first_answer"] = {
            name: first_answer(folder / name / "table.db", TASK, Corpus(folder).queries[0].tolist(), max(rounds, 3))
            for name in names
            if name.startswith("lockstep")
        }
        found["words"] = by_words(arguments, rounds)
        if found["data"] == "real":
            found["documents"] = run_child("bench.search", "documents", arguments)
            found["filter_json"] = nested(run_child("bench.search", "filter json", arguments))
        found["while_syncing"] = {
            name: run_child("bench.search", f"live {name}", arguments) for name in names if name.startswith("lockstep")
        }
    return found


def by_words(arguments: Results, rounds: int) -> Results:
    """Keyword and hybrid searches beside a bare full-text index of SQLite's."""
    found: Results = {"built": run_child("bench.search", "texts", arguments)}
    modes = [f"words {mode}" for mode in judged_modes() if mode != "vector"] + ["words fts5"]
    runs = in_turns("bench.search", modes, arguments, rounds)
    return found | {mode.removeprefix("words "): figures for mode, figures in runs.items()}


def nested(flat: Mapping[str, Any]) -> Results:
    """Figures named `filter: figure`, each filter's together."""
    found: Results = {}
    for key, value in flat.items():
        label, _, name = key.rpartition(": ")
        (found.setdefault(f"filter {label}", {}) if label else found)[name] = value
    return found


def main() -> None:
    if serve_child(CHILDREN):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="", help=f"rows, with commas between; default: {SIZES}")
    parser.add_argument("--judged", type=Path, help="judged data in BEIR's layout")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps what was built; default: %(default)s")
    parser.add_argument("--only", default="", help="contenders, with commas between")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every contender; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="at most, for a set of queries; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="see whether it works")
    given, _ = parser.parse_known_args()  # bench.__main__ passes what is for others
    only = [name for name in given.only.split(",") if name]
    if unknown := set(only) - set(CONTENDERS):
        parser.error(f"no contenders: {', '.join(sorted(unknown))}; known: {', '.join(CONTENDERS)}")
    given.cache.mkdir(parents=True, exist_ok=True)
    arguments = {
        "cache": str(given.cache.resolve()),
        "judged": str(given.judged.resolve()) if given.judged else "",
        "only": only,
        "queries": 500 if given.quick else 1_000,
        "seconds_max": 5 if given.quick else given.seconds,
        "live_s": 4 if given.quick else 20,
    }
    sizes = [int(size) for size in (given.sizes or (str(SIZE_QUICK) if given.quick else SIZES)).split(",")]
    name = "search-quick" if given.quick else "search"
    for rows in sizes:
        save(f"{name}-{rows}", of_size(rows, arguments, 1 if given.quick else given.rounds), PACKAGES)
    if given.judged:
        save(f"{name}-judged", run_child("bench.search", "judge", arguments), PACKAGES)


if __name__ == "__main__":
    main()
