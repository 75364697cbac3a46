"""How fast is a sync through a provider: against latency, against rate limits, and when nothing holds it up?

    python -m bench.providers [--quick] [SCENARIO ...]

The provider is the chaos server in a process of its own; everything else is the whole way, from rows to stored vectors.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import lockstep
from bench.harness import in_turns, run_child, save, serve_child
from bench.sync import fill, text_of

MODEL = "fake-provider:embedder?dimensions=384"
REQUESTS_PER_MINUTE = 3000
TOKENS_PER_MINUTE = 1_000_000
RECOVERY_S = 10.0


class Server:
    """The chaos server's process."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lockstep.testing.chaos", "--dimensions", "384", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()

    def counters(self) -> dict[str, Any]:
        """What it has counted."""
        with urllib.request.urlopen(f"{self.url}/chaos") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def command(self, **command: Any) -> None:
        """Set limits and faults."""
        request = urllib.request.Request(f"{self.url}/chaos", json.dumps(command).encode(), method="POST")
        urllib.request.urlopen(request).close()


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """A server, for as long as the context lasts."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def prepare(folder: Path, server: Server, rows: int, texts_per_request: int) -> Path:
    """A table with a task on it."""
    path = folder / "things.db"
    fill(path, rows)
    with lockstep.open(path) as db:
        db.add_connection("fake-provider", "openai", server.url, texts_per_request=texts_per_request)
        db.add_task("things", source="things", fields=["text"], model=MODEL)
    return path


def synced(folder: Path, server: Server, rows: int, texts_per_request: int) -> float:
    """Sync; seconds that it took."""
    path = prepare(folder, server, rows, texts_per_request)
    with lockstep.open(path) as db:
        started = time.perf_counter()
        stats = db.sync().total
        seconds = time.perf_counter() - started
    assert stats.embedded == rows, stats
    return seconds


def latency(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """200 ms an answer, 32 requests in flight: ideally, none of the 32 places is ever empty."""
    requests = arguments["requests"]
    with serving("--latency-ms", "200") as server:
        alone_s = round_trip_s(server)
        seconds = synced(folder, server, 16 * requests, 16)
        counted = server.counters()
    return {
        "of_ideal": requests / 32 * alone_s / seconds,
        "seconds": seconds,
        "one_request_ms": 1000 * alone_s,
        "in_flight_max": counted["in_flight_max"],
    }


def round_trip_s(server: Server) -> float:
    """What one request takes that is alone, by the standard library's client on an open connection; median of 15."""
    body = json.dumps({"model": "m", "input": [text_of(n) for n in range(16)], "encoding_format": "base64"})
    client = http.client.HTTPConnection(server.url.removeprefix("http://"))
    times = []
    for _ in range(15):
        started = time.perf_counter()
        client.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
        client.getresponse().read()
        times.append(time.perf_counter() - started)
    client.close()
    return statistics.median(times)


def at_once(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A server that answers at once: what Lockstep itself can do."""
    with serving() as server:
        seconds = synced(folder, server, arguments["texts"], 128)
    return {"texts_per_s": arguments["texts"] / seconds, "seconds": seconds}


def at_once_by_hand(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """What people write instead: OpenAI's own client in 32 threads, vectors into a table. It follows no change, knows no
    vector when it runs again, and has no limit but 32.
    """
    import openai

    rows = arguments["texts"]
    connection = sqlite3.connect(folder / "by_hand.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB)")
    with serving() as server:
        client = openai.OpenAI(api_key="x", base_url=f"{server.url}/v1")

        def embed(numbers: range) -> list[tuple[int, bytes]]:
            answer = client.embeddings.create(model="m", input=[text_of(n) for n in numbers])
            vectors = [np.array(item.embedding, np.float32).tobytes() for item in answer.data]
            return list(zip(numbers, vectors, strict=True))

        started = time.perf_counter()
        with ThreadPoolExecutor(32) as pool:
            parts = [range(start, min(start + 128, rows)) for start in range(0, rows, 128)]
            for found in pool.map(embed, parts):
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO vectors VALUES (?, ?)", found)
                connection.execute("COMMIT")
        seconds = time.perf_counter() - started
    connection.close()
    return {"texts_per_s": rows / seconds, "seconds": seconds}


def few(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same with a tenth of the texts, for the memory it takes."""
    return at_once(folder, {"texts": arguments["texts"] // 10})


def requests_limit(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """3,000 requests a minute, said in the answers' headers."""
    return limited(folder, arguments["seconds"], "--requests-per-minute", str(REQUESTS_PER_MINUTE))


def silent_requests_limit(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same by a server whose headers do not say so."""
    return limited(
        folder, arguments["seconds"], "--requests-per-minute", str(REQUESTS_PER_MINUTE), "--no-limit-headers"
    )


def tokens_limit(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """1,000,000 tokens a minute, said in the headers."""
    return limited(folder, arguments["seconds"], "--tokens-per-minute", str(TOKENS_PER_MINUTE))


def limited(folder: Path, seconds: float, *limits: str) -> dict[str, Any]:
    """Sync for so long against a limit; the share of what it allows, and of requests that were too many."""
    with serving("--latency-ms", "50", *limits) as server, running(folder, server):
        # The first second fills what may come at once; the rate is that of the time after it.
        time.sleep(2.0)
        before, started = server.counters(), time.perf_counter()
        time.sleep(seconds)
        after, took = server.counters(), time.perf_counter() - started
    return share(before, after, took, 1.0)


def halved(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The limit of 3,000 requests halves; how it goes 10 s later."""
    return recovery(folder, arguments["seconds"])


def silently_halved(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same by a server whose headers do not say so."""
    return recovery(folder, arguments["seconds"], "--no-limit-headers")


def recovery(folder: Path, seconds: float, *options: str) -> dict[str, Any]:
    """The rate and the refusals from 10 s after the limit was halved."""
    limits = ("--latency-ms", "50", "--requests-per-minute", str(REQUESTS_PER_MINUTE), *options)
    with serving(*limits) as server, running(folder, server):
        time.sleep(10.0)
        server.command(limits={"requests_per_minute": REQUESTS_PER_MINUTE // 2})
        halved_at = server.counters()
        time.sleep(RECOVERY_S)
        before, started = server.counters(), time.perf_counter()
        time.sleep(seconds)
        after, took = server.counters(), time.perf_counter() - started
    meanwhile = count(before, "429") - count(halved_at, "429")
    return {**share(before, after, took, 0.5), "refused_while_recovering": meanwhile}


@contextmanager
def running(folder: Path, server: Server) -> Iterator[None]:
    """A sync that has more to do than there is time."""
    path = prepare(folder, server, 120_000, 16)
    stop = threading.Event()
    with lockstep.open(path) as db:
        thread = threading.Thread(target=lambda: db.sync(stop=stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def share(before: dict[str, Any], after: dict[str, Any], seconds: float, of_limit: float) -> dict[str, Any]:
    """What was got through, as a share of the limit that binds."""
    requests = (after["paid_requests"] - before["paid_requests"]) / seconds
    tokens = (after["paid_tokens"] - before["paid_tokens"]) / seconds
    refused = count(after, "429") - count(before, "429")
    answered = after["paid_requests"] - before["paid_requests"] + refused
    by_requests = requests / (of_limit * REQUESTS_PER_MINUTE / 60)
    by_tokens = tokens / (of_limit * TOKENS_PER_MINUTE / 60)
    return {
        "of_requests_limit": by_requests,
        "of_tokens_limit": by_tokens,
        "refused": refused / max(answered, 1),
    }


def count(counters: dict[str, Any], status: str) -> int:
    """How often a status was answered."""
    return int(counters["answered"].get(status, 0))


def killed(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Kill -9 in the middle, and again from there: how many texts were paid twice?"""
    rows = arguments["texts"]
    with serving("--latency-ms", "200") as server:
        path = prepare(folder, server, rows, 16)
        command = [sys.executable, "-c", f"import lockstep; lockstep.open({str(path)!r}).sync()"]
        process = subprocess.Popen(command)
        while server.counters()["paid_texts"] < rows / 2:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with lockstep.open(path) as db:
            stats = db.sync().total
            problems = db.check()
        counted = server.counters()
    assert not problems, problems
    return {"texts": rows, "paid_twice": counted["texts_paid_twice"], "embedded_after": stats.embedded}


CHILDREN = {
    each.__name__: each
    for each in (
        latency,
        at_once,
        at_once_by_hand,
        few,
        requests_limit,
        silent_requests_limit,
        tokens_limit,
        halved,
        silently_halved,
        killed,
    )
}

IN_TURNS = ("latency", "at_once", "at_once_by_hand", "few")


def main() -> None:
    quick = "--quick" in sys.argv
    arguments = {
        "requests": 800 if quick else 4000,
        "texts": 20_000 if quick else 100_000,
        "seconds": 5 if quick else 30,
    }
    wanted = [name for name in sys.argv[1:] if name in CHILDREN]
    found: dict[str, Any] = {}
    for name in wanted or [name for name in CHILDREN if name not in IN_TURNS]:
        found[name] = run_child("bench.providers", name, arguments)
        print(name, {key: round(value, 4) for key, value in found[name].items()}, file=sys.stderr)
    if not wanted:
        found |= in_turns("bench.providers", IN_TURNS, arguments, 1 if quick else 3)
        save("providers", found, ["httpx", "openai"])


if __name__ == "__main__" and not serve_child(CHILDREN):
    main()
