"""The part of `Database` that looks after indexes: builds them, says how they stand, how good they are, and which to take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.indexing import Indexing, IndexReport, IndexStatus
from lockstep.searching.filters import Where
from lockstep.searching.index import index_folder
from lockstep.storage.base import Dialect
from lockstep.syncing.stats import Progress
from lockstep.tasks import Tasks

if TYPE_CHECKING:
    from lockstep.advising import Advice, GraphCost
    from lockstep.evaluate.contenders import Ways
    from lockstep.evaluate.results import Evaluation


class Indexes:
    """Looks after the indexes of tasks; docs/index.md tells of them."""

    _dialect: Dialect
    _tasks: Tasks
    _ways: Ways

    def build_index(
        self,
        task: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> IndexReport:
        """Build the graph of a task that asks for one, beside the one that serves; `sync` does so by itself.

        Args:
            task: its name.
            progress: told how far it has come, every few thousand vectors.
            stop: set it from another thread to end early (`Stopped`); what was there stays.

        Raises:
            ConfigError: the task does not ask for a graph, or there can be none.
            StoreError: there is too little memory or room on the disk, nothing to build from, or it is being built.
            UnknownName: there is no such task.
        """
        from lockstep.advising import check_disk

        check_disk(self.index_cost(task), index_folder(self._dialect.location))
        return Indexing(self._dialect, self._tasks).build(task, progress, stop)

    def index_status(self, task: str) -> IndexStatus:
        """What there is of a task's index, and what answers searches; reads a graph's file once, to see if it is whole.

        Raises:
            UnknownName: there is no such task.
        """
        return Indexing(self._dialect, self._tasks).status(task)

    def index_cost(self, task: str) -> GraphCost:
        """What the graph of a task takes to build, with its settings, or those it would have; nothing is built.

        Raises:
            UnknownName: there is no such task.
        """
        from lockstep.advising import graph_cost
        from lockstep.storage import embeddings

        stored = self._tasks.find(task)
        with self._dialect.begin(write=False) as connection:
            count = embeddings.count(connection, stored.recipe_id)
        settings = self._tasks.task(stored).index
        return graph_cost(count, stored.space.dimensions, settings, Path(index_folder(self._dialect.location)))

    def index_recall(
        self,
        task: str,
        queries: Any = None,
        *,
        k: int = 10,
        sample: int = 200,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """How much of the exact first k the index finds, and how long searches take; `evaluate` without judgements.

        Args:
            task: its name.
            queries: texts by id, a list of texts, or the path of a file; the task's own chunks when not given.
            k: documents wanted.
            sample: how many of its chunks, where these are searched with.
            progress: told how many searches are done, and of how many.

        Returns:
            An evaluation with the score `index_recall@k`.

        Raises:
            QueryError: the task is paused or has nothing embedded, or a number is out of range.
            UnknownName: there is no such task.
        """
        from lockstep.evaluate.evaluating import evaluate

        return evaluate(self._ways, task, queries, k=k, sample=sample, progress=progress)

    def advise_index(
        self,
        task: str,
        *,
        where: Where | Sequence[Where] | None = None,
        queries: Any = None,
        k: int = 10,
        sample: int = 100,
        seconds: float = 60.0,
        progress: Callable[[str], None] | None = None,
    ) -> Advice:
        """Which index suits a task, with how many candidates, and which indexes its filters lack. Nothing is changed.

        Searches are measured against exact ones, with growing numbers of candidates; what a graph would take and gain is
        estimated where there is none.

        Args:
            task: its name.
            where: filters that searches have; what each costs is measured.
            queries: as for `index_recall`; of many, a sample.
            k: documents wanted in each search.
            sample: how many queries, at most.
            seconds: after which measuring ends; the advice says so.
            progress: told what is being measured.

        Raises:
            QueryError: the task is paused or has nothing embedded, a filter is wrong, or a number is out of range.
            UnknownName: there is no such task, or field.
        """
        from lockstep.advising.advise import advise_index

        return advise_index(
            self._ways, task, where=where, queries=queries, k=k, sample=sample, seconds=seconds, progress=progress
        )
