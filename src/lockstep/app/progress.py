"""The progress bar of a sync: texts per second and time left, on stderr, only where a person watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lockstep.app.output import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from lockstep.syncing.stats import Progress

RATE_AFTER_S = 0.5  # a rate over less time says nothing


@contextmanager
def sync_progress() -> Iterator[Callable[[Progress], None] | None]:
    """What to hand to `sync` as `progress`; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("documents"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        waiting: TaskID | None = bar.add_task("Opening the model …", total=None, rate="")
        rows: dict[str, TaskID] = {}
        since = time.perf_counter()  # of the task in work: they follow each other

        def show(progress: Progress) -> None:
            nonlocal waiting, since
            now = time.perf_counter()
            if waiting is not None:
                bar.remove_task(waiting)
                waiting = None
            if progress.task not in rows:
                rows[progress.task] = bar.add_task(printable(progress.task), total=progress.total, rate="")
            rate = f"{progress.texts / (now - since):,.0f} texts/s" if now - since > RATE_AFTER_S else ""
            bar.update(rows[progress.task], completed=progress.done, total=progress.total, rate=rate)
            if progress.done >= progress.total:
                since = now

        yield show
