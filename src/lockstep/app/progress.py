"""Progress bars, on stderr and only where a person watches: of a sync, and of a model that a service fetches."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lockstep.app.output import printable

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from lockstep.syncing.stats import Progress

RATE_AFTER_S = 0.5  # a rate over less time says nothing
ROWS_MAX = 20  # a model has fewer parts


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
        seconds, texts = now - since, progress.texts - texts_before
        rate = f"{texts / seconds:,.0f} texts/s" if texts and seconds > RATE_AFTER_S else ""
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


class PullBar:
    """A bar of bytes for each thing that is fetched."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> PullBar:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """How far one thing has come; `total` is 0 where it has no size."""
        if self._bar is None:
            return
        if what not in self._rows and len(self._rows) < ROWS_MAX:
            self._rows[what] = self._bar.add_task(printable(what), total=total or None)
        if what in self._rows:
            self._bar.update(self._rows[what], completed=done, total=total or None)
