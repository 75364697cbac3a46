"""Lockstep's own tables. All start with `lockstep_`; a recipe and a model have tables of their own, named by number."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import UserDefinedType

from lockstep.types import Form

SCHEMA_VERSION = 4
PREFIX = "lockstep_"


class KeyType(UserDefinedType[Any]):
    """A primary key's value as it is: integer, text or bytes. BLOB affinity keeps SQLite from converting it."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The column type in DDL."""
        return "BLOB"


metadata = MetaData()

meta = Table(
    "lockstep_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

collections = Table(
    "lockstep_collections",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Float, nullable=False),
)

models = Table(
    "lockstep_models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", Text, nullable=False, unique=True),
    Column("dimensions", Integer, nullable=False),
)

tasks = Table(
    "lockstep_tasks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("settings", Text, nullable=False),  # JSON
    Column("enabled", Boolean, nullable=False),
    Column("recipe_id", Integer, nullable=False),
    Column("outage", Text),  # why the last sync stopped early; null when it did not
    Column("outage_kind", Text),  # away, refused, cost, batch: what ends it
    Column("outage_until", Float),  # when it ends by itself, or is tried again; null when it does not
    Column("outage_tries", Integer, nullable=False, server_default="0"),  # in a row that met the outage
    # An edit whose recipe is being built beside the one that serves; null when there is none.
    Column("next_settings", Text),  # JSON
    Column("next_recipe_id", Integer),
)

connections = Table(
    "lockstep_connections",
    metadata,
    Column("name", Text, primary_key=True),
    Column("settings", Text, nullable=False),  # JSON; it names the places of keys and holds none
)

usage = Table(
    "lockstep_usage",
    metadata,
    Column("day", Integer, primary_key=True),  # days since 1970, UTC
    Column("task", Text, primary_key=True),  # empty for texts that belong to none
    Column("model", Text, primary_key=True),  # its identity
    Column("purpose", Text, primary_key=True),  # sync, search, embed, batch
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("limited", Integer, nullable=False),
    Column("texts", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("cost", Float, nullable=False),  # US dollars at the list price of that day
)

# What syncs did, hour by hour.
history = Table(
    "lockstep_history",
    metadata,
    Column("task", Text, primary_key=True),
    Column("hour", Integer, primary_key=True),  # hours since 1970, UTC
    Column("documents", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("embedded", Integer, nullable=False),
    Column("batched", Integer, nullable=False),
    Column("cached", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("limited", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("cost", Float, nullable=False),  # US dollars
    Column("failed", Integer, nullable=False),
    Column("seconds_read", Float, nullable=False),
    Column("seconds_model", Float, nullable=False),
    Column("seconds_write", Float, nullable=False),
    Column("batches", Integer, nullable=False),
    Column("batch_documents_max", Integer, nullable=False),
    Column("lag_s_max", Float, nullable=False),
)

# Texts that a provider refused for their length: they are cut finer, now and whenever they come again.
long_texts = Table(
    "lockstep_long_texts",
    metadata,
    Column("model_id", Integer, primary_key=True),
    Column("text_hash", LargeBinary, primary_key=True),
)

batch_jobs = Table(
    "lockstep_batch_jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("recipe_id", Integer, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("name", Text, nullable=False),  # our own; the provider keeps it with the batch
    Column("remote_id", Text),  # null until the provider has named it
    Column("file_id", Text),  # what was uploaded
    Column("state", Text, nullable=False),  # sending, waiting, ended
    Column("submitted_at", Float, nullable=False),
    Column("texts", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),  # estimated
    Column("done", Integer, nullable=False),  # texts, as the provider said last
    Column("problem", Text),
)

# The texts of each batch that have no answer yet.

batch_texts = Table(
    "lockstep_batch_texts",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("text_hash", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)

recipes = Table(
    "lockstep_recipes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("form", Text, nullable=False, server_default="float32"),  # what its vectors are kept in
    # Ids of embeddings are never given twice, so a larger one is always a later one: the index's watermark.
    Column("next_embedding_id", Integer, nullable=False),
    # Backfill reads the rows that were there before the task, in key order; null: nothing read yet.
    Column("backfill_after", KeyType),
    Column("backfill_done", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

leases = Table(
    "lockstep_leases",
    metadata,
    Column("token", Text, primary_key=True),
    Column("recipe_id", Integer, nullable=False),
    Column("owner", Text, nullable=False),  # host and process, to notice at once that it died
    Column("until", Float, nullable=False),
    Column("keys", LargeBinary, nullable=False),  # 8-byte hashes of the keys in work
    Column("model_id", Integer, nullable=False),
    Column("texts", LargeBinary, nullable=False),  # 16-byte hashes of the texts on their way to the model
    # The range a backfill claim covers, for whoever takes it over; both null for a claim on the queue.
    Column("range_after", KeyType),
    Column("range_last", KeyType),
)

failures = Table(
    "lockstep_failures",
    metadata,
    Column("recipe_id", Integer, primary_key=True),
    Column("key", KeyType, primary_key=True),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

# What must hold of an edit's answers before it serves; a row goes when its edit ends.
gates = Table(
    "lockstep_gates",
    metadata,
    Column("task", Text, primary_key=True),
    Column("token", Text, nullable=False),  # another one whenever it is to be judged anew
    Column("expression", Text, nullable=False),
    Column("queries", Text, nullable=False),  # JSON: texts by query id
    Column("qrels", Text, nullable=False),  # JSON: grades by query and document id
    Column("query_count", Integer, nullable=False),
    Column("outcome", Text),  # JSON; null until it was judged
    Column("judged_at", Float),
    Column("judged_up_to", Integer),  # the last embedding that was there then
    Column("judged_chunks", Integer),
    Column("problem", Text),  # why it could not be judged
    Column("problem_tries", Integer, nullable=False),  # in a row that met one
    Column("until", Float),  # others leave it alone so long; null when it is nobody's
)


@lru_cache(maxsize=1024)
def changes_table(recipe_id: int) -> Table:
    """The change queue of one recipe: a row per document that is not embedded as it now is.

    Rows are taken in the order of `id`, so a document that changes all the time cannot keep the others waiting.
    """
    name = f"{PREFIX}changes_{recipe_id}"
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("key", KeyType, nullable=False),
        Column("version", Integer, nullable=False),  # grows with every write to the document
        Column("queued_at", Float, nullable=False),
        UniqueConstraint("key", name=f"{name}_key"),
    )


@lru_cache(maxsize=1024)
def embeddings_table(recipe_id: int) -> Table:
    """Where the embeddings of one recipe belong: document, path, position, offsets, and which vector."""
    name = f"{PREFIX}embeddings_{recipe_id}"
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("key", KeyType, nullable=False),
        Column("path", Text, nullable=False),
        Column("position", Integer, nullable=False),
        Column("start", Integer, nullable=False),
        Column("end", Integer, nullable=False),
        Column("text", Text, nullable=False),
        Column("vector_id", Integer, nullable=False),
        Column("prefix", Text, nullable=False, server_default=""),  # what the model was given before the text
        Index(f"{name}_key", "key"),
    )


@lru_cache(maxsize=1024)
def vectors_table(model_id: int, form: Form = "float32") -> Table:
    """What a model says of a text, once per text, in one form: the cache.

    `vector` is raw little-endian. `expires_on` and `used_on` are day numbers (days since 1970); an expired row goes only
    when no embedding refers to it.
    """
    name = f"{PREFIX}vectors_{model_id}_{form}"
    # A row's int8 vector times its scale is about the vector that the model gave.
    scale = [Column("scale", Float, nullable=False)] if form == "int8" else []
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("text_hash", LargeBinary, nullable=False),
        Column("vector", LargeBinary, nullable=False),
        *scale,
        Column("expires_on", Integer, nullable=False),
        Column("used_on", Integer, nullable=False, server_default="0"),
        UniqueConstraint("text_hash", name=f"{name}_hash"),
        Index(f"{name}_expires", "expires_on"),
    )
