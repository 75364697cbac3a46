"""The installed command, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 60


def start(folder: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
    """Begin a command in a folder, away from any terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "lockstep", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(folder: Path, *words: object, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run a command that must end with `code`; returns stdout and stderr."""
    process = start(folder, *words, **environment)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, f"exit {process.returncode}, expected {code}\n{out}\n{err}"
    assert "Traceback" not in err
    return out, err


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
