"""The keyword index of a recipe: an FTS5 table over the texts of its chunks, kept in the transactions that change them.

The table has no content of its own: the texts are in the embeddings table, under the same ids. So a chunk is taken out by
telling FTS5 the text it was put in with, and whoever deletes embeddings calls `delete_chunks` first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from functools import cache

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ConfigError
from lockstep.storage.lookup import find_rows, in_pages
from lockstep.storage.schema import PREFIX, embeddings_table, meta
from lockstep.storage.segmented import segmented

TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
"""Marks are part of words: in the scripts of India a vowel is a mark, and would cut its word in two."""
LEAF_BYTES = 16_000  # a leaf fills a page of the database; with 4 KB ones, inserts took 15 % longer
AUTOMERGE = 8  # segments of a level before they are merged: with 16, a transaction in a million chunks took 2 s
REBUILD_PAGE = 5_000
CHECKED, MADE, FOUND = (f"temp.{PREFIX}words_{name}" for name in ("checked", "made", "found"))


def table_name(recipe_id: int) -> str:
    """The index of a recipe; a row's number in it is the id of an embedding."""
    return f"{PREFIX}words_{recipe_id}"


@cache
def is_supported() -> bool:
    """Whether this SQLite was compiled with FTS5."""
    with closing(sqlite3.connect(":memory:")) as connection:
        (modules,) = connection.execute("SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'").fetchone()
        return bool(modules)


def is_there(connection: Connection, recipe_id: int) -> bool:
    """Whether a recipe has an index, and one that every change so far has come to."""
    return has_table(connection, recipe_id) and not is_stale(connection, recipe_id)


def create(connection: Connection, recipe_id: int) -> None:
    """Make the index of a recipe, empty; nothing where SQLite cannot."""
    if is_supported():
        make_table(connection, table_name(recipe_id))


def drop(connection: Connection, recipe_id: int) -> None:
    """Remove every trace of the index.

    Raises:
        ConfigError: this SQLite cannot.
    """
    if has_table(connection, recipe_id):
        if not is_supported():
            raise ConfigError(
                "The task has a keyword index, which the SQLite of this Python, compiled without FTS5, cannot remove.",
                "Run this with a Python that has it, such as the one that made the index.",
            )
        connection.exec_driver_sql(f"DROP TABLE {table_name(recipe_id)}")
    connection.execute(sa.delete(meta).where(meta.c.name == stale_mark(recipe_id)))


def insert_chunks(connection: Connection, recipe_id: int, chunks: Iterable[tuple[int, str]]) -> None:
    """Put embeddings in that were written: (id, text), in the order of the ids, and all there are between them."""
    if is_kept(connection, recipe_id):
        insert_into(connection, recipe_id, table_name(recipe_id), chunks)


def delete_chunks(connection: Connection, recipe_id: int, ids: Collection[int]) -> None:
    """Take embeddings out that are about to be deleted: their texts must still be there."""
    if not ids or not is_kept(connection, recipe_id):
        return
    name = table_name(recipe_id)
    for page in in_pages(ids):
        found = find_rows(connection, embeddings_table(recipe_id), ("id", "text"), "id", page)
        rows = sorted((int(number), str(text)) for number, text in found)
        if rows:
            connection.exec_driver_sql(
                f"INSERT INTO {name} ({name}, rowid, text) VALUES ('delete', ?, ?)",
                [(number, segmented(text)) for number, text in rows],
            )


def rebuild(connection: Connection, recipe_id: int) -> None:
    """Make the index anew from the texts, a page of them in memory at a time, in the transaction of the caller."""
    drop(connection, recipe_id)
    create(connection, recipe_id)
    if has_table(connection, recipe_id):
        fill(connection, recipe_id, table_name(recipe_id))


def disagreement(connection: Connection, recipe_id: int) -> str | None:
    """What is wrong with the index, or None.

    It is compared with one made anew in a temporary database: which chunks it has, how many words each, and in how many
    chunks and how often every word occurs. Where SQLite has no FTS5, there is nothing that could be wrong.
    """
    if not is_supported():
        return None
    if not is_there(connection, recipe_id):
        return "it has no keyword index, or one that was not kept up to date"
    try:
        return differing_rows(connection, recipe_id) or differing_words(connection, recipe_id)
    except sa.exc.DatabaseError as exc:
        if "malformed" not in str(exc.orig):
            raise
        return f"its keyword index is damaged: {exc.orig}"


# --- how it is done ------------------------------------------------------------------------------------------------


def has_table(connection: Connection, recipe_id: int) -> bool:
    """Whether the table is there, whatever this SQLite can do with it."""
    found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = ?", (table_name(recipe_id),))
    return found.first() is not None


def is_kept(connection: Connection, recipe_id: int) -> bool:
    """Whether a change must come to the index; where it must and cannot, the index is marked as of no more use."""
    if not is_there(connection, recipe_id):
        return False
    if is_supported():
        return True
    connection.execute(sa.insert(meta).values(name=stale_mark(recipe_id), value="written by an SQLite without FTS5"))
    return False


def is_stale(connection: Connection, recipe_id: int) -> bool:
    """Whether embeddings were changed by a process that could not change the index."""
    mark = sa.select(meta.c.value).where(meta.c.name == stale_mark(recipe_id))
    return connection.execute(mark).first() is not None


def stale_mark(recipe_id: int) -> str:
    """The name of the mark among the facts of the database."""
    return f"words_{recipe_id}_stale"


def make_table(connection: Connection, name: str) -> None:
    """An empty index."""
    tokenizer = TOKENIZER.replace("'", "''")
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {name} USING fts5(text, content='', tokenize='{tokenizer}')")
    table = name.rpartition(".")[2]
    for option, value in (("pgsz", LEAF_BYTES), ("automerge", AUTOMERGE)):
        connection.exec_driver_sql(f"INSERT INTO {name} ({table}, rank) VALUES ('{option}', {value})")


def insert_into(connection: Connection, recipe_id: int, name: str, chunks: Iterable[tuple[int, str]]) -> None:
    """Put embeddings into an index, as `insert_chunks` gets them."""
    listed = list(chunks)
    if not listed:
        return
    rows = [(number, segmented(text)) for number, text in listed]
    if all(words is text for (_, words), (_, text) in zip(rows, listed, strict=True)):
        # One statement for all: with one for each, another thread of this process has a turn after every row.
        connection.exec_driver_sql(
            f"INSERT INTO {name} (rowid, text) SELECT id, text FROM {embeddings_table(recipe_id).name} "
            "WHERE id BETWEEN ? AND ? ORDER BY id",
            (rows[0][0], rows[-1][0]),
        )
    else:
        connection.exec_driver_sql(f"INSERT INTO {name} (rowid, text) VALUES (?, ?)", rows)


def fill(connection: Connection, recipe_id: int, name: str) -> None:
    """Put all texts of a recipe into an index."""
    table, after = embeddings_table(recipe_id), 0
    while True:
        page = connection.execute(
            sa.select(table.c.id, table.c.text).where(table.c.id > after).order_by(table.c.id).limit(REBUILD_PAGE)
        ).all()
        if not page:
            return
        insert_into(connection, recipe_id, name, ((row.id, row.text) for row in page))
        after = page[-1].id


def differing_rows(connection: Connection, recipe_id: int) -> str | None:
    """Whether other chunks are in the index than there are."""
    texts, words = embeddings_table(recipe_id).name, f"{table_name(recipe_id)}_docsize"
    missing = count_difference(connection, f"SELECT id FROM {texts}", f"SELECT id FROM {words}")
    surplus = count_difference(connection, f"SELECT id FROM {words}", f"SELECT id FROM {texts}")
    if not missing and not surplus:
        return None
    return f"its keyword index lacks {missing} chunk(s) and has {surplus} that are gone"


def differing_words(connection: Connection, recipe_id: int) -> str | None:
    """Whether the words in the index are other than those of the texts."""
    name, made = table_name(recipe_id), CHECKED.rpartition(".")[2]
    make_table(connection, CHECKED)
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {MADE} USING fts5vocab(temp, {made}, row)")
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {FOUND} USING fts5vocab(main, {name}, row)")
    try:
        fill(connection, recipe_id, CHECKED)
        sizes = [f"SELECT id, sz FROM {table}_docsize" for table in (name, CHECKED)]
        terms = [f"SELECT term, doc, cnt FROM {table}" for table in (FOUND, MADE)]
        chunks = count_difference(connection, *sizes)
        words = sum(count_difference(connection, *both) for both in (terms, terms[::-1]))
    finally:
        for table in (FOUND, MADE, CHECKED):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    if not chunks and not words:
        return None
    return f"its keyword index differs from the texts in {words} word(s) and the length of {chunks} chunk(s)"


def count_difference(connection: Connection, some: str, others: str) -> int:
    """How many rows of a query another does not have."""
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM ({some} EXCEPT {others})").scalar_one())
