"""Edits with a gate are judged before they serve: both recipes answer the judged queries, as users' searches would.

Models are asked, so this happens outside of write transactions. What came of it is kept in the database, and whoever
switches looks there: so any process may judge, and what changes meanwhile is noticed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from lockstep.errors import ConfigError, LockstepError, ProviderError, QueryError, SourceError, StoreError
from lockstep.evaluate.asking import ids_of
from lockstep.evaluate.contenders import Contender, Ways
from lockstep.evaluate.documents import missing_documents
from lockstep.evaluate.evaluating import DEPTH_MIN, missing_of, usable
from lockstep.evaluate.gate import Gate, Measure, Outcome, parse_gate
from lockstep.evaluate.judgements import Judgements, Queries, given_qrels, given_queries
from lockstep.models.outcome import Stopped
from lockstep.storage import embeddings, gates
from lockstep.storage.gates import NewGate
from lockstep.storage.tasks import StoredTask
from lockstep.syncing.backoff import pause_s
from lockstep.syncing.worker import is_caught_up
from lockstep.tasks import Edit

BYTES_MAX = 10_000_000
CLAIM_S = 600.0  # others that watch leave a gate to the process that judges; should it die, they try after that


class Judge:
    """Judges the edits of a database. Safe between threads."""

    def __init__(
        self,
        ways: Ways,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Prepare to judge.

        Args:
            ways: to the database, its tasks and their answers.
            clock: seconds since 1970.
            random: gives a number from [0, 1).
        """
        self._dialect = ways.dialect
        self._tasks = ways.tasks
        self._ways = ways
        self._clock = clock
        self._random = random

    # --- when an edit begins ----------------------------------------------------------------------------------------

    def plan_edit(
        self,
        name: str,
        *,
        gate: str | None = None,
        queries: Queries | None = None,
        qrels: Judgements | None = None,
        **settings: Any,
    ) -> Edit:
        """An edit with its gate, checked as far as it can be before anything is built.

        Args:
            name: of the task.
            gate: what must hold; None leaves a gate that is there, an empty text takes it away.
            queries: texts by id, or a file's path.
            qrels: judgements, or a file's path.
            **settings: that are wanted.

        Raises:
            ConfigError: the gate cannot be read, has nothing to judge, or no queries; or they are too large.
            QueryError: no query can be judged, or the source has none of the relevant documents.
            ImportInvalid: a file has another form.
        """
        edit = self._tasks.plan_edit(name, **settings)
        if not gate:
            if queries is not None or qrels is not None:
                raise ConfigError("There are judged queries, and no gate.", 'Say what must hold: "ndcg@10 >= current".')
            return replace(edit, keeps_gate=gate is None)
        parse_gate(gate)
        if edit.demand == "nothing":
            raise ConfigError(
                "A gate judges what is built before it serves, and this change takes effect at once.",
                'Leave the gate out; "lockstep evaluate" says how well the task answers.',
            )
        if queries is None or qrels is None:
            raise ConfigError("A gate needs judged queries.", "Give queries and qrels: docs/evaluate.md says how.")
        texts, grades = given_queries(queries), given_qrels(qrels)
        used, _ = usable(texts, grades)
        # Grades of 0 say as much as none.
        relevant = {query: {name: grade for name, grade in grades[query].items() if grade > 0} for query in used}
        made = NewGate(gate.strip(), used, relevant)
        size = sum(len(part.encode()) for part in made.to_json())
        if size > BYTES_MAX:
            raise ConfigError(
                f"The queries and judgements of the gate take {size / 1e6:.1f} MB; at most {BYTES_MAX / 1e6:.0f} MB are kept.",
                "Give fewer queries: a few hundred, drawn by chance, say as much.",
            )
        reader = self._tasks.trial(edit.task).reader
        with self._dialect.begin(write=False) as connection:
            missing_documents(connection, reader, relevant, edit.task.name)
        return replace(edit, gate=made)

    # --- when it has been built -------------------------------------------------------------------------------------

    def judge(self, name: str, is_over: Callable[[], bool], *, patiently: bool) -> bool:
        """Judge the edit of a task if that is due; True when an outcome was stored.

        Args:
            name: of the task.
            is_over: whether somebody asked to stop.
            patiently: leave it alone while others judge it, or until the time of its next try has come.

        Raises:
            LockstepError: it could not be judged; that is kept for `status`, with the time of the next try.
        """
        with self._dialect.begin(write=False) as connection:
            found = self._due(connection, name)
        if found is None:
            return False
        now = self._clock()
        with self._dialect.begin(write=True) as connection:
            token = gates.claim(connection, name, now + CLAIM_S, patiently=patiently, now=now)
        with self._dialect.begin(write=False) as connection:
            given, tries = gates.judged_on(connection, name), gates.problem_tries(connection, name)
        if token is None or given is None:
            return False
        try:
            outcome, last_id = self._compare(found, given, is_over)
        except Stopped:
            self._release(name, token)
            return False
        except StoreError:
            self._release(name, token)
            with self._dialect.begin(write=False) as connection:
                if self._recipe_ids(connection, name) == (
                    found.recipe_id,
                    found.next.recipe_id if found.next else None,
                ):
                    raise
            return False  # the edit has ended meanwhile
        except (ProviderError, ConfigError, QueryError, SourceError) as exc:
            self._keep_problem(name, token, exc, tries + 1)
            exc.message = f"The gate of its edit could not be judged: {exc.message}"
            raise
        assert found.next
        with self._dialect.begin(write=True) as connection:
            if self._recipe_ids(connection, name) != (found.recipe_id, found.next.recipe_id):
                return False
            return gates.keep(connection, name, token, found.next.recipe_id, last_id, to_json(outcome), self._clock())

    def _due(self, connection: Connection, name: str) -> StoredTask | None:
        """The task, if its edit would serve but for a gate that is to be judged."""
        recipes = self._tasks.recipes_of(connection, name)
        if not recipes or not recipes[0].next or not recipes[0].enabled:
            return None
        serving, building = recipes[0], recipes[0].next
        if not self._tasks.is_ready(connection, serving):
            return None
        # A recipe that serves, and has documents to embed, would be easy to beat.
        if not is_caught_up(connection, serving.recipe_id):
            return None
        return serving if gates.is_judged(connection, name, building.recipe_id) is None else None

    def _recipe_ids(self, connection: Connection, name: str) -> tuple[int | None, int | None]:
        """The recipes of a task, as they are now."""
        for each in self._tasks.recipes_of(connection, name):
            return each.recipe_id, each.next.recipe_id if each.next else None
        return None, None

    def _compare(self, stored: StoredTask, given: NewGate, is_over: Callable[[], bool]) -> tuple[Outcome, int]:
        """What comes of a gate, and the last embedding that it was judged with."""
        assert stored.next
        gate = parse_gate(given.expression)
        with self._dialect.begin(write=False) as connection:
            last_id = embeddings.last_id(connection, stored.next.recipe_id)
        found = self._means(stored.next, gate, given, is_over)
        current = self._means(stored, gate, given, is_over) if gate.is_relative else None
        return gate.check(found, current), last_id

    def _means(
        self, stored: StoredTask, gate: Gate, given: NewGate, is_over: Callable[[], bool]
    ) -> dict[Measure, float]:
        """The gate's measures of one recipe, each the mean over the queries; the same as `evaluate` shows."""
        contender = Contender(stored, self._ways)
        contender.check_ready()
        missing_of(contender, given.qrels)
        depth = max(DEPTH_MIN, gate.depth)
        sums = dict.fromkeys(gate.measures, 0.0)
        vectors = contender.query_vectors(list(given.queries.values()))
        for (query, text), its in zip(given.queries.items(), vectors, strict=True):
            if is_over():
                raise Stopped
            ranking = ids_of(contender.search(text, its, depth, exact=False))
            for measure in sums:
                sums[measure] += measure.of(ranking, given.qrels[query])
        return {measure: total / len(given.queries) for measure, total in sums.items()}

    def _release(self, name: str, token: str) -> None:
        """Let others judge."""
        with self._dialect.begin(write=True) as connection:
            gates.release(connection, name, token)

    def _keep_problem(self, name: str, token: str, problem: LockstepError, tries: int) -> None:
        until = self._clock() + pause_s(tries, getattr(problem, "retry_after_s", 0.0), self._random)
        with self._dialect.begin(write=True) as connection:
            gates.keep_problem(connection, name, token, str(problem), tries, until)


def to_json(outcome: Outcome) -> Mapping[str, Any]:
    """An outcome as it is stored."""
    return {
        "met": outcome.met,
        "text": str(outcome),
        "conditions": [asdict(condition) for condition in outcome.conditions],
    }
