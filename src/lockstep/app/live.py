"""How tasks stand, again and again: a screen that a person watches, or a line for every change."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from lockstep.app.output import as_json, duration, line, money, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lockstep.syncing.status import TaskStatus

REFRESH_S = 1.0
RATE_OVER_S = 10.0
LOOK_SHARE_MAX = 0.2  # of the time may be spent on counting: with millions of rows one look takes a while
BAR_CELLS = 24
COLOURS = {"running": "green", "idle": "dim", "paused": "yellow", "waiting": "cyan", "backing off": "red"}
MOVING = {"oldest_pending_s"}
"""Fields that change by the mere passing of time."""

Look = Callable[[], list["TaskStatus"]]


class Rates:
    """Documents per second over the last seconds, by task."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def add(self, now: float, found: list[TaskStatus]) -> None:
        """Note how far the tasks have come.

        Args:
            now: in seconds, on any clock.
            found: their status.
        """
        for one in found:
            seen = self._seen.setdefault(one.task, deque())
            seen.append((now, one.synced))
            while len(seen) > 2 and seen[1][0] <= now - RATE_OVER_S:
                seen.popleft()

    def of(self, task: str) -> float | None:
        """None until there is something to compare with."""
        seen = self._seen.get(task, deque())
        if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
            return None
        return max(0.0, (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]))


class Watched:
    """What is known, looked up no more often than that costs little."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._next_at = 0.0
        self.found: list[TaskStatus] = []
        self.rates = Rates()

    def refresh(self) -> None:
        """Look again, if it is time."""
        began = time.monotonic()
        if began < self._next_at:
            return
        self.found = self._look()
        ended = time.monotonic()
        self.rates.add(ended, self.found)
        self._next_at = began + max(REFRESH_S, (ended - began) / LOOK_SHARE_MAX)


def watch_screen(look: Look) -> NoReturn:
    """Show the tasks on the terminal, until somebody presses Ctrl-C.

    Raises:
        KeyboardInterrupt: they did.
    """
    from rich.console import Console
    from rich.live import Live

    watched = Watched(look)
    watched.refresh()
    with Live(screen_of(watched), console=Console(), auto_refresh=False, redirect_stderr=False) as live:
        while True:
            live.update(screen_of(watched), refresh=True)
            time.sleep(REFRESH_S)
            watched.refresh()


def watch_lines(look: Look, *, json: bool) -> NoReturn:
    """Print a line for every change, until somebody presses Ctrl-C.

    Args:
        look: gives the status of the tasks.
        json: lines for a program.

    Raises:
        KeyboardInterrupt: they did.
    """
    watched = Watched(look)
    shown: dict[str, Any] = {}
    while True:
        watched.refresh()
        for one in watched.found:
            fields = {name: value for name, value in asdict(one).items() if name not in MOVING}
            if shown.get(one.task) != fields:
                shown[one.task] = fields
                if json:
                    as_json(asdict(one), lines=True)
                else:
                    line(f"{datetime.now().astimezone():%H:%M:%S}  {describe(one, time.time())}")
        time.sleep(REFRESH_S)


def screen_of(watched: Watched) -> RenderableType:
    """Everything at one moment."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not watched.found:
        return Text("There are no tasks.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("task", "state", "progress"):
        table.add_column(head, no_wrap=head != "task")
    for head in ("documents", "waiting", "failed", "per s", "hits", "lag", "today"):
        table.add_column(head, justify="right", no_wrap=True)
    now = time.time()
    for one in watched.found:
        rate = watched.rates.of(one.task)
        table.add_row(
            Text(printable(one.task)),
            Text(one.state, style=COLOURS.get(one.state, "")),
            bar_of(one),
            f"{one.documents:,}",
            f"{one.pending:,}",
            Text(f"{one.failed:,}", style="red" if one.failed else ""),
            "-" if rate is None else f"{rate:,.0f}",
            "-" if one.hit_rate is None else f"{one.hit_rate:.0%}",
            "-" if one.oldest_pending_s is None else duration(one.oldest_pending_s),
            money(one.cost_today),
        )
    reasons = [
        Text(printable(f"{one.task}: {text}"), style="yellow")
        for one in watched.found
        for text in (reason(one, now), building(one, now))
        if text
    ]
    clock = Text(f"{datetime.now().astimezone():%H:%M:%S}  Ctrl-C ends this view, and nothing else.", style="dim")
    return Group(table, *reasons, clock)


def bar_of(one: TaskStatus) -> RenderableType:
    """Embedded, failed and waiting documents as parts of a bar."""
    from rich.text import Text

    done, failed = cells([one.embedded, one.failed, one.pending], BAR_CELLS)[:2]
    bar = Text("━" * done, style="green")
    bar.append("━" * failed, style="red")
    bar.append("━" * (BAR_CELLS - done - failed), style="dim")
    # Rounded down: 100% is when nothing is missing.
    return bar.append(f" {100 * one.embedded // one.documents:>3}%" if one.documents else "    -")


def cells(parts: list[int], width: int) -> list[int]:
    """How many cells of a bar each part takes: what is there has one at least, and what is not complete looks so."""
    whole = sum(parts)
    if not whole:
        return [0 for _ in parts]
    found = [max(1, width * part // whole) if part else 0 for part in parts]
    found[found.index(max(found))] += width - sum(found)
    return found


def describe(one: TaskStatus, now: float) -> str:
    """A task's status on one line."""
    parts = [f"{one.embedded:,} of {one.documents:,} embedded", f"{one.pending:,} waiting", f"{one.failed:,} failed"]
    more = "".join(f"; {text}" for text in (reason(one, now), building(one, now)) if text)
    return f"{one.task}: {one.state}, {', '.join(parts)}{more}"


def building(one: TaskStatus, now: float) -> str:
    """How far an edit is, and what its gate says; empty when there is none."""
    if one.building is None:
        return ""
    built = f"an edit is built beside it, {one.building.embedded:,} of {one.building.documents:,} documents"
    if one.gate is None:
        return built
    again = f" Tried again at {when(one.gate.until, now)}." if one.gate.problem and one.gate.until else ""
    return f"{built}; {one.gate}{again}"


def reason(one: TaskStatus, now: float) -> str:
    """Why a task does not go on, until when, and what it met; empty when nothing holds it up."""
    if one.batch:
        return f"waits for {one.batch}"
    if not one.outage or one.state == "running":
        return ""
    if one.outage_kind == "cost":
        return f"paused until {when(one.outage_until, now)}: {one.outage}"
    if one.state == "paused":
        return f"paused: {one.outage}"
    tries = "1 try" if one.outage_tries == 1 else f"{one.outage_tries} tries"
    if one.outage_until is None or one.outage_until <= now:
        return f"backing off after {tries}, and due: the next sync tries again. {one.outage}"
    return f"backing off after {tries} until {when(one.outage_until, now)}: {one.outage}"


def when(at: float | None, now: float) -> str:
    """`14:05:10 (in 2 min 10 s)`, local time, with the date where that is another day."""
    if at is None:
        return "somebody resumes it"
    moment, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone().date()
    shown = f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"
    return f"{shown} (in {countdown(at - now)})" if at > now else shown


def countdown(seconds: float) -> str:
    """Whole seconds, and never none while there are some left."""
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 60 else duration(whole)
