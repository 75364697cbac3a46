"""The process that a program runs in: it answers requests one by one, and dies of too much time or memory.

Started as a file by `pool.py`, without Lockstep and without site-packages, so that it starts in milliseconds. What it
reads from its standard input and writes to its standard output are frames: four bytes of length, then the content.

Arguments: the program's file, the folder that its package is installed in, and its limits as JSON.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

HEAD = struct.Struct("<I")


def main() -> None:
    """Load the program, and answer until there are no more requests."""
    program, packages, settings = sys.argv[1:4]
    limits = json.loads(settings)
    # Ctrl+C is for the process that asks: when it ends, so does this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.append(packages)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # Whatever a package prints must not stand between the frames.
    sys.stdout = sys.stderr
    answer = _load(program).make(limits)
    _limit_memory(limits["address_space"])
    while (request := _read(requests)) is not None:
        _alarm(limits["seconds"])
        try:
            content = answer(request)
        finally:
            _alarm(0)
        answers.write(HEAD.pack(len(content)) + content)
        answers.flush()


def _load(program: str) -> Any:
    spec = importlib.util.spec_from_file_location("program", program)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(requests: BinaryIO) -> bytes | None:
    head = requests.read(HEAD.size)
    return requests.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else None


def _alarm(seconds: float) -> None:
    """Die when the processor has been busy for so long, even where nothing asks for signals; 0 calls it off.

    Where there is no such timer (Windows), the time by the clock counts.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    elif seconds:
        # The device that swallows everything is kept open for as long as the process lives.
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
    else:
        faulthandler.cancel_dump_traceback_later()


def _limit_memory(address_space: int) -> None:
    """What is asked for beyond it is refused. No core is dumped, since documents would be in it."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none, macOS refuses some
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing is left to be tidied up
