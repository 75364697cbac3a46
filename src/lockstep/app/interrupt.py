"""Ctrl-C and SIGTERM: a long command ends within two seconds, whatever its model is doing, and loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lockstep.app import exits
from lockstep.app.output import note

GRACE_S = 1.5
MESSAGE = "Stopped. Nothing is lost; the next sync goes on from here."


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that the first signal sets; the process ends when the work has not stopped in time.

    The batches in work are under leases of this process, which are void once it is gone. A thread of its own hears the
    signal: Python's handlers run in the main thread, which may be waiting for the database's lock.
    """
    stop, done = threading.Event(), threading.Event()
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    before_fd = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    threading.Thread(target=listen, args=(ear, stop, done), daemon=True).start()
    try:
        yield stop
    finally:
        done.set()
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        mouth.close()
    if stop.is_set():
        leave()


def listen(ear: socket.socket, stop: threading.Event, done: threading.Event) -> None:
    """Wait for a signal; then give the work a moment to end by itself."""
    with ear:
        heard = ear.recv(1)
    if heard and not done.is_set():
        stop.set()
        if not done.wait(GRACE_S):
            leave()


def leave() -> None:
    """End at once: threads that wait for a model would hold up an ordinary exit."""
    if sys.stderr.isatty():
        # A progress bar hides the cursor, and will not live to show it again.
        sys.stderr.write("\r\x1b[2K\x1b[?25h")
    with suppress(OSError):  # a closed terminal must not keep us from ending
        note(MESSAGE)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exits.INTERRUPTED)
