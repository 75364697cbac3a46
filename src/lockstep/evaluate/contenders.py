"""What is evaluated: a task, or what an edit of it is building, searched in one mode; and how it is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from lockstep.errors import QueryError, StoreError, UnknownName
from lockstep.extracting.values import clean
from lockstep.searching.request import MODES, Mode
from lockstep.searching.target import Target
from lockstep.storage import embeddings
from lockstep.storage.base import Dialect
from lockstep.storage.tasks import StoredTask
from lockstep.tasks import Tasks
from lockstep.types import Hit, Vectors

CONTENDERS_MAX = 6


class SearchBy(Protocol):
    """One search, as users have it."""

    def __call__(
        self,
        connection: Connection,
        stored: StoredTask,
        text: str,
        vectors: Vectors | None,
        top_k: int,
        *,
        exact: bool,
        mode: Mode,
    ) -> list[Hit]:
        """The documents that answer a query, best first.

        Args:
            connection: in a read transaction.
            stored: the recipe to search.
            text: of the query.
            vectors: of the query, float32, shape (m, dimensions); None for the mode "keyword".
            top_k: documents wanted.
            exact: compare with every vector.
            mode: "vector", "keyword" or "hybrid".
        """
        ...


@dataclass(frozen=True, slots=True)
class Ways:
    """What evaluating needs of a database."""

    dialect: Dialect
    tasks: Tasks
    target_of: Callable[[Connection, StoredTask], Target]
    """What to search for a recipe, in a read transaction."""
    embed_by: Callable[[StoredTask, list[str]], Vectors]
    """Query vectors, at least one for each text: a text that is too long has several."""
    search_by: SearchBy


@dataclass(frozen=True, slots=True)
class Contender:
    """A task, or what an edit of it is building, searched in one mode."""

    stored: StoredTask
    ways: Ways
    mode: Mode = "vector"
    names_mode: bool = False
    """Whether others differ from it by the mode."""

    @property
    def name(self) -> str:
        """What it is called beside others."""
        name = f"{self.stored.name} (edit)" if self.stored.is_next else self.stored.name
        return f"{name} {self.mode}" if self.names_mode else name

    @property
    def model(self) -> str:
        """URI of its model."""
        return self.ways.tasks.task(self.stored).model

    @property
    def needs_vectors(self) -> bool:
        """Whether a query has to be embedded."""
        return self.mode != "keyword"

    def begin(self) -> AbstractContextManager[Connection]:
        """A read transaction."""
        return self.ways.dialect.begin(write=False)

    def target(self, connection: Connection) -> Target:
        """What to search, in a read transaction.

        Raises:
            StoreError: an edit took the place of the embeddings, or was given up.
        """
        self.check_there(connection)
        return self.ways.target_of(connection, self.stored)

    def check_there(self, connection: Connection) -> None:
        """Refuse to go on when an edit took the place of the embeddings, or was given up.

        Raises:
            StoreError: it did, or was.
        """
        known = self.ways.tasks.recipes_of(connection, self.stored.name)
        if self.stored.recipe_id not in [recipe.recipe_id for recipe in known]:
            raise StoreError(f'The embeddings of task "{self.name}" were replaced meanwhile.', "Begin again.")

    def embed(self, texts: list[str]) -> Vectors:
        """See `Ways.embed_by`."""
        return self.ways.embed_by(self.stored, [clean(text) for text in texts])

    def search(self, text: str, vectors: Vectors | None, top_k: int, *, exact: bool) -> list[Hit]:
        """The documents that answer a query, in a transaction of its own, as every search has."""
        with self.begin() as connection:
            self.check_there(connection)
            exact = exact and self.needs_vectors
            return self.ways.search_by(
                connection, self.stored, clean(text), vectors, top_k, exact=exact, mode=self.mode
            )

    def query_vectors(self, texts: list[str]) -> list[Vectors]:
        """Of each text, embedded all together."""
        whole = self.embed(texts)
        if len(whole) == len(texts):
            return list(whole[:, None])
        return [self.embed([text]) for text in texts]  # which vectors are whose is only clear one by one

    def check_ready(self) -> None:
        """Refuse a task that cannot be searched.

        Raises:
            QueryError: it is paused, or nothing is embedded.
        """
        if not self.stored.enabled:
            raise QueryError(f'Task "{self.name}" is paused.', "Resume it first: lockstep task resume")
        with self.begin() as connection:
            if not embeddings.any_there(connection, self.target(connection).recipe_id):
                raise QueryError(f'Task "{self.name}" has nothing embedded yet.', "Run: lockstep sync")


def contenders_of(ways: Ways, names: Sequence[str], modes: str | Sequence[str], *, edit: bool) -> list[Contender]:
    """Each task in each mode.

    Args:
        ways: of the database.
        names: of the tasks.
        modes: one, or several to compare.
        edit: what edits of them are building as well.

    Raises:
        QueryError: there are too few or too many, or no edit is being built.
        UnknownName: there is no such mode, or task.
    """
    wanted = checked_modes([modes] if isinstance(modes, str) else modes)
    recipes = [ways.tasks.find(name) for name in names]
    if edit:
        built = [stored.next for stored in recipes if stored.next]
        if not built:
            raise QueryError(f'No edit of task "{", ".join(names)}" is being built.', "Begin one: lockstep task edit")
        recipes += built
    found = [Contender(stored, ways, mode, wanted != ["vector"]) for stored in recipes for mode in wanted]
    if not 1 <= len(found) <= CONTENDERS_MAX:
        raise QueryError(
            f"{len(found)} tasks cannot be compared.", f"Give 1 to {CONTENDERS_MAX}, each mode of a task counted."
        )
    return found


def checked_modes(modes: Sequence[str]) -> list[Mode]:
    """Modes of searching, each once.

    Raises:
        UnknownName: there is no such mode.
    """
    found: list[Mode] = []
    for mode in dict.fromkeys(modes):
        if mode not in MODES:
            raise UnknownName("search mode", str(mode), MODES)
        found.append(mode)
    return found
