"""The progress bar of a sync: texts per second and time left, on stderr, only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockstep.syncing.stats import Progress


@contextmanager
def sync_progress() -> Iterator[Callable[[Progress], None] | None]:
    """What to hand to `sync` as `progress`; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("documents"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        rows: dict[str, tuple[int, float]] = {}

        def show(progress: Progress) -> None:
            import time

            now = time.perf_counter()
            if progress.task not in rows:
                rows[progress.task] = (int(bar.add_task(progress.task, total=progress.total, rate="")), now)
            row, began = rows[progress.task]
            rate = f"{progress.texts / (now - began):,.0f} texts/s" if now - began > 0.5 else ""
            bar.update(bar.task_ids[row], completed=progress.done, total=progress.total, rate=rate)

        yield show
