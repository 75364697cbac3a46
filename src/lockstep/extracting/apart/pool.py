"""Processes that a program runs in: started when they are needed, kept for the next request, replaced when they die."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.errors import MissingExtra, SourceUnavailable
from lockstep.extracting.apart.serving import HEAD

HERE = Path(__file__).parent
CLOSING_S = 5.0
"""A process that does not end by itself within it is killed."""


class Died(Exception):
    """A process ended before it answered; `out_of_time` says whether it was its own alarm."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The process ended with {code}.")
        self.code = code
        alarm = getattr(signal, "SIGPROF", None)
        # 1 is what faulthandler exits with, where there is no such signal.
        self.out_of_time = code == (-alarm if alarm is not None else 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a process may take for one request before it dies."""

    seconds: float
    """Of processor time, where the system counts it; else by the clock."""
    address_space: int = 0
    """Bytes, all that the interpreter maps included; 0 for no limit. Enforced on Linux only."""


class Pool:
    """Processes for one program, as many as there are requests at the same time. Safe to use from several threads.

    Args:
        program: file beside this one.
        package: that it imports.
        what: that needs the package, for the error when it is missing.
        extra: that installs it.
        limits: of one request.
        settings: that the program gets, beside its limits; JSON.

    Raises:
        MissingExtra: the package is not installed.
    """

    def __init__(
        self, program: str, package: str, what: str, extra: str, limits: Limits, settings: Mapping[str, Any]
    ) -> None:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise MissingExtra(what, extra)
        options = {**settings, "seconds": limits.seconds, "address_space": limits.address_space}
        # -I and -S: no environment, no current folder, no site-packages; nothing of the user's runs by accident.
        self._command = [sys.executable, "-I", "-S", str(HERE / "serving.py"), str(HERE / program)]
        self._command += [str(Path(found.origin).parent.parent), json.dumps(options)]
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._finish = weakref.finalize(self, _close_all, self._idle, self._owner)

    def ask(self, request: bytes) -> bytes:
        """The program's answer.

        Raises:
            Died: it took too much time or memory, or crashed; the next request is answered by another process.
            SourceUnavailable: no process could be started.
        """
        process = self._take()
        try:
            answer = _ask(process, request)
        except BaseException:
            # Also when a person interrupts: what it is at is not known, and its answer would be taken for another's.
            process.kill()
            _close(process)
            raise
        with self._lock:
            self._idle.append(process)
        return answer

    def close(self) -> None:
        """End the processes that wait; a later request starts new ones."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        _close_all(idle, self._owner)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._owner != os.getpid():  # after a fork, the processes are the parent's
                self._owner = os.getpid()
                self._idle = []
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
                _close(process)
        try:
            return subprocess.Popen(  # noqa: S603 - the interpreter that runs, with a file of ours
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # No key that stands in the environment can come to a process that runs what a user wrote.
                env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
            )
        except OSError as exc:
            raise SourceUnavailable(
                f"A process for {Path(self._command[4]).stem} cannot be started: {exc.strerror}.",
                "Allow the program to start processes.",
            ) from exc


def _ask(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    # Where it dies while it is written to, reading says so.
    with contextlib.suppress(OSError):
        process.stdin.write(HEAD.pack(len(request)) + request)
        process.stdin.flush()
    head = process.stdout.read(HEAD.size)
    if len(head) == HEAD.size:
        length = HEAD.unpack(head)[0]
        answer = process.stdout.read(length)
        if len(answer) == length:
            return answer
    raise Died(process.wait())


def _close_all(processes: list[subprocess.Popen[bytes]], owner: int) -> None:
    if owner == os.getpid():
        for process in processes:
            _close(process)
        processes.clear()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Tell a process that there are no more requests, and wait until it has ended."""
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
