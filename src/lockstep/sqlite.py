"""SQL functions for your own SQLite connections: `ai_embed`, `cosine_similarity`, `lockstep_search` and others."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lockstep.errors import ConfigError, LockstepError, QueryError, StoreLocked, StoreReadOnly, TextTooLong
from lockstep.vectors import sql_values

if TYPE_CHECKING:
    from lockstep.database import Database
    from lockstep.models import Registered
    from lockstep.models.base import Model
    from lockstep.storage.vectors import Space
    from lockstep.types import Hit, Usage

RECENT_MAX = 1024  # texts whose vectors are at hand: a statement often has the same ones again
NEW_MAX = 40_000  # vectors that wait to be written; 60 MB of 384 dimensions
KEEP_WAIT_S = 1.0  # for other writers, whose transactions are short; nobody waits for a cache longer than that
DAYS = {"document": 90, "query": 14}  # as `Database.embed` keeps them

# What Python's sqlite3 says whatever a function raised: of the exception itself nothing is left.
_UNEXPLAINED = "user-defined function raised exception"


def register(
    connection: sqlite3.Connection,
    *,
    database: Database | str | Path | None = None,
    models: Mapping[str, Registered] | None = None,
) -> Functions:
    """Give a connection Lockstep's SQL functions; docs/sql.md lists them.

    Args:
        connection: of yours, to any SQLite database. With SQLAlchemy: what its "connect" event hands out.
        database: whose cache and tasks the functions use: an open `lockstep.Database`, or the path of one. When not
            given, the file that `connection` has open, if Lockstep's tables are in it.
        models: providers or functions of your own, as for `lockstep.open`; not beside an open database.

    Returns:
        What is to be closed when the functions are needed no more.

    Raises:
        ConfigError: `models` are given beside an open database, which has its own.
    """
    from lockstep.database import Database

    if isinstance(database, Database):
        if models:
            raise ConfigError("An open database has models of its own.", "Give models to lockstep.open instead.")
        back = _Back(None, database, {})
    else:
        path = main_file(connection) if database is None else Path(database)
        back = _Back(path, None, models or {}, wanted=database is not None)
    functions = Functions(back)
    functions.add_to(connection)
    if isinstance(connection, Connection):
        connection.functions = functions
    return functions


def main_file(connection: sqlite3.Connection) -> Path | None:
    """The file that a connection has open; None for one in memory, and for a temporary one."""
    cursor = sqlite3.Cursor(connection)
    cursor.row_factory = None
    files = {os.fsdecode(row[1]): row[2] for row in cursor.execute("PRAGMA database_list").fetchall()}
    return Path(os.fsdecode(files["main"])) if files.get("main") else None


class Functions:
    """The SQL functions of one connection. They are called on the thread that uses the connection."""

    def __init__(self, back: _Back) -> None:
        self._back = back
        self._error: Exception | None = None
        self._message = ""
        # The connection holds the functions, and they hold this: it goes when the connection is closed.
        self._finalizer = weakref.finalize(self, back.close)

    def __enter__(self) -> Functions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.OperationalError):
            self.explain(error)
        self.close()

    @property
    def error(self) -> Exception | None:
        """What the last call of one of the functions raised; None when it succeeded."""
        return self._error

    def explain(self, error: sqlite3.OperationalError) -> None:
        """Put what a function raised into the error that sqlite3 raised for it; others are left as they are."""
        if self._error is not None and error.args == (_UNEXPLAINED,):
            error.args = (self._message,)
            error.__cause__ = self._error
            self._error = None

    def keep(self) -> int:
        """Write vectors that `ai_embed` made to the cache; returns how many.

        Raises:
            StoreLocked: a transaction is writing, perhaps that of the connection itself; they are kept later.
        """
        return self._back.keep()

    def close(self) -> None:
        """Keep new vectors and close what was opened; from then on only functions of vectors can be called."""
        self._finalizer()

    def add_to(self, connection: sqlite3.Connection) -> None:
        """Register all functions."""
        for name, function, counts in self._listed():
            guarded = self._guarded(name, function)
            for count in counts:
                # Deterministic: with constants for arguments, SQLite calls them once for a statement, not for each row.
                connection.create_function(name, count, guarded, deterministic=True)

    def _listed(self) -> list[tuple[str, Callable[..., Any], tuple[int, ...]]]:
        """(name, function, numbers of arguments)."""
        comparing = (
            "cosine_similarity",
            "cosine_distance",
            "l2_distance",
            "inner_product",
            "negative_inner_product",
        )
        return [
            # Each remembers what it was given last by itself: a query may use several at once.
            *((name, getattr(sql_values.Comparing(), name), (2, 3, 4)) for name in comparing),
            ("vector_dims", sql_values.vector_dims, (1, 2)),
            ("vector_norm", sql_values.vector_norm, (1, 2)),
            ("vector_to_json", sql_values.vector_to_json, (1, 2)),
            ("vector_from_json", sql_values.vector_from_json, (1,)),
            ("vector_float32", sql_values.vector_float32, (2, 3)),
            ("ai_embed", self._back.embed, (2, 3)),
            ("lockstep_search", self._back.search, (2, 3, 4, 5)),
        ]

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """NULL where an argument is; what is raised is remembered, for sqlite3 forgets it."""

        def call(*arguments: Any) -> Any:
            if None in arguments:
                return None
            try:
                result = function(*arguments)
            except Exception as exc:
                self._error = exc
                shown = str(exc) if isinstance(exc, LockstepError) else f"{type(exc).__name__}: {exc}"
                self._message = f"{name}: {shown}"
                raise
            self._error = None
            return result

        return call


class _Back:
    """What stands behind the functions: a database with its cache, or models alone."""

    def __init__(
        self, path: Path | None, database: Database | None, models: Mapping[str, Registered], *, wanted: bool = False
    ) -> None:
        self._path = path
        self._given = database
        self._opened: Database | None = None
        self._models = models
        self._alone: dict[str, Model] = {}
        self._wanted = wanted
        self._is_closed = False
        self._recent: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._new: OrderedDict[tuple[str, int, bytes], sql_values.Vector] = OrderedDict()
        self._aging: dict[tuple[Space, int], set[int]] = {}
        self._usage: dict[str, tuple[Usage, float]] = {}

    # --- functions -------------------------------------------------------------------------------------------------

    def embed(self, uri: Any, text: Any, kind: Any = "document") -> bytes:
        """`ai_embed`: float32 bytes."""
        if not isinstance(uri, str) or not isinstance(text, str):
            wrong = "model" if not isinstance(uri, str) else "text"
            raise QueryError(f"The {wrong} is {_typed(text if wrong == 'text' else uri)}, not a text.")
        if kind not in DAYS:
            raise QueryError(f"There is no kind {kind!r}.", "Known: 'document', 'query'.")
        key = (uri, text, kind)
        found = self._recent.get(key)
        if found is None:
            vector = self._vector(uri, text, kind)
            found = self._recent[key] = vector.astype("<f4").tobytes()
            if len(self._recent) > RECENT_MAX:
                self._recent.popitem(last=False)
        return found

    def search(self, task: Any, query: Any, top_k: Any = 10, where: Any = "{}", options: Any = "{}") -> str:
        """`lockstep_search`: a JSON list of hits."""
        database = self._database()
        if database is None:
            raise ConfigError(
                f"The connection's file {self._path or '(none: it is in memory)'} is no Lockstep database.",
                "Say which one to search: lockstep.sqlite.register(connection, database=PATH).",
            )
        if isinstance(query, bytes):
            query = sql_values.read_operand(query).numbers
        elif not isinstance(query, str):
            raise QueryError(f"The query is {_typed(query)}.", "Give a text, or a vector as a float32 BLOB.")
        if not isinstance(top_k, int):
            raise QueryError(f"The number of hits is {_typed(top_k)}.", "Give an integer.")
        chosen = _json_object("filter", where, '{"price": {"$lt": 90}}') or None
        more = _json_object("fifth argument, the options,", options, '{"mode": "hybrid"}')
        hits = database.search(str(task), query, **{**more, "top_k": top_k, "where": chosen})
        return json.dumps([_plain(_hit(hit)) for hit in hits], allow_nan=False)

    # --- embedding -------------------------------------------------------------------------------------------------

    def _vector(self, uri: str, text: str, kind: str) -> sql_values.Vector:
        from lockstep.extracting.values import clean

        text = clean(text)
        database = self._database()
        if database is None:
            return self._embedded(self._model_alone(uri), text, kind)
        model = database._accounts.model(uri)
        return self._cached(database, model, text, kind)

    def _cached(self, database: Database, model: Model, text: str, kind: str) -> sql_values.Vector:
        """From the cache, or by the model; and then it is written later.

        Not now: the caller may be in the midst of a statement that writes, and would be waited for in vain; or of one
        that reads, after which a transaction could no longer write, for what it has read would be of the past.
        """
        from lockstep.storage import cache, vectors
        from lockstep.syncing.cached import count, differs

        text_hash = vectors.hash_text(text, as_query=kind == "query" and differs(model))
        waiting = self._new.get((model.identity, DAYS[kind], text_hash))
        if waiting is not None:
            return waiting
        with database._dialect.begin(write=False) as connection:
            there = database._schema.is_there()
            space = vectors.find_space(connection, model.identity, model.info.dimensions) if there else None
            known = vectors.known(connection, space, [text_hash]) if space else {}
            if space and known:
                for vector_id in cache.aging(known.values(), DAYS[kind], time.time()):
                    self._aging.setdefault((space, DAYS[kind]), set()).add(vector_id)
                found: sql_values.Vector = vectors.read(connection, space, [known[text_hash].id])[0]
                count(database._dialect, hits=1)
                return found
        count(database._dialect, misses=1)
        vector = self._embedded(model, text, kind)
        self._new[model.identity, DAYS[kind], text_hash] = vector
        if len(self._new) > NEW_MAX:
            self._new.popitem(last=False)
        return vector

    def _embedded(self, model: Model, text: str, kind: str) -> sql_values.Vector:
        from lockstep.syncing.cached import embed_now
        from lockstep.types import Usage

        try:
            done = embed_now(model, [text], "query" if kind == "query" else "document", "error")
        except TextTooLong as exc:
            raise shorter(exc) from exc
        used, cost = self._usage.get(model.identity, (Usage(), 0.0))
        price = model.info.price_per_million_tokens or 0.0
        self._usage[model.identity] = (used + done.usage, cost + done.usage.tokens * price / 1e6)
        for problem in (done.interruption, *done.errors.values()):
            if problem:
                raise shorter(problem) if isinstance(problem, TextTooLong) else problem
        vector: sql_values.Vector = np.asarray(done.vectors, dtype=np.float32)[0]
        return vector

    def _model_alone(self, uri: str) -> Model:
        from lockstep.models import open_model

        if uri not in self._alone:
            self._alone[uri] = open_model(uri, self._models)
        return self._alone[uri]

    # --- the database ----------------------------------------------------------------------------------------------

    def _database(self) -> Database | None:
        """The one that was given, or that of the connection's file; None where there is none yet."""
        if self._is_closed:
            raise ConfigError("The functions of this connection were closed.", "Register them again.")
        if self._given is not None or self._path is None:
            return self._given
        if self._opened is None:
            from lockstep.database import Database

            self._opened = Database(self._path, create=False, models=self._models)
        # Of a file that was named, a Lockstep database may be made; of one that merely is open, never.
        there = self._wanted or self._opened._schema.is_there()
        return self._opened if there else None

    def keep(self) -> int:
        """See `Functions.keep`."""
        database = self._database() if self._new or self._aging or self._usage else None
        if database is None:
            return 0
        check_writable(database.location)
        write(database, self._new, self._aging, self._usage)
        written = len(self._new)
        self._new, self._aging, self._usage = OrderedDict(), {}, {}
        return written

    def close(self) -> None:
        """See `Functions.close`."""
        if self._is_closed:
            return
        try:
            self.keep()
        except (StoreLocked, StoreReadOnly) as exc:
            warnings.warn(f"{len(self._new)} new vectors were not kept in the cache: {exc}", RuntimeWarning, 2)
        finally:
            self._is_closed = True
            if self._opened is not None:
                self._opened.close()


def shorter(error: TextTooLong) -> QueryError:
    """What can be done in SQL about a text that is too long."""
    message = error.message.replace("Text 0", "The text", 1)
    return QueryError(message, "Give a part of it, substr(text, 1, 1000), or add a task, which cuts texts into chunks.")


def check_writable(location: str) -> None:
    """Find out soon whether a database can be written.

    Raises:
        StoreLocked: a transaction is writing.
        StoreReadOnly: the file is not to be written at all.
    """
    from lockstep.storage.sqlite import translate_sqlite

    uri = f"{Path(location).resolve().as_uri()}?mode=rw"  # a file that is gone is not made again
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=KEEP_WAIT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorname.startswith("SQLITE_BUSY"):
            raise StoreLocked(
                f"A transaction is writing to {location}.",
                "If it is that of the connection, commit or roll back first.",
            ) from exc
        raise translate_sqlite(exc, location) from exc


def write(
    database: Database,
    new: Mapping[tuple[str, int, bytes], sql_values.Vector],
    aging: Mapping[tuple[Space, int], Collection[int]],
    took: Mapping[str, tuple[Usage, float]],
) -> None:
    """Note what `ai_embed` did.

    Args:
        database: whose cache.
        new: vectors by (model's identity, days to keep them, hash of the text).
        aging: ids of vectors that were used and shall live on, by where they are and for how many days.
        took: by model's identity, what its provider was asked, and US dollars.
    """
    from lockstep.storage import usage, vectors

    database._schema.ensure()
    day = vectors.today(time.time())
    groups: dict[tuple[str, int, int], dict[bytes, sql_values.Vector]] = {}
    for (identity, days, text_hash), vector in new.items():
        groups.setdefault((identity, days, len(vector)), {})[text_hash] = vector
    with database._dialect.begin(write=True) as connection:
        for (identity, days, dimensions), group in groups.items():
            space = vectors.space_of(connection, identity, dimensions)
            vectors.insert(connection, space, list(group), np.stack(list(group.values())), day + days, day)
        for (space, days), ids in aging.items():
            vectors.renew(connection, space, list(ids), day + days, day)
        for identity, (used, cost) in took.items():
            usage.record(connection, day, "", identity, "embed", used, cost)


def _hit(hit: Hit) -> dict[str, Any]:
    chunk = hit.chunk
    where = {"path": chunk.path, "position": chunk.position, "text": chunk.text, "start": chunk.start, "end": chunk.end}
    return {
        "id": hit.id,
        "similarity": hit.similarity,
        "score": hit.score,
        "document": hit.document,
        "chunk": where,
    }


def _plain(value: Any) -> Any:
    """What stands in JSON for a value: bytes as SQL's hex() gives them, numbers that JSON lacks as null."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex().upper()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)


def _json_object(what: str, text: Any, example: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError) as exc:
        raise QueryError(f"The {what} is not JSON: {exc}.", f"For example: '{example}'.") from exc
    if not isinstance(found, dict):
        raise QueryError(f"The {what} is not a JSON object.", f"For example: '{example}'.")
    return found


def _typed(value: Any) -> str:
    return f"a BLOB of {len(value)} bytes" if isinstance(value, bytes) else repr(value)


# --- errors that say what is wrong -------------------------------------------------------------------------------------

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _explained(method: _Method) -> _Method:
    """The method, raising what a function said instead of what sqlite3 makes of it."""

    def call(self: sqlite3.Cursor, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except sqlite3.OperationalError as exc:
            functions = getattr(self.connection, "functions", None)
            if functions is not None:
                functions.explain(exc)
            raise

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call  # type: ignore[return-value]


class Cursor(sqlite3.Cursor):
    """A cursor of `Connection`."""

    execute = _explained(sqlite3.Cursor.execute)
    executemany = _explained(sqlite3.Cursor.executemany)
    executescript = _explained(sqlite3.Cursor.executescript)
    fetchone = _explained(sqlite3.Cursor.fetchone)
    fetchmany = _explained(sqlite3.Cursor.fetchmany)
    fetchall = _explained(sqlite3.Cursor.fetchall)
    __next__ = _explained(sqlite3.Cursor.__next__)


class Connection(sqlite3.Connection):
    """A connection whose errors say what a function found wrong: `sqlite3.connect(path, factory=Connection)`."""

    functions: Functions | None = None

    def cursor(self, factory: Any = Cursor) -> Any:
        """See `sqlite3.Connection.cursor`."""
        return super().cursor(factory)

    def execute(self, *arguments: Any) -> Any:
        """See `sqlite3.Connection.execute`."""
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        """See `sqlite3.Connection.executemany`."""
        return self.cursor().executemany(*arguments)

    def executescript(self, *arguments: Any) -> Any:
        """See `sqlite3.Connection.executescript`."""
        return self.cursor().executescript(*arguments)
