"""What a task may spend: a day's cap over all workers, and a cap for one sync; and the ledger of what it did spend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from lockstep.errors import BudgetSpent, ConfigError
from lockstep.storage import usage
from lockstep.storage.base import Dialect
from lockstep.storage.vectors import DAY_S, today
from lockstep.syncing.job import Job
from lockstep.types import Chunk, Usage


class Budget:
    """Says no before more is spent than allowed: what is in flight counts as if it were paid already."""

    def __init__(self, job: Job, *, max_cost: float | None = None, clock: Callable[[], float] = time.time) -> None:
        """Begin.

        Args:
            job: the task; its `max_cost_per_day` holds for all that work on it.
            max_cost: of this sync, US dollars; None for any.
            clock: seconds since 1970.

        Raises:
            ConfigError: there is a cap, and no price is known.
        """
        self._job = job
        self._max_cost = max_cost
        self._clock = clock
        self._reserved: dict[object, float] = {}
        self._spent = 0.0
        self._price = job.model.info.price_per_million_tokens if not job.model.info.local else 0.0
        if self._price is None and self._is_capped:
            raise ConfigError(
                f'Task "{job.task.name}" has a cap on its cost, and the price of model "{job.task.model}" is not known.',
                "Give its connection a price_per_million_tokens, or take the cap away.",
            )

    def reserve(self, work: object, chunks: Iterable[Chunk]) -> None:
        """Set aside what the chunks will cost, as estimated.

        Raises:
            BudgetSpent: that would be too much.
        """
        if not self._is_capped:
            return
        texts = [chunk.input for chunk in chunks if chunk.image is None]
        tokens = sum(len(ids) for ids in self._job.model.tokenizer.ids(texts))
        self._set_aside(id(work), len(texts), self._cost(tokens))

    def reserve_batch(self, name: str, texts: int, tokens: int, price: float | None) -> None:
        """Set aside what a batch of that name will cost, instead of what was set aside for it before.

        Raises:
            BudgetSpent: that would be too much; what was set aside for it before still is.
        """
        if self._is_capped:
            self._set_aside(name, texts, tokens * (price or 0.0) / 1e6)

    def expect_batch(self, name: str, tokens: int, price: float | None) -> None:
        """Set aside what a batch will cost that was sent already, whether or not there is money for it."""
        self._reserved[name] = tokens * (price or 0.0) / 1e6

    def note_batch(self, connection: Connection, name: str, used: Usage, price: float | None) -> float:
        """Write what a part of a batch cost into the ledger, with what was bought; returns US dollars."""
        cost = used.tokens * (price or 0.0) / 1e6
        if name in self._reserved:
            self._reserved[name] = max(0.0, self._reserved[name] - cost)
        self._spent += cost
        day, task = today(self._clock()), self._job.task.name
        usage.record(connection, day, task, self._job.model.identity, "batch", used, cost)
        return cost

    def release(self, name: str) -> None:
        """Give back what is set aside for a batch that has ended."""
        self._reserved.pop(name, None)

    def _set_aside(self, work: object, texts: int, cost: float) -> None:
        """Set aside what a piece of work will cost, unless that would be too much."""
        if not cost:
            return
        ahead = sum(amount for of, amount in self._reserved.items() if of != work) + cost
        cap = self._job.task.max_cost_per_day
        if cap is not None and (spent := self._spent_today()) + ahead > cap:
            raise BudgetSpent(
                f'Task "{self._job.task.name}" may cost ${cap:g} a day; ${spent:.4f} are spent today and the next '
                f"{texts} texts would cost about ${ahead:.4f}.",
                "It goes on tomorrow (UTC), or when its max_cost_per_day is raised.",
                until=(today(self._clock()) + 1) * DAY_S,
            )
        if self._max_cost is not None and self._spent + ahead > self._max_cost:
            raise BudgetSpent(
                f'This sync may cost ${self._max_cost:g}; task "{self._job.task.name}" spent ${self._spent:.4f} and the '
                f"next {texts} texts would cost about ${ahead:.4f}.",
                "Sync again with another max_cost; what is embedded stays.",
            )
        self._reserved[work] = cost

    def note(self, connection: Connection, work: object, used: Usage) -> float:
        """Write what was spent into the ledger, with what was bought; returns US dollars."""
        self._reserved.pop(id(work), None)
        cost = self._cost(used.tokens)
        self._spent += cost
        day, task = today(self._clock()), self._job.task.name
        usage.record(connection, day, task, self._job.model.identity, "sync", used, cost)
        return cost

    @property
    def _is_capped(self) -> bool:
        return self._max_cost is not None or self._job.task.max_cost_per_day is not None

    def _cost(self, tokens: int) -> float:
        return tokens * (self._price or 0.0) / 1e6

    def _spent_today(self) -> float:
        dialect: Dialect = self._job.dialect
        with dialect.begin(write=False) as connection:
            return usage.spent(connection, self._job.task.name, today(self._clock()))[0]


class Purse:
    """What the tasks of one sync may cost together."""

    def __init__(self, cost: float | None) -> None:
        self.cost = cost
        self.lock = threading.Lock()
        self.budgets: list[SharedBudget] = []


class SharedBudget(Budget):
    """A task's budget, within that of the whole sync: what other tasks spent or have in flight is not there any more."""

    def __init__(self, job: Job, purse: Purse) -> None:
        super().__init__(job, max_cost=purse.cost)
        self._purse = purse
        purse.budgets.append(self)

    def _set_aside(self, work: object, texts: int, cost: float) -> None:
        with self._purse.lock:
            if self._purse.cost is not None:
                others = (each for each in self._purse.budgets if each is not self)
                self._max_cost = max(0.0, self._purse.cost - sum(each.taken for each in others))
            super()._set_aside(work, texts, cost)

    @property
    def taken(self) -> float:
        """US dollars, spent or set aside."""
        return self._spent + sum(list(self._reserved.values()))
