"""Processes that work is done in: what they are told, what they are not told, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.errors import SourceUnavailable
from lockstep.extracting.apart import Died, Limits, Pool, serving
from lockstep.extracting.apart.pool import HERE

PROGRAM = """
import json, os, sys, time
def make(limits):
    def answer(request):
        print("noise")
        if request == b"spin":
            while True: pass
        if request == b"exit":
            os._exit(3)
        if request == b"raise":
            raise ValueError
        if request == b"eat":
            return bytes(1 << 40)
        return json.dumps([request.decode(), dict(os.environ), limits, "site" in sys.modules, os.getpid()]).encode()
    return answer
"""


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    (tmp_path / "program.py").write_text(PROGRAM)
    limits = Limits(seconds=0.3, address_space=1 << 30)
    # Any package will do: it is only looked for.
    return Pool(str(tmp_path / "program.py"), "jinja2", "It", "extra", limits, {"own": 1})


def test_a_process_knows_nothing_of_this_one(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key in the environment reaches what a user wrote, and what is printed stands not between the answers."""
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    request, environment, limits, has_site, _ = json.loads(pool.ask(b"hello"))
    assert (request, has_site) == ("hello", False)
    assert "planted" not in str(environment)
    assert limits == {"own": 1, "seconds": 0.3, "address_space": 1 << 30}


def test_a_process_is_used_again_until_it_dies(pool: Pool) -> None:
    """One process for one thread, and another after each death; only its own alarm counts as too much time."""
    first = json.loads(pool.ask(b""))[4]
    assert json.loads(pool.ask(b"x" * 1_000_000))[4] == first
    for request, out_of_time in ((b"spin", True), (b"exit", False), (b"raise", False), (b"eat", False)):
        with pytest.raises(Died) as raised:
            pool.ask(request)
        assert raised.value.out_of_time is (out_of_time or (raised.value.code == 1 and sys.platform == "win32"))
        assert json.loads(pool.ask(b""))[4] != first


def test_after_a_fork_the_processes_are_the_parents(pool: Pool) -> None:
    """Two that speak to one process would read each other's answers."""
    mine = json.loads(pool.ask(b""))[4]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(json.loads(pool.ask(b""))[4]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 100)) != mine
    assert json.loads(pool.ask(b""))[4] == mine
    os.close(reading)
    os.close(writing)


def test_where_no_process_can_be_started_the_error_says_so(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync waits, and tries again."""
    monkeypatch.setattr(pool, "_command", ["/nowhere/python", "", "", "", "program.py"])
    with pytest.raises(SourceUnavailable, match="program cannot be started: No such file"):
        pool.ask(b"")


def test_without_a_timer_the_clock_ends_a_process(tmp_path: Path) -> None:
    """As on Windows: it ends with 1, whatever it is at."""
    (tmp_path / "program.py").write_text(PROGRAM)
    settings = json.dumps({"seconds": 0.3, "address_space": 0})
    code = f"import runpy, signal, sys; del signal.setitimer; runpy.run_path({str(HERE / 'serving.py')!r}, run_name='__main__')"
    requests = b"".join(serving.HEAD.pack(len(request)) + request for request in (b"first", b"spin"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "program.py"), str(tmp_path), settings],
        input=requests,
        capture_output=True,
    )
    assert done.returncode == 1
    assert b'["first"' in done.stdout
