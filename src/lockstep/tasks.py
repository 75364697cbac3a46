"""The tasks of a database: added, edited, removed, and made ready to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from lockstep.accounts import Accounts
from lockstep.errors import ConfigError, UnknownName
from lockstep.models.base import Model
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.recipe import Demand, Task, changed_settings, demand_of, recipe_identity
from lockstep.searching.filters import compile_filter
from lockstep.storage import collections, failures, gates, vectors
from lockstep.storage import tasks as store
from lockstep.storage.base import Dialect, Source
from lockstep.storage.gates import NewGate, StoredGate
from lockstep.storage.migrations import Schema
from lockstep.storage.sources import SourceReader
from lockstep.storage.tasks import NewRecipe, StoredTask
from lockstep.syncing.fields import Extractors, check_fields, columns_of, json_columns_of
from lockstep.syncing.job import Job
from lockstep.syncing.worker import is_caught_up


@dataclass(frozen=True, slots=True)
class Edit:
    """What a change of a task's settings demands."""

    task: Task
    """As it is wanted."""
    changed: tuple[str, ...]
    """The settings that differ from those of the recipe that serves."""
    demand: Demand
    gate: NewGate | None = None
    """What must hold before it serves."""
    keeps_gate: bool = True
    """Where it has none, whether it is bound by that of an edit which is being built already."""


class Tasks:
    """The tasks of a database. Safe between threads."""

    def __init__(self, dialect: Dialect, schema: Schema, accounts: Accounts, extractors: Extractors) -> None:
        self._dialect = dialect
        self._schema = schema
        self._accounts = accounts
        self._extractors = extractors

    # --- what there is ---------------------------------------------------------------------------------------------

    def stored(self) -> list[StoredTask]:
        """All of them, by name."""
        if not self._schema.is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return store.list_tasks(connection)

    def recipes(self) -> list[StoredTask]:
        """The recipes of all: each task's that serves, and after it the one that is being built beside it."""
        return [recipe for stored in self.stored() for recipe in (stored, stored.next) if recipe]

    def find(self, name: str) -> StoredTask:
        """One of them.

        Raises:
            UnknownName: there is none of this name.
        """
        found = self.stored()
        for stored in found:
            if stored.name == name:
                return stored
        raise UnknownName("task", name, [stored.name for stored in found])

    def serving(self, connection: Connection, name: str) -> StoredTask:
        """A task as it is in the caller's transaction: an edit may have let another recipe serve since it was found.

        Raises:
            UnknownName: it was removed meanwhile.
        """
        found = store.list_tasks(connection, name)
        if not found:
            raise UnknownName("task", name, [])
        return found[0]

    def recipes_of(self, connection: Connection, name: str) -> list[StoredTask]:
        """The recipes of a task in the caller's transaction: what serves it, and what is being built; none if it is gone."""
        return [recipe for stored in store.list_tasks(connection, name) for recipe in (stored, stored.next) if recipe]

    def task(self, stored: StoredTask) -> Task:
        """One's settings."""
        return Task.from_json(stored.settings, enabled=stored.enabled)

    # --- changing them ---------------------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Add one.

        Raises:
            ConfigError: the task exists, or a setting does not fit its source or model.
            SourceUnavailable: there is no such source, or it cannot be followed.
        """
        model = self._accounts.model(task.model)
        with self._dialect.begin(write=False) as connection:
            if self._schema.is_there() and store.list_tasks(connection, task.name):
                raise ConfigError(f'There is a task "{task.name}" already.', "Choose another name, or remove it first.")
            source, columns = self.checked(connection, task)
        self._schema.ensure()
        with self._dialect.begin(write=True) as connection:
            recipe = new_recipe(connection, task, model, source, columns)
            store.add_task(connection, self._dialect, task.name, task.to_json(), recipe, enabled=task.enabled)

    def plan_edit(self, name: str, **settings: Any) -> Edit:
        """What a change of settings would demand; nothing is changed.

        Raises:
            ConfigError: a setting is not allowed, or does not fit.
            UnknownName: there is no such task, or setting.
        """
        stored = self.find(name)
        before = self.task(stored)
        # What is being built already is where the next change begins.
        latest = stored.next or stored
        wanted = Task.from_json(latest.settings, **({"enabled": stored.enabled} | with_companions(settings)))
        model = self._accounts.model(wanted.model)
        with self._dialect.begin(write=False) as connection:
            self.checked(connection, wanted)
            same_model = vectors.identity_of(connection, stored.model_id) == model.identity
        chunk_tokens(wanted, model)
        return Edit(wanted, changed_settings(before, wanted), demand_of(before, wanted, same_model=same_model))

    def edit(self, edit: Edit) -> None:
        """Carry out a change: at once where nothing has to be built, else beside the recipe that goes on serving."""
        settings, model = edit.task.to_json(), self._accounts.model(edit.task.model)
        with self._dialect.begin(write=True) as connection:
            stored = self.serving(connection, edit.task.name)
            store.update_task(connection, stored.name, enabled=edit.task.enabled, **store.NO_OUTAGE)
            if edit.demand == "nothing":
                store.cancel_edit(connection, self._dialect, stored)
                store.update_task(connection, stored.name, settings=settings)
                return
            if stored.next and edit.changed:
                same_model = vectors.identity_of(connection, stored.next.model_id) == model.identity
                if demand_of(self.task(stored.next), edit.task, same_model=same_model) == "nothing":
                    if settings != stored.next.settings:
                        gates.judge_anew(connection, stored.name)
                    store.update_task(connection, stored.name, next_settings=settings)
                    put_gate(connection, edit)
                    return
            source, columns = self.checked(connection, edit.task)
            recipe = new_recipe(connection, edit.task, model, source, columns)
            store.begin_edit(connection, self._dialect, stored, settings, recipe)
            put_gate(connection, edit)

    def rebuild(self, name: str) -> None:
        """Go through all documents again beside what serves; texts that are in the cache cost nothing."""
        task = self.task(self.find(name))
        self.edit(Edit(task, (), "rebuild", keeps_gate=False))

    def switch(self, name: str, *, anyway: bool = False) -> bool:
        """Let what was built serve, in one transaction; False when it is not ready, or its gate does not let it.

        Args:
            name: of the task.
            anyway: switch although documents failed that were all right, and whatever its gate says.
        """
        with self._dialect.begin(write=True) as connection:
            (stored,) = store.list_tasks(connection, name) or (None,)
            if not stored or not stored.next or not self.is_ready(connection, stored, despite_failures=anyway):
                return False
            if not anyway and not gates.is_judged(connection, name, stored.next.recipe_id):
                return False
            store.finish_edit(connection, self._dialect, stored)
            return True

    def is_ready(self, connection: Connection, stored: StoredTask, *, despite_failures: bool = False) -> bool:
        """Whether what was built has caught up, and every document that failed in it fails in what serves as well."""
        if not stored.next or not is_caught_up(connection, stored.next.recipe_id):
            return False
        worse = failures.keys(connection, stored.next.recipe_id) - failures.keys(connection, stored.recipe_id)
        return despite_failures or not worse

    def gate(self, name: str, on: Connection | None = None) -> StoredGate | None:
        """The gate of a task's edit, and what came of it; None where there is none.

        Args:
            name: of the task.
            on: a connection that is in no transaction.
        """
        with self._dialect.begin(write=False, on=on) as connection:
            return gates.find(connection, name)

    def judge_anew(self, name: str) -> bool:
        """Have the edit's gate judged again by the next sync; False when there is none."""
        with self._changing(name) as (connection, _):
            return gates.judge_anew(connection, name)

    def cancel_edit(self, name: str) -> bool:
        """Give up what is being built; False when nothing is."""
        with self._changing(name) as (connection, stored):
            return store.cancel_edit(connection, self._dialect, stored)

    def remove(self, name: str) -> None:
        """Remove one with its triggers, queue, embeddings and view."""
        with self._changing(name) as (connection, stored):
            store.remove_task(connection, self._dialect, stored)

    def enable(self, name: str, *, enabled: bool) -> None:
        """Pause a task, or go on with it."""
        with self._changing(name) as (connection, _):
            # Whoever resumes a task has mended what it waited for.
            store.update_task(connection, name, enabled=enabled, **store.NO_OUTAGE)

    @contextmanager
    def _changing(self, name: str) -> Iterator[tuple[Connection, StoredTask]]:
        """A writing transaction, and a task as it is in it: another program may have removed it, or made it anew."""
        self.find(name)  # says which there are, and finds tables to write to
        with self._dialect.begin(write=True) as connection:
            yield connection, self.serving(connection, name)

    # --- making them ready -----------------------------------------------------------------------------------------

    def job(self, stored: StoredTask) -> Job:
        """One made ready to run."""
        task = self.task(stored)
        model = self._model_of(stored, task, download=True)
        return self._job(task, model, stored)

    def trial(self, task: Task) -> Job:
        """A job of settings that are not stored: to see what would be embedded, not to store it."""
        model = self._accounts.model(task.model)
        nowhere = vectors.Space(0, model.info.dimensions, task.quantization)
        stored = StoredTask(
            task.name, task.to_json(), task.enabled, None, None, None, 0, 0, nowhere, chunk_tokens(task, model)
        )
        return self._job(task, model, stored)

    def _job(self, task: Task, model: Model, stored: StoredTask) -> Job:
        with self._dialect.begin(write=False) as connection:
            source = self.describe(connection, task.source)
        extractor = self._extractors.of(task, source, model)
        columns = columns_of(source, task, extractor.reads)
        return Job(
            task=task,
            recipe_id=stored.recipe_id,
            space=stored.space,
            max_tokens=stored.max_tokens,
            source=source,
            reader=self._reader(source, task, extractor.reads, columns),
            columns=columns,
            extractor=extractor,
            model=model,
            dialect=self._dialect,
        )

    def reader(self, connection: Connection, stored: StoredTask, *, whole: bool = False) -> SourceReader:
        """Reads the documents of a task: with all their columns, or with those that it embeds."""
        task = self.task(stored)
        source = self.describe(connection, task.source)
        if whole:
            return SourceReader(self._dialect, source, where=condition(task, source))
        reads = self._extractors.of(task, source, None).reads
        return self._reader(source, task, reads, columns_of(source, task, reads))

    def _reader(
        self, source: Source, task: Task, reads: frozenset[str] | None, columns: tuple[str, ...]
    ) -> SourceReader:
        inner = json_columns_of(source, task, reads)
        return SourceReader(self._dialect, source, columns, inner, condition(task, source))

    def model_of(self, stored: StoredTask, *, download: bool) -> Model:
        """A task's model, as long as it is the one that made the task's vectors.

        Raises:
            ConfigError: its files or prompts were changed since; vectors of two models cannot be compared.
        """
        return self._model_of(stored, self.task(stored), download=download)

    def _model_of(self, stored: StoredTask, task: Task, *, download: bool) -> Model:
        model = self._accounts.model(task.model, download=download)
        with self._dialect.begin(write=False) as connection:
            known = vectors.identity_of(connection, stored.model_id)
        if known != model.identity:
            raise ConfigError(
                f'The vectors of task "{stored.name}" were made by {known}, and its model is now {model.identity}.',
                f"Bring that model back, or build anew: lockstep task rebuild {self._dialect.location} {stored.name}",
            )
        if isinstance(model.provider, RemoteModel):
            model.provider.expect(stored.space.dimensions)
        return model

    def compares_directions(self, stored: StoredTask, task: Task) -> bool:
        """Whether what is nearest in direction is nearest; else no index is of use, and every search is exact."""
        # Signs, and a graph of them, say where a vector points, and nothing of its length.
        if task.metric == "cosine" or stored.space.form == "binary":
            return True
        return self._model_of(stored, task, download=False).info.normalised

    def describe(self, connection: Connection, name: str) -> Source:
        """The source of that name."""
        found = self._dialect.describe(connection, name, "table")
        # By the name that the database has: SQL does not tell "Products" from "products".
        is_collection = self._schema.is_there() and collections.exists(connection, found.name)
        return replace(found, kind="collection") if is_collection else found

    def checked(self, connection: Connection, task: Task) -> tuple[Source, tuple[str, ...]]:
        """A task's source, and the columns that it reads.

        Raises:
            ConfigError: a setting does not fit the source.
        """
        source = self.describe(connection, task.source)
        extractor = self._extractors.of(task, source, None)
        columns = columns_of(source, task, extractor.reads)
        condition(task, source)
        check_fields(connection, self._dialect, source, task, extractor.reads)
        return source, columns


def put_gate(connection: Connection, edit: Edit) -> None:
    """Bind what is being built to the gate of its edit."""
    if edit.gate:
        gates.put(connection, edit.task.name, edit.gate)
    elif not edit.keeps_gate:
        gates.forget(connection, edit.task.name)


def new_recipe(connection: Connection, task: Task, model: Model, source: Source, columns: tuple[str, ...]) -> NewRecipe:
    """What a task's settings come to with its model."""
    max_tokens = chunk_tokens(task, model)
    return NewRecipe(
        identity=recipe_identity(task, model.identity, max_tokens),
        space=vectors.space_of(connection, model.identity, model.info.dimensions, task.quantization),
        max_tokens=max_tokens,
        source=source,
        columns=columns,
    )


def condition(task: Task, source: Source) -> Any:
    """The condition on the rows that a task embeds; None for all."""
    return None if task.where is None else compile_filter(task.where, source)


def with_companions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are changed, with those that go when another comes: fields make room for a script."""
    changed = dict(settings)
    ways = {"fields": (), "files": (), "template": None, "script": None, "function": None, "vectors": None}
    given = [way for way in ways if settings.get(way)]
    if given:
        stay = {"fields", "files"} if {"fields", "files"} & set(given) else set(given)
        changed = {way: empty for way, empty in ways.items() if way not in stay} | changed
        if "fields" in given or not stay & {"fields"}:
            changed.setdefault("field_chunking", {})
        if "vectors" not in given:
            changed.setdefault("dimensions", None)
    return changed


def chunk_tokens(task: Task, model: Model) -> int:
    """Most tokens of a chunk that the model can take.

    Raises:
        ConfigError: the task asks for more, in one of its fields.
    """
    limit = model.text_tokens_max()
    if limit < 1:
        raise ConfigError(f'The document prompt of model "{task.model}" leaves no room for a text.', "Shorten it.")
    for chunking in (task.chunking, *task.field_chunking.values()):
        if chunking.max_tokens is not None and chunking.max_tokens > limit:
            raise ConfigError(
                f'Chunks of {chunking.max_tokens} tokens are too long for model "{task.model}", which takes {limit}.',
                f"Set max_tokens to {limit} or less.",
            )
    return limit
