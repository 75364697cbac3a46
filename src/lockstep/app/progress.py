"""The progress bar of a sync: texts per second and time left, on stderr, only where a person watches."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from lockstep.syncing.stats import Progress

RATE_AFTER_S = 0.5  # a rate over less time says nothing


class SyncBar:
    """A bar for every task that reports; `clear` it before printing anything else."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._bar: RichProgress | None = None
        self._rows: dict[str, tuple[TaskID, float, int]] = {}

    def __enter__(self) -> SyncBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        """How far a task has come; what `sync` takes as `progress`."""
        if not self._watched:
            return
        bar, now = self._started(), time.perf_counter()
        if progress.task not in self._rows:
            row = bar.add_task(progress.task, total=progress.total, rate="", unit=progress.unit)
            self._rows[progress.task] = (row, now, progress.texts)
        row, since, texts_before = self._rows[progress.task]
        seconds = now - since
        rate = f"{(progress.texts - texts_before) / seconds:,.0f} texts/s" if seconds > RATE_AFTER_S else ""
        bar.update(row, completed=progress.done, total=progress.total, rate=rate, unit=progress.unit)

    def clear(self) -> None:
        """Take the bars away; the next `show` begins new ones."""
        if self._bar:
            self._bar.stop()
        self._bar = None
        self._rows = {}

    def _started(self) -> RichProgress:
        if self._bar is None:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[unit]}"),
                progress.TextColumn("{task.fields[rate]}"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,  # it would send results to stderr
                redirect_stderr=False,
            )
            self._bar.start()
        return self._bar
