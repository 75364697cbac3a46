"""The graph whose file is in place now: noticed, checked beside the searches, and taken over when it is right."""

from __future__ import annotations

import threading
from pathlib import Path

from lockstep.searching.index.files import Stamp, stamp_of
from lockstep.searching.index.graph import Graph, open_graph
from lockstep.searching.index.graph_file import Unusable

AT_ONCE_BYTES = 1 << 24  # what is smaller is checked by the search that notices it: that takes some milliseconds


class GraphInPlace:
    """Follows a file that any process may replace. Safe for several threads."""

    def __init__(self, path: Path, identity: str, dimensions: int) -> None:
        self._path = path
        self._identity = identity
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._graph: Graph | None = None
        self._checking: threading.Thread | None = None
        self.problem = "there is none yet"
        """Why there is no graph; empty where there is one."""

    def current(self) -> Graph | None:
        """The graph to search now; None where there is none, or it is still being checked."""
        found = stamp_of(self._path)
        with self._lock:
            if found != self._seen:
                self._notice(found)
            return self._graph

    def set_aside(self, problem: str) -> None:
        """Use no graph until another file is in place."""
        with self._lock:
            self._graph, self.problem = None, problem

    def settle(self) -> None:
        """Wait until a file that is being checked is known to be right or wrong."""
        checking = self._checking
        if checking is not None:
            checking.join()

    def _notice(self, found: Stamp | None) -> None:
        before, self._seen = self._seen, found
        if found is None:
            self._graph, self.problem = None, "there is none yet"
            return
        if before is not None and found.inode == before.inode:
            self._graph = None  # somebody wrote into the very file that is mapped
        if self._graph is None:
            self.problem = "it is being checked"
        if found.size <= AT_ONCE_BYTES:
            self._take(found, *self._opened())
            return
        # A daemon: nothing is lost when the process ends meanwhile.
        self._checking = threading.Thread(target=self._check, args=(found,), name="lockstep-graph", daemon=True)
        self._checking.start()

    def _check(self, found: Stamp) -> None:
        graph, problem = self._opened()
        with self._lock:
            self._take(found, graph, problem)

    def _opened(self) -> tuple[Graph | None, str]:
        try:
            return open_graph(self._path, self._identity, self._dimensions), ""
        except Unusable as exc:
            return None, str(exc)

    def _take(self, found: Stamp, graph: Graph | None, problem: str) -> None:
        if found == self._seen:
            self._graph, self.problem = graph, problem
