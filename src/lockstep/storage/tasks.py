"""Tasks and their recipes as rows, and the tables, triggers and view that come and go with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ConfigError
from lockstep.storage import batches, gates, keywords
from lockstep.storage.base import Dialect, Source
from lockstep.storage.changes import enqueue
from lockstep.storage.lookup import fetch, marks
from lockstep.storage.schema import (
    changes_table,
    embeddings_table,
    failures,
    leases,
    models,
    recipes,
    tasks,
)
from lockstep.storage.sources import SourceReader, quoted
from lockstep.storage.vectors import Space

OutageKind = Literal["away", "refused", "cost", "batch"]
"""What a task waits for: a provider that is away, a person (key, account, settings), another day's budget, or a batch."""

NO_OUTAGE: dict[str, Any] = {"outage": None, "outage_kind": None, "outage_until": None, "outage_tries": 0}


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task's row, with a recipe: the one it is served by, or the one that is being built beside it."""

    name: str
    settings: str
    enabled: bool
    outage: str | None
    outage_kind: OutageKind | None
    outage_until: float | None
    outage_tries: int
    recipe_id: int
    space: Space
    max_tokens: int
    is_next: bool = False
    """Whether it is the recipe that is being built, rather than the one that serves."""
    next: StoredTask | None = None
    """The recipe that is being built beside this one."""

    @property
    def model_id(self) -> int:
        """The number of its model."""
        return self.space.model_id


@dataclass(frozen=True, slots=True)
class NewRecipe:
    """What is known of a recipe before it has a number."""

    identity: str
    space: Space
    max_tokens: int
    source: Source
    columns: Sequence[str]
    """Of the source; their changes are followed."""


def list_tasks(connection: Connection, name: str | None = None) -> list[StoredTask]:
    """All tasks by name, or the one."""
    statement = sa.select(tasks).order_by(tasks.c.name)
    if name is not None:
        statement = statement.where(tasks.c.name == name)
    rows = connection.execute(statement).all()
    known = connection.execute(
        sa.select(recipes.c.id, recipes.c.model_id, models.c.dimensions, recipes.c.form, recipes.c.max_tokens).join(
            models, models.c.id == recipes.c.model_id
        )
    )
    facts = {row.id: (Space(row.model_id, row.dimensions, row.form), row.max_tokens) for row in known}
    return [stored_task(row, facts) for row in rows]


class Served(NamedTuple):
    """What a search needs to know of a task before all else."""

    recipe_id: int
    """That serves it."""
    settings: str
    enabled: bool
    is_backfilled: bool
    """Whether every row that was there before the recipe has been looked at."""
    last_id: int
    """The largest id that was ever given to an embedding of the recipe."""


def served_by(connection: Connection, name: str) -> Served | None:
    """How a task is served, or None when there is no such task; every search begins with it."""
    mark = marks(connection.dialect.paramstyle, 1)
    rows = fetch(
        connection,
        "SELECT t.recipe_id, t.settings, t.enabled, r.backfill_done, r.next_embedding_id - 1 "
        f"FROM {tasks.name} t JOIN {recipes.name} r ON r.id = t.recipe_id WHERE t.name = {mark}",
        (name,),
    )
    return next((Served(row[0], row[1], bool(row[2]), bool(row[3]), row[4]) for row in rows), None)


def stored_task(row: sa.Row[Any], facts: Mapping[int, tuple[Space, int]]) -> StoredTask:
    """A task's row, with what is known of its recipes."""
    outage = (row.outage, row.outage_kind, row.outage_until, row.outage_tries)
    building = None
    if row.next_recipe_id is not None:
        building = StoredTask(
            row.name, row.next_settings, row.enabled, *outage, row.next_recipe_id, *facts[row.next_recipe_id], True
        )
    return StoredTask(row.name, row.settings, row.enabled, *outage, row.recipe_id, *facts[row.recipe_id], next=building)


def add_task(
    connection: Connection, dialect: Dialect, name: str, settings: str, recipe: NewRecipe, *, enabled: bool
) -> None:
    """Create a task with its tables, triggers and view in the caller's transaction."""
    view = view_name(name)
    if sa.inspect(connection).has_table(view):
        raise ConfigError(f'The database has a table or view "{view}" already.', "Choose another task name.")
    recipe_id = add_recipe(connection, dialect, recipe)
    connection.execute(sa.insert(tasks).values(name=name, settings=settings, enabled=enabled, recipe_id=recipe_id))
    create_view(connection, view, recipe_id, recipe.space)


def add_recipe(connection: Connection, dialect: Dialect, recipe: NewRecipe) -> int:
    """Create a recipe with its tables and triggers; returns its number."""
    result = connection.execute(
        sa.insert(recipes).values(
            identity=recipe.identity,
            model_id=recipe.space.model_id,
            form=recipe.space.form,
            max_tokens=recipe.max_tokens,
            next_embedding_id=1,
            backfill_done=False,
        )
    )
    recipe_id = int(result.inserted_primary_key[0])  # type: ignore[index]
    changes_table(recipe_id).create(connection)
    embeddings_table(recipe_id).create(connection)
    keywords.create(connection, recipe_id)
    for statement in dialect.capture(recipe.source, recipe_id, recipe.columns):
        connection.exec_driver_sql(statement)
    return recipe_id


def begin_edit(connection: Connection, dialect: Dialect, stored: StoredTask, settings: str, recipe: NewRecipe) -> None:
    """Begin to build another recipe beside the one that serves; one that was being built is given up, its gate stays."""
    drop_next(connection, dialect, stored)
    gates.judge_anew(connection, stored.name)
    recipe_id = add_recipe(connection, dialect, recipe)
    # What a person mended may be what the task waited for.
    update_task(connection, stored.name, next_settings=settings, next_recipe_id=recipe_id, **NO_OUTAGE)


def cancel_edit(connection: Connection, dialect: Dialect, stored: StoredTask) -> bool:
    """Give up the recipe that is being built, with its gate; False when there is none."""
    gates.forget(connection, stored.name)
    return drop_next(connection, dialect, stored)


def drop_next(connection: Connection, dialect: Dialect, stored: StoredTask) -> bool:
    """Remove the recipe that is being built; False when there is none."""
    building = connection.execute(sa.select(tasks.c.next_recipe_id).where(tasks.c.name == stored.name)).scalar()
    if building is None:
        return False
    remove_recipe(connection, dialect, building)
    update_task(connection, stored.name, next_settings=None, next_recipe_id=None, **NO_OUTAGE)
    return True


def finish_edit(connection: Connection, dialect: Dialect, stored: StoredTask) -> None:
    """Let the recipe that was built serve, in the caller's transaction; the one that served is removed."""
    assert stored.next
    view = view_name(stored.name)
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quoted(view)}")
    gates.forget(connection, stored.name)
    remove_recipe(connection, dialect, stored.recipe_id)
    create_view(connection, view, stored.next.recipe_id, stored.next.space)
    update_task(
        connection,
        stored.name,
        settings=stored.next.settings,
        recipe_id=stored.next.recipe_id,
        next_settings=None,
        next_recipe_id=None,
    )


def remove_recipe(connection: Connection, dialect: Dialect, recipe_id: int) -> None:
    """Remove every trace of a recipe; its vectors stay in the cache until they expire."""
    dialect.release(connection, recipe_id)
    changes_table(recipe_id).drop(connection, checkfirst=True)
    keywords.drop(connection, recipe_id)
    embeddings_table(recipe_id).drop(connection, checkfirst=True)
    for table in (failures, leases):
        connection.execute(sa.delete(table).where(table.c.recipe_id == recipe_id))
    batches.forget_all(connection, recipe_id)
    connection.execute(sa.delete(recipes).where(recipes.c.id == recipe_id))


def remove_task(connection: Connection, dialect: Dialect, task: StoredTask) -> None:
    """Remove every trace of a task; its vectors stay in the cache until they expire."""
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quoted(view_name(task.name))}")
    cancel_edit(connection, dialect, task)
    remove_recipe(connection, dialect, task.recipe_id)
    connection.execute(sa.delete(tasks).where(tasks.c.name == task.name))


def restart_backfill(
    connection: Connection, dialect: Dialect, reader: SourceReader, recipe_id: int, columns: Sequence[str]
) -> None:
    """Put the triggers in place again and look at every row once more; what has not changed costs no model call.

    Rows that were deleted while nothing watched are found by their embeddings; failures are found again.
    """
    dialect.release(connection, recipe_id)
    for statement in dialect.capture(reader.source, recipe_id, columns):
        connection.exec_driver_sql(statement)
    connection.execute(
        sa.update(recipes).where(recipes.c.id == recipe_id).values(backfill_after=None, backfill_done=False)
    )
    connection.execute(sa.delete(failures).where(failures.c.recipe_id == recipe_id))
    stored = sa.select(embeddings_table(recipe_id).c.key)
    there = sa.select(reader.key).select_from(reader.table).where(reader.there)
    gone = connection.execute(stored.except_(there)).scalars().all()
    enqueue(connection, recipe_id, gone, time.time())


def is_enabled(connection: Connection, recipe_id: int) -> bool:
    """Whether the task of a recipe is not paused; True as well where it is gone."""
    of_recipe = (tasks.c.recipe_id == recipe_id) | (tasks.c.next_recipe_id == recipe_id)
    return connection.execute(sa.select(tasks.c.enabled).where(of_recipe)).scalar() is not False


def update_task(connection: Connection, name: str, **values: Any) -> None:
    """Change columns of a task's row."""
    connection.execute(sa.update(tasks).where(tasks.c.name == name).values(**values))


def view_name(task: str) -> str:
    """The view a user's own SQL reads."""
    return f"{task}_embeddings"


def create_view(connection: Connection, view: str, recipe_id: int, space: Space) -> None:
    """Create the view that joins where and what."""
    raw = ", ".join(f"v.{name}" for name in space.raw_columns)
    connection.exec_driver_sql(
        f'CREATE VIEW {quoted(view)} AS SELECT e.key, e.path, e.position, e.start, e."end", e.text, {raw} '
        f"FROM {embeddings_table(recipe_id).name} e JOIN {space.table.name} v ON v.id = e.vector_id"
    )
