"""SQL functions on a user's own connection: vectors, embeddings and searches, and what is said when something is wrong."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import lockstep
import lockstep.sqlite
from lockstep.errors import ConfigError, QueryError, StoreLocked
from lockstep.sqlite import Connection
from lockstep.testing import HashModel
from lockstep.types import FORMS, Form
from lockstep.vectors.quantization import codec

GENERIC = "user-defined function raised exception"
NAMES = ["warm parka", "rain coat", "tent", "stove", "lamp"]


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


@pytest.fixture
def sql() -> Iterator[Connection]:
    """In memory, without a database of Lockstep's."""
    connection = sqlite3.connect(":memory:", factory=Connection)
    with lockstep.sqlite.register(connection):
        yield connection
    connection.close()


@pytest.fixture
def model() -> HashModel:
    """Counts what it is asked."""
    return HashModel(dimensions=16)


@pytest.fixture
def shop(path: Path, writer: sqlite3.Connection, model: HashModel) -> Iterator[lockstep.Database]:
    """A table of a user's own, embedded."""
    writer.executemany("INSERT INTO t (name, price) VALUES (?, ?)", [(name, 10 * n) for n, name in enumerate(NAMES)])
    with lockstep.open(path, models={"test:model": model}) as database:
        database.add_task("shop-search", "t", ["name"], model="test:model")
        database.sync()
        yield database


def one(connection: sqlite3.Connection, expression: str, *values: Any) -> Any:
    return connection.execute(f"SELECT {expression}", values).fetchone()[0]


def said(connection: sqlite3.Connection, expression: str, *values: Any) -> str:
    """What the user reads."""
    with pytest.raises(sqlite3.OperationalError) as caught:
        one(connection, expression, *values)
    return str(caught.value)


def cached(database: lockstep.Database) -> int:
    """How many vectors its cache has."""
    return database.cache.stats().vectors


# --- functions of vectors ---------------------------------------------------------------------------------------------


def test_vectors_are_compared(sql: Connection) -> None:
    """The numbers that anyone gets with pencil and paper; BLOBs and JSON alike."""
    for a, b in [(packed(3, 4), packed(4, 3)), ("[3, 4]", "[4, 3]"), (packed(3, 4), "[4, 3]")]:
        assert one(sql, "cosine_similarity(?, ?)", a, b) == pytest.approx(24 / 25)
        assert one(sql, "cosine_distance(?, ?)", a, b) == pytest.approx(1 / 25)
        assert one(sql, "l2_distance(?, ?)", a, b) == pytest.approx(math.sqrt(2))
        assert one(sql, "inner_product(?, ?)", a, b) == pytest.approx(24)
        assert one(sql, "negative_inner_product(?, ?)", a, b) == pytest.approx(-24)
    assert one(sql, "vector_dims(?)", packed(3, 4)) == 2
    assert one(sql, "vector_norm('[3, 4]')") == 5.0
    assert one(sql, "cosine_similarity(?, ?)", packed(1, 2, 3), packed(1, 2, 3)) == 1.0
    assert one(sql, "l2_distance(?, ?)", packed(0, 0), packed(3, 4)) == 5.0


def test_json_and_blobs_are_the_same_vector(sql: Connection) -> None:
    """There and back, to the bit; and the JSON is as a person would write it."""
    assert one(sql, "vector_to_json(?)", packed(0.1, -2.0, 3.5)) == "[0.1,-2.0,3.5]"
    assert one(sql, "vector_from_json('[0.1, -2, 3.5]')") == packed(0.1, -2.0, 3.5)
    numbers = np.random.default_rng(1).standard_normal(50).astype("<f4").tobytes()
    assert one(sql, "vector_from_json(vector_to_json(?))", numbers) == numbers


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e18, 1e25, 1e38])
def test_very_short_and_very_long_vectors_are_compared(sql: Connection, scale: float) -> None:
    """Squares that float32 does not hold change no answer."""
    a, b = packed(0.6 * scale, 0.8 * scale), packed(0.8 * scale, 0.6 * scale)
    assert one(sql, "cosine_similarity(?, ?)", a, b) == pytest.approx(0.96, rel=1e-5)
    assert one(sql, "vector_norm(?)", a) == pytest.approx(scale, rel=1e-5)
    assert one(sql, "l2_distance(?, ?)", a, b) == pytest.approx(math.sqrt(0.08) * scale, rel=1e-5)


@pytest.mark.parametrize("dimensions", [16, 13])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_compared_as_what_it_stands_for(sql: Connection, form: Form, dimensions: int) -> None:
    """A stored vector of any form, and one of float32; in either order."""
    rows = np.random.default_rng(2).standard_normal((2, dimensions)).astype(np.float32)
    encoded = codec(form).encode(rows[:1])
    decoded = codec(form).decode(encoded.data, dimensions, encoded.scales)[0].astype(np.float64)
    stored, query, exact = encoded.data.tobytes(), rows[1].tobytes(), rows[1].astype(np.float64)
    cosine = decoded @ exact / np.linalg.norm(decoded) / np.linalg.norm(exact)
    assert one(sql, "cosine_similarity(?, ?, ?)", stored, query, form) == pytest.approx(cosine, abs=1e-6)
    assert one(sql, "cosine_similarity(?, ?, 'float32', ?)", query, stored, form) == pytest.approx(cosine, abs=1e-6)
    if form == "int8":
        assert encoded.scales is not None
        whole = one(sql, "vector_float32(?, 'int8', ?)", stored, float(encoded.scales[0]))
        assert np.frombuffer(whole, "<f4") == pytest.approx(decoded)
        assert "needs its scale" in said(sql, "l2_distance(?, ?, 'int8')", stored, query)
    else:
        distance = float(np.linalg.norm(decoded - exact))
        assert one(sql, "l2_distance(?, ?, ?)", stored, query, form) == pytest.approx(distance, abs=1e-5)


def test_what_was_given_before_is_not_taken_for_what_is_given_now(sql: Connection) -> None:
    """Arguments that stay decoded change no answer: columns on both sides, changing forms and kinds."""
    sql.execute("CREATE TABLE pairs (n INTEGER PRIMARY KEY, a, b)")
    rows = [(packed(n, 1), "[1, 0]" if n % 3 else packed(0, 1)) for n in range(20)]
    sql.executemany("INSERT INTO pairs (a, b) VALUES (?, ?)", rows)
    found = [row[0] for row in sql.execute("SELECT inner_product(a, b) FROM pairs ORDER BY n")]
    assert found == [n if n % 3 else 1 for n in range(20)]
    same = packed(1, 2)
    one(sql, "vector_dims(?)", same)
    query = "SELECT cosine_similarity(?1, ?1, f, f) FROM (SELECT 'float32' AS f UNION ALL SELECT 'int8')"
    assert [row[0] for row in sql.execute(query, (same,))] == pytest.approx([1.0, 1.0])


CALLS = [
    "cosine_similarity({}, ?)",
    "cosine_distance(?, {})",
    "l2_distance({}, ?)",
    "inner_product({}, ?)",
    "negative_inner_product(?, {})",
    "vector_float32({}, ?)",
]


@pytest.mark.parametrize("call", CALLS)
def test_null_gives_null(sql: Connection, call: str) -> None:
    """A row without a vector is no error."""
    assert one(sql, call.format("NULL"), packed(1, 2)) is None


def test_null_gives_null_for_one_argument(sql: Connection) -> None:
    """The others, too."""
    for call in ("vector_dims", "vector_norm", "vector_to_json", "vector_from_json"):
        assert one(sql, f"{call}(NULL)") is None
    assert one(sql, "ai_embed('fake:hash', NULL)") is None
    assert one(sql, "lockstep_search('task', NULL)") is None


# --- errors -----------------------------------------------------------------------------------------------------------

WRONG = [
    ("l2_distance('[1,2]', '[1,2,3]')", "l2_distance: different vector dimensions 2 and 3"),
    ("cosine_similarity(x'0102', '[1]')", "cosine_similarity: A BLOB of 2 bytes is no float32 vector"),
    ("cosine_similarity(x'', '[1]')", "A BLOB of 0 bytes"),
    ("cosine_similarity('[1]', '[1]', 'int4')", "There is no form 'int4'"),
    ("vector_dims(x'00', 'int4')", "There is no form 'int4'"),
    ("cosine_similarity('[0,0]', '[1,2]')", "A vector of zeros has no direction"),
    ("vector_norm(7)", "vector_norm: It is given an integer 7, not a vector"),
    ("vector_norm('seven')", "A text that is no JSON is no vector: 'seven'"),
    ("vector_norm('{}')", "It is given the JSON '{}'"),
    ("vector_norm('[]')", "It is given the JSON '[]'"),
    ("vector_norm('[1, true]')", "this one holds True"),
    ("vector_norm('[1, null]')", "this one holds None"),
    ("vector_norm('[1, NaN]')", "holds NaN, infinity"),
    ("vector_norm('[1e39]')", "too large for float32"),
    ("vector_from_json('[1' || '0')", "A text that is no JSON"),
    ("vector_from_json(x'00')", "a BLOB of 1 bytes, not a JSON text"),
    ("inner_product(x'0000c07f', '[1]')", "holds NaN or infinity"),
    ("vector_to_json(x'0000807f')", "holds NaN, infinity"),
    ("vector_float32(x'01', 'int8')", "is given with the scale None"),
    ("ai_embed('fake:nothing', 'a')", "ai_embed: "),
    ("ai_embed('nobody:x', 'a')", 'There is no model provider or connection "nobody"'),
    ("ai_embed('fake:hash', 'a', 'other')", "There is no kind 'other'"),
    ("ai_embed('fake:hash', 7)", "The text is 7, not a text"),
    ("ai_embed('local:minilm', replace(hex(zeroblob(999)), '00', 'word '))", "ai_embed: The text has 999 tokens"),
    ("ai_embed('local:minilm', replace(hex(zeroblob(999)), '00', 'word '))", "Give a part of it, substr("),
    ("ai_embed(7, 'text')", "The model is 7, not a text"),
    ("lockstep_search('task', 'warm')", "lockstep_search: The connection's file (none: it is in memory)"),
]


@pytest.mark.parametrize(("expression", "message"), WRONG, ids=[message for _, message in WRONG])
def test_an_error_says_what_is_wrong(sql: Connection, expression: str, message: str) -> None:
    """Which function, what it was given, and what to do; on a connection that was made to say so."""
    assert message in said(sql, expression)


def test_every_way_of_asking_says_what_is_wrong(sql: Connection) -> None:
    """Rows that come one by one, many statements, scripts; the error is the cause's."""
    sql.execute("CREATE TABLE v (v)")
    sql.executemany("INSERT INTO v VALUES (?)", [("[1]",), ("[2]",), ("two",)])
    wrong = "SELECT vector_norm(v) FROM v"
    ways = [
        lambda: list(sql.execute(wrong)),
        lambda: sql.execute(wrong).fetchall(),
        lambda: sql.execute(wrong).fetchmany(5),
        lambda: sql.cursor().execute(wrong + " WHERE v = 'two'").fetchone(),
        lambda: sql.executemany("INSERT INTO v SELECT vector_norm(?)", [("[1]",), ("no",)]),
        lambda: sql.executescript("SELECT 1; UPDATE v SET v = vector_norm('no');"),
    ]
    for way in ways:
        with pytest.raises(sqlite3.OperationalError, match="vector_norm: A text that is no JSON") as caught:
            way()
        assert isinstance(caught.value.__cause__, QueryError)


def test_other_errors_are_left_as_they_are(sql: Connection) -> None:
    """What an earlier call said is not said of another's fault."""

    def broken() -> None:
        raise ValueError

    sql.create_function("broken", 0, broken)
    said(sql, "vector_norm('no')")
    assert said(sql, "broken()") == GENERIC
    assert "no such table" in said(sql, "x FROM nowhere")
    assert "wrong number of arguments to function vector_norm()" in said(sql, "vector_norm(1, 2, 3)")


def test_a_plain_connection_says_it_where_the_functions_are_closed() -> None:
    """Python's sqlite3 forgets what a function raised: it is told by `error`, and by the block that it leaves."""
    connection = sqlite3.connect(":memory:")
    functions = lockstep.sqlite.register(connection)
    assert functions.error is None
    assert said(connection, "vector_norm('no')") == GENERIC
    assert isinstance(functions.error, QueryError)
    assert one(connection, "vector_norm('[2]')") == 2.0
    assert functions.error is None
    with pytest.raises(sqlite3.OperationalError, match="vector_norm: A text that is no JSON"), functions:
        one(connection, "vector_norm('no')")
    connection.close()


def test_what_a_model_raises_is_said(path: Path) -> None:
    """Also what is no error of ours."""

    def broken(texts: list[str]) -> Any:
        raise RuntimeError("out of order")

    connection = sqlite3.connect(path, factory=Connection)
    with lockstep.sqlite.register(connection, models={"my:model": broken}):
        message = said(connection, "ai_embed('my:model', 'text')")
    connection.close()
    assert message.startswith("ai_embed: ")
    assert "out of order" in message


# --- ai_embed -----------------------------------------------------------------------------------------------------------


def test_ai_embed_gives_what_the_model_gives(sql: Connection) -> None:
    """As documents and as queries; without a database."""
    expected = lockstep.model("fake:hash?dimensions=16").embed_documents(["warm"])[0]
    assert one(sql, "ai_embed('fake:hash?dimensions=16', 'warm')") == expected.tobytes()
    prompted = "fake:hash?dimensions=16&query_prompt=query: "
    expected = lockstep.model(prompted).embed_queries(["warm"])[0]
    assert one(sql, "ai_embed(?, 'warm', 'query')", prompted) == expected.tobytes()
    assert one(sql, "ai_embed(?, 'warm')", prompted) != expected.tobytes()


def test_a_constant_is_embedded_once_for_a_statement(model: HashModel) -> None:
    """However many rows are compared with it."""
    connection = sqlite3.connect(":memory:")
    with lockstep.sqlite.register(connection, models={"test:model": model}):
        connection.execute("CREATE TABLE v (v)")
        connection.executemany("INSERT INTO v SELECT ai_embed('test:model', ?)", [(name,) for name in NAMES])
        asked = model.texts_embedded
        query = "SELECT v FROM v ORDER BY cosine_similarity(v, ai_embed('test:model', ?)) DESC"
        best = connection.execute(query, ("another tent",)).fetchall()
        assert model.texts_embedded == asked + 1
        assert len(best) == len(NAMES)
    connection.close()


def test_what_the_cache_has_is_not_embedded(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """A text that a task embedded; the vector is that of the task."""
    asked = model.texts_embedded
    connection = sqlite3.connect(path)
    with lockstep.sqlite.register(connection, database=shop):
        query = (
            'SELECT count(*) FROM t JOIN "shop-search_embeddings" e ON e.key = t.id WHERE e.vector = ai_embed(?, name)'
        )
        assert connection.execute(query, ("test:model",)).fetchone() == (len(NAMES),)
    connection.close()
    assert model.texts_embedded == asked


def test_new_vectors_go_into_the_cache_when_all_is_done(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """Not within a statement; then whoever asks next finds them."""
    connection = sqlite3.connect(path)
    with lockstep.sqlite.register(connection, models={"test:model": model}) as functions:
        vector = one(connection, "ai_embed('test:model', 'something new')")
        before = cached(shop)
        assert functions.keep() == 1
        assert functions.keep() == 0
        one(connection, "ai_embed('test:model', 'something else')")
    connection.close()
    asked = model.texts_embedded
    found = shop.embed(["something new", "something else"], model="test:model")
    assert model.texts_embedded == asked
    assert found[0].tobytes() == vector
    assert before == len(NAMES)
    assert shop.check() == []


def test_a_vector_that_is_used_lives_on(path: Path, shop: lockstep.Database) -> None:
    """As it does when `Database.embed` uses it: 90 days."""
    shop.embed(["short-lived"], model="test:model", cache_days=1)
    latest = "SELECT max(expires_on) - min(expires_on) FROM lockstep_vectors_1_float32"
    connection = sqlite3.connect(path)
    assert connection.execute(latest).fetchone() == (89,)
    with lockstep.sqlite.register(connection, database=shop):
        one(connection, "ai_embed('test:model', 'short-lived')")
    assert connection.execute(latest).fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("isolation_level", [None, "", "IMMEDIATE"])
def test_a_statement_that_writes_may_embed(
    path: Path, shop: lockstep.Database, model: HashModel, isolation_level: Any
) -> None:
    """The connection holds the write lock meanwhile: nothing waits for it, and the transaction is the user's."""
    connection = sqlite3.connect(path, isolation_level=isolation_level, timeout=0)
    with lockstep.sqlite.register(connection, models={"test:model": model}):
        connection.execute("ALTER TABLE t ADD COLUMN v BLOB")
        if isolation_level is None:
            connection.execute("BEGIN")
            connection.execute("SELECT name, ai_embed('test:model', name || '!') FROM t").fetchall()
        connection.execute("UPDATE t SET v = ai_embed('test:model', name || '?')")
        connection.commit()
        dims = connection.execute("SELECT DISTINCT vector_dims(v) FROM t").fetchall()
    connection.close()
    assert dims == [(16,)]
    asked = model.texts_embedded
    shop.embed([f"{name}?" for name in NAMES], model="test:model")
    assert model.texts_embedded == asked


def test_rows_that_are_still_read_do_not_hinder_writing(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """A cursor that embeds row after row, and updates in between."""
    connection = sqlite3.connect(path, timeout=0)
    with lockstep.sqlite.register(connection, models={"test:model": model}):
        connection.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY, v BLOB)")
        connection.commit()
        for row_id, vector in connection.execute("SELECT id, ai_embed('test:model', 'the ' || name) FROM t"):
            connection.execute("INSERT INTO mine VALUES (?, ?)", (row_id, vector))
        connection.commit()
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (len(NAMES),)
    connection.close()


def test_an_open_transaction_is_told_of_when_vectors_cannot_be_kept(
    path: Path, shop: lockstep.Database, model: HashModel
) -> None:
    """Asked for, it is an error; at the end, a warning, for the answer was given."""
    connection = sqlite3.connect(path)
    functions = lockstep.sqlite.register(connection, models={"test:model": model})
    connection.execute("UPDATE t SET name = name")
    one(connection, "ai_embed('test:model', 'new')")
    with pytest.raises(StoreLocked, match="commit or roll back"):
        functions.keep()
    with pytest.warns(RuntimeWarning, match="1 new vectors were not kept"):
        functions.close()
    connection.rollback()
    connection.close()


def test_a_database_that_cannot_be_written_gives_vectors_all_the_same(
    path: Path, shop: lockstep.Database, model: HashModel
) -> None:
    """And one that is gone is not made again."""
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    connection = sqlite3.connect(copy)
    functions = lockstep.sqlite.register(connection, models={"test:model": model})
    assert len(one(connection, "ai_embed('test:model', 'new')")) == 64
    connection.commit()
    copy.unlink()
    with pytest.warns(RuntimeWarning, match="1 new vectors were not kept"):
        functions.close()
    connection.close()
    assert not copy.exists()


def test_a_file_without_lockstep_stays_without(path: Path, writer: sqlite3.Connection, model: HashModel) -> None:
    """Embedding makes no tables in somebody's database, unless it was named for that."""

    def tables() -> set[str]:
        return {row[0] for row in writer.execute("SELECT name FROM sqlite_master") if row[0].startswith("lockstep")}

    with lockstep.sqlite.register(writer, models={"test:model": model}):
        assert len(one(writer, "ai_embed('test:model', 'new')")) == 64
    assert tables() == set()
    with lockstep.sqlite.register(writer, database=path, models={"test:model": model}):
        one(writer, "ai_embed('test:model', 'new')")
    assert "lockstep_meta" in tables()


def test_vectors_are_kept_although_nobody_closed_anything(path: Path, shop: lockstep.Database) -> None:
    """A program that ends, its connection still open."""
    program = f"""
        import sqlite3, lockstep.sqlite
        connection = sqlite3.connect({str(path)!r})
        lockstep.sqlite.register(connection)
        connection.execute("SELECT ai_embed('fake:hash?dimensions=16', 'left behind')").fetchall()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert cached(shop) == len(NAMES) + 1


def test_closing_the_connection_keeps_vectors(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """It lets the functions go."""
    connection = sqlite3.connect(path)
    lockstep.sqlite.register(connection, models={"test:model": model})
    one(connection, "ai_embed('test:model', 'new')")
    connection.close()
    asked = model.texts_embedded
    shop.embed(["new"], model="test:model")
    assert model.texts_embedded == asked


def test_closed_functions_say_so(path: Path, shop: lockstep.Database) -> None:
    """Those of vectors need nothing, and go on; a database that was given stays open."""
    connection = sqlite3.connect(path, factory=Connection)
    functions = lockstep.sqlite.register(connection, database=shop)
    functions.close()
    functions.close()
    assert "ai_embed: The functions of this connection were closed" in said(connection, "ai_embed('fake:hash', 'a')")
    assert one(connection, "vector_norm('[2]')") == 2.0
    connection.close()
    assert shop.status("shop-search").embeddings == len(NAMES)


def test_models_belong_to_whoever_opens(path: Path, shop: lockstep.Database) -> None:
    """An open database has its own."""
    connection = sqlite3.connect(path)
    with pytest.raises(ConfigError, match="models of its own"):
        lockstep.sqlite.register(connection, database=shop, models={"my:model": HashModel(dimensions=16)})
    connection.close()


# --- lockstep_search ----------------------------------------------------------------------------------------------------

JOIN = """
    SELECT t.id, t.name, j.value ->> 'similarity' FROM json_each(lockstep_search('shop-search', ?, 3)) AS j
    JOIN t ON t.id = j.value ->> 'id' ORDER BY j.key
"""


def test_a_search_is_joined_with_the_users_table(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """The same hits in the same order as `Database.search`; the search is made once."""
    calls = model.texts_embedded
    connection = sqlite3.connect(path)
    with lockstep.sqlite.register(connection, models={"test:model": model}):
        rows = connection.execute(JOIN, ("coats for rain",)).fetchall()
    connection.close()
    assert model.texts_embedded == calls + 1
    hits = shop.search("shop-search", "coats for rain", top_k=3)
    assert [row[:2] for row in rows] == [(hit.id, hit.document["name"]) for hit in hits]
    assert [row[2] for row in rows] == pytest.approx([hit.similarity for hit in hits])


def test_a_search_takes_a_filter_and_a_vector(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """Filters are JSON in MongoDB's form; a vector is a BLOB."""
    connection = sqlite3.connect(path, factory=Connection)
    with lockstep.sqlite.register(connection, database=shop):
        filtered = json.loads(
            one(connection, "lockstep_search('shop-search', 'tent', 10, '{\"price\": {\"$lt\": 20}}')")
        )
        vector = shop.embed(["tent"], model="test:model")[0]
        by_vector = json.loads(one(connection, "lockstep_search('shop-search', ?, 1)", vector.tobytes()))
        assert "is not JSON" in said(connection, "lockstep_search('shop-search', 'tent', 3, 'price < 20')")
        assert "not a JSON object" in said(connection, "lockstep_search('shop-search', 'tent', 3, '[]')")
        options = "lockstep_search('shop-search', 'warm', 3, '{}', ?)"
        (first, *_) = json.loads(one(connection, options, '{"mode": "keyword"}'))
        assert first["similarity"] is None
        assert 'no search option "mood"' in said(connection, options, '{"mood": 1}')
        assert "the options, is not JSON" in said(connection, options, "hybrid")
        assert "The number of hits is 'many'" in said(connection, "lockstep_search('shop-search', 'tent', 'many')")
        assert 'no task "shop-serch"' in said(connection, "lockstep_search('shop-serch', 'tent')")
        assert "The query is 7" in said(connection, "lockstep_search('shop-search', 7)")
        assert "lockstep_search: The query is empty" in said(connection, "lockstep_search('shop-search', ' ')")
    connection.close()
    assert {hit["document"]["price"] for hit in filtered} == {0, 10}
    assert by_vector[0]["chunk"]["text"] == "tent"
    assert by_vector[0].keys() == {"id", "similarity", "score", "document", "chunk"}


def test_a_search_sees_what_is_committed_and_synced(path: Path, shop: lockstep.Database, model: HashModel) -> None:
    """It reads on a connection of its own; what the caller has not committed is not there yet, and nothing waits."""
    connection = sqlite3.connect(path)
    with lockstep.sqlite.register(connection, models={"test:model": model}):
        connection.execute("DELETE FROM t WHERE name = 'tent'")
        before = json.loads(one(connection, "lockstep_search('shop-search', 'tent', 1)"))
        connection.commit()
        after = json.loads(one(connection, "lockstep_search('shop-search', 'tent', 1)"))
    connection.close()
    assert before[0]["document"]["name"] == "tent"
    assert after[0]["document"]["name"] != "tent"


def test_keys_of_bytes_and_of_several_columns_can_be_joined(path: Path) -> None:
    """Bytes as hex() writes them; several columns as a list."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE b (id BLOB PRIMARY KEY, name TEXT)")
    connection.execute("CREATE TABLE two (x INTEGER, y TEXT, name TEXT, PRIMARY KEY (x, y))")
    connection.execute("INSERT INTO b VALUES (x'00ff', 'tent')")
    connection.execute("INSERT INTO two VALUES (1, 'a', 'tent')")
    connection.commit()
    with lockstep.open(path) as database:
        for source in ("b", "two"):
            database.add_task(source, source, ["name"], model="fake:hash?dimensions=16")
        database.sync()
        with lockstep.sqlite.register(connection, database=database):
            each = "FROM json_each(lockstep_search('{}', 'tent', 1)) AS j JOIN {} s ON"
            rows = connection.execute(f"SELECT name {each.format('b', 'b')} hex(s.id) = j.value ->> 'id'").fetchall()
            columns = "s.x = j.value ->> '$.id[0]' AND s.y = j.value ->> '$.id[1]'"
            rows += connection.execute(f"SELECT name {each.format('two', 'two')} {columns}").fetchall()
    connection.close()
    assert rows == [("tent",), ("tent",)]


# --- other connections --------------------------------------------------------------------------------------------------


def test_sqlalchemy_has_the_functions_on_every_connection(path: Path, shop: lockstep.Database) -> None:
    """By its "connect" event; and its errors say what is wrong."""
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"factory": Connection})

    @sa.event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: object) -> None:
        lockstep.sqlite.register(connection, database=shop)

    nearest = sa.text("SELECT name FROM t ORDER BY cosine_similarity(ai_embed('test:model', name), :v) DESC LIMIT 1")
    vector = shop.embed(["stove"], model="test:model")[0].tobytes()
    with engine.connect() as connection:
        assert connection.execute(nearest, {"v": vector}).scalar() == "stove"
        with pytest.raises(sa.exc.OperationalError, match="different vector dimensions 16 and 1"):
            connection.execute(nearest, {"v": packed(1)}).all()
    engine.dispose()


def test_a_connections_settings_do_not_matter(path: Path) -> None:
    """Rows as dictionaries, texts as bytes."""
    connection = sqlite3.connect(path, factory=Connection)
    connection.row_factory = lambda cursor, row: dict(zip([c[0] for c in cursor.description], row, strict=True))
    connection.text_factory = bytes
    with warnings.catch_warnings(), lockstep.sqlite.register(connection):
        assert connection.execute("SELECT vector_norm('[2]') AS n").fetchone() == {"n": 2.0}
        assert lockstep.sqlite.main_file(connection) == path.resolve()
    connection.close()
