"""Threads that wait for answers: in order, no more than allowed, gone with their pool, and no obstacle to the end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from lockstep.models.remote.threads import Threads


def test_everything_is_done_by_no_more_threads_than_allowed() -> None:
    """Results and exceptions reach whoever asked."""
    pool, names = Threads(3, "test"), set[str]()

    def double(number: int) -> int:
        names.add(threading.current_thread().name)
        if number == 7:
            raise ValueError("seven")
        return 2 * number

    futures = [pool.submit(double, number) for number in range(50)]
    assert [future.result() for future in futures if future is not futures[7]] == [2 * n for n in range(50) if n != 7]
    with pytest.raises(ValueError, match="seven"):
        futures[7].result()
    assert names <= {"test_0", "test_1", "test_2"}
    pool.close()


def test_as_many_threads_work_as_there_is_work_for() -> None:
    """Also when they were busy one after the other before."""
    pool, together = Threads(4, "test"), threading.Barrier(4)
    for _ in range(3):
        for future in [pool.submit(int) for _ in range(20)]:
            future.result()
    assert {future.result() for future in [pool.submit(together.wait, 10) for _ in range(4)]} == {0, 1, 2, 3}
    pool.close()


def test_closing_cancels_what_nobody_has_begun() -> None:
    """What is being done is done to its end."""
    pool, begun, go_on = Threads(1, "test"), threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        go_on.wait(10)
        return "done"

    first, second = pool.submit(wait), pool.submit(wait)
    begun.wait(10)
    pool.close()
    go_on.set()
    assert first.result(10) == "done"
    assert second.cancelled()


def test_threads_end_with_a_pool_that_nobody_closed() -> None:
    """A model without a database leaves none behind."""
    pool = Threads(4, "forgotten")
    for future in [pool.submit(int) for _ in range(8)]:
        future.result()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("forgotten")]
    assert threads
    del pool, future
    gc.collect()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_program_ends_though_an_answer_never_comes() -> None:
    """A thread that waits is no reason to wait."""
    code = (
        "import threading; from lockstep.models.remote.threads import Threads; "
        "Threads(1, 'x').submit(threading.Event().wait); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "end\n"
