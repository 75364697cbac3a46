"""Gates of edits as rows: what must hold before an edit serves, the queries it is judged on, and what came of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import embeddings
from lockstep.storage.schema import gates

ANEW_SHARE = 0.1  # of the chunks that were judged: when so many were written since, the answers may be others

NOT_JUDGED: dict[str, Any] = {"outcome": None, "judged_at": None, "problem": None, "problem_tries": 0, "until": None}


@dataclass(frozen=True, slots=True)
class NewGate:
    """A gate that was checked, with the queries that it is judged on."""

    expression: str
    queries: Mapping[str, str]
    """Texts by query id."""
    qrels: Mapping[str, Mapping[str, int]]
    """Grades by query and document id."""

    def to_json(self) -> tuple[str, str]:
        """Queries and judgements as they are stored."""
        return json.dumps(self.queries, ensure_ascii=False), json.dumps(self.qrels, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class StoredGate:
    """A gate, and what came of it."""

    expression: str
    queries: int
    """How many it is judged on."""
    met: bool | None = None
    """None while it was not judged."""
    outcome: str | None = None
    """Which measures fell short, or all where none did."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """The same for programs: `measure`, `value`, `current`, `wanted`, `holds`."""
    judged_at: float | None = None
    """Seconds since 1970."""
    problem: str | None = None
    """Why it could not be judged."""
    problem_tries: int = 0
    """Tries in a row that met a problem."""
    until: float | None = None
    """When `sync --watch` tries again; None where nothing is to be waited for."""

    def __str__(self) -> str:
        if self.problem:
            return f"gate could not be judged: {self.problem}"
        if self.met is None:
            return f"gate not judged yet: {self.expression}"
        return f"gate {'met' if self.met else 'not met'}: {self.outcome}"


def find(connection: Connection, task: str) -> StoredGate | None:
    """The gate of a task's edit, without what it is judged on; None where it has none."""
    row = row_of(connection, task)
    if row is None:
        return None
    outcome = json.loads(row.outcome) if row.outcome else {}
    return StoredGate(
        row.expression,
        row.query_count,
        outcome.get("met"),
        outcome.get("text"),
        tuple(outcome.get("conditions", ())),
        row.judged_at,
        row.problem,
        row.problem_tries,
        row.until,
    )


def row_of(connection: Connection, task: str) -> sa.Row[Any] | None:
    """Its row, without what it is judged on."""
    columns = [column for column in gates.c if column.name not in ("queries", "qrels")]
    return connection.execute(sa.select(*columns).where(gates.c.task == task)).first()


def judged_on(connection: Connection, task: str) -> NewGate | None:
    """A gate with its queries and judgements."""
    row = connection.execute(sa.select(gates).where(gates.c.task == task)).first()
    return None if row is None else NewGate(row.expression, json.loads(row.queries), json.loads(row.qrels))


def put(connection: Connection, task: str, gate: NewGate) -> None:
    """Give the edit of a task this gate, in place of any other."""
    forget(connection, task)
    queries, qrels = gate.to_json()
    connection.execute(
        sa.insert(gates).values(
            task=task,
            token=new_token(),
            expression=gate.expression,
            queries=queries,
            qrels=qrels,
            query_count=len(gate.queries),
            **NOT_JUDGED,
        )
    )


def forget(connection: Connection, task: str) -> None:
    """The edit has ended, or its gate is not wanted any more."""
    connection.execute(sa.delete(gates).where(gates.c.task == task))


def judge_anew(connection: Connection, task: str) -> bool:
    """Have the gate judged again, whatever came of it; False when there is none."""
    change = sa.update(gates).where(gates.c.task == task).values(token=new_token(), **NOT_JUDGED)
    return connection.execute(change).rowcount > 0


def new_token() -> str:
    """A name for one asking: an outcome is kept only by the asking that it answers."""
    return uuid.uuid4().hex


def is_judged(connection: Connection, task: str, recipe_id: int) -> bool | None:
    """Whether the gate lets a recipe through; None when that is to be found out, True as well where there is no gate.

    Args:
        connection: in a transaction.
        task: whose edit.
        recipe_id: what the edit builds.
    """
    row = row_of(connection, task)
    if row is None:
        return True
    if row.outcome is None:
        return None
    written = embeddings.last_id(connection, recipe_id) - row.judged_up_to
    if written and written >= ANEW_SHARE * row.judged_chunks:
        return None
    return bool(json.loads(row.outcome)["met"])


def claim(connection: Connection, task: str, until: float, *, patiently: bool, now: float) -> str | None:
    """Begin to judge; returns the token that the outcome needs, or None when it is not the time.

    Args:
        connection: in a writing transaction.
        task: whose edit.
        until: others that watch leave it to this process so long.
        patiently: leave it to others, and to its time.
        now: seconds since 1970.
    """
    row = row_of(connection, task)
    if row is None or (patiently and (row.until or 0.0) > now):
        return None
    connection.execute(sa.update(gates).where(gates.c.task == task).values(until=until))
    return str(row.token)


def keep(
    connection: Connection, task: str, token: str, recipe_id: int, last_id: int, outcome: Mapping[str, Any], now: float
) -> bool:
    """Keep what came of a gate; False when something else was asked meanwhile.

    Args:
        connection: in a writing transaction.
        task: whose edit.
        token: of the asking.
        recipe_id: what the edit builds.
        last_id: of its embeddings when the judging began.
        outcome: `met`, `text`, `conditions`.
        now: seconds since 1970.
    """
    values = NOT_JUDGED | {
        "outcome": json.dumps(outcome, ensure_ascii=False),
        "judged_at": now,
        "judged_up_to": last_id,
        "judged_chunks": embeddings.count(connection, recipe_id),
    }
    change = sa.update(gates).where(gates.c.task == task, gates.c.token == token).values(**values)
    return connection.execute(change).rowcount > 0


def keep_problem(connection: Connection, task: str, token: str, problem: str, tries: int, until: float) -> None:
    """Keep why a gate could not be judged, and when to try again."""
    change = sa.update(gates).where(gates.c.task == task, gates.c.token == token)
    connection.execute(change.values(problem=problem, problem_tries=tries, until=until))


def release(connection: Connection, task: str, token: str) -> None:
    """Let others judge a gate that this process claimed, and did not judge."""
    connection.execute(sa.update(gates).where(gates.c.task == task, gates.c.token == token).values(until=None))


def problem_tries(connection: Connection, task: str) -> int:
    """How many tries in a row could not judge it."""
    return connection.execute(sa.select(gates.c.problem_tries).where(gates.c.task == task)).scalar() or 0


def next_try(connection: Connection, task: str) -> float | None:
    """When the gate of a task's edit should be tried again, in seconds since 1970; None where nothing waits for a time."""
    return connection.execute(sa.select(gates.c.until).where(gates.c.task == task)).scalar()
