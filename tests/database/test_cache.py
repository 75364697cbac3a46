"""The cache: who shares it, how long it lasts, what may leave it, and moving it to another machine."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from conftest import State
from lockstep.errors import (
    ConfigError,
    ImportInvalid,
    ProviderRejected,
    ProviderUnavailable,
    SourceUnavailable,
    StoreFull,
    StoreTooNew,
    UnknownName,
)
from lockstep.storage import cache, exchange, sqlite, vectors
from lockstep.storage.vectors import Known, Space
from lockstep.syncing import cached, prune
from lockstep.syncing.flights import Boarding, Flights
from lockstep.testing import HashModel
from lockstep.types import FORMS, Kind, ModelInfo, Vectors

DAY_S = 86_400.0
START = 20_000  # a day
DEADLINE_S = 30
URI = "mine:model"
DOCUMENTS = [{"id": str(n), "text": f"text {n}"} for n in range(40)]


@dataclass(kw_only=True)
class Watched(HashModel):
    """A model that does what a test wants before it answers, and notes what it was asked."""

    asked: list[str] = field(default_factory=list)
    before: Callable[[Sequence[str]], None] | None = None
    query_prompt: str = ""

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, query_prompt=self.query_prompt)

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Any = None) -> Vectors:
        self.asked += texts
        if self.before:
            self.before(texts)
        return super().embed(texts, kind, tokens)


@contextmanager
def opened(path: Path, model: HashModel) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={URI: model}) as db:
        yield db


@pytest.fixture
def model() -> Watched:
    return Watched(dimensions=16)


@pytest.fixture
def mine(path: Path, model: Watched) -> Iterator[lockstep.Database]:
    """A database with `Watched` as `mine:model`."""
    with opened(path, model) as db:
        yield db


def with_task(db: lockstep.Database, name: str = "task", **settings: Any) -> lockstep.Database:
    db.collection("c").upsert(DOCUMENTS)
    db.add_task(name, "c", ["text"], model=URI, **settings)
    return db


def ask(db: lockstep.Database, model: HashModel, texts: Sequence[str], day: int, kind: Kind = "document") -> Vectors:
    """What `Database.embed` does, on a day."""
    db.collection("c")
    days = 14 if kind == "query" else 90
    return cached.embed_cached(db._dialect, lockstep.Model(URI, model), texts, kind, days, clock=lambda: day * DAY_S)


def rows(path: Path, columns: str = "hex(text_hash), expires_on, used_on", table: str = "1_float32") -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT {columns} FROM lockstep_vectors_{table} ORDER BY 1").fetchall()
    connection.close()
    return found


def days_of(path: Path) -> list[tuple[int, int]]:
    """(expires_on, used_on) of every vector, from the first day of the test."""
    return sorted((expires_on - START, used_on - START) for _, expires_on, used_on in rows(path))


# --- whose vector a text gets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [("Polish", "polish"), ("US", "us"), ("text", "text "), ("é", "e\u0301")])
def test_the_key_is_the_exact_text(mine: lockstep.Database, model: Watched, one: str, other: str) -> None:
    """What a model may tell apart, the cache tells apart."""
    first, second = mine.embed([one], model=URI), mine.embed([other], model=URI)
    assert model.asked == [one, other]
    assert not np.array_equal(first, second)
    assert np.array_equal(mine.embed([one], model=URI), first)


def test_tasks_of_one_model_share_their_vectors(mine: lockstep.Database, model: Watched) -> None:
    """A second task over the same texts costs nothing, whatever form its vectors are kept in."""
    with_task(mine).sync()
    for form in FORMS:
        mine.add_task(f"as-{form}", "c", ["text"], model=URI, quantization=form)
        mine.sync()
    assert model.texts_embedded == len(DOCUMENTS)
    assert mine.check() == []


@pytest.mark.parametrize(("prompt", "asked"), [("", 0), ("query: ", 1)])
def test_queries_and_documents_share_where_the_model_treats_them_alike(
    mine: lockstep.Database, model: Watched, prompt: str, asked: int
) -> None:
    """And only there: a query's prompt makes another vector of the same text."""
    model.query_prompt = prompt
    with_task(mine).sync()
    model.asked.clear()
    mine.search("task", "text 7")
    assert model.asked == [prompt + "text 7"][:asked]
    model.asked.clear()
    mine.collection("c").upsert([{"id": "new", "text": "asked before"}])
    mine.search("task", "asked before")
    mine.sync()
    assert model.asked == [prompt + "asked before", "asked before"][: 1 + asked]


# --- how long it lasts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [90, 14, 15, 1])
def test_a_vector_is_renewed_when_less_than_half_is_left(days: int) -> None:
    """On the day of its use: exactly half is enough. On another day, any use is noted."""
    today = vectors.today(START * DAY_S)
    for left in range(-2, days + 1):
        known = [Known(1, today + left, today), Known(2, today + left, today - 1)]
        assert cache.aging(known, days, START * DAY_S) == ([1] if 2 * left < days else []) + [2]
        assert cache.aging(known, days, START * DAY_S + DAY_S - 1) == ([1] if 2 * left < days else []) + [2]


def test_documents_live_90_days_and_queries_14(mine: lockstep.Database, model: Watched, path: Path) -> None:
    """From the day of their last use; a query never shortens the life of a document's vector."""
    ask(mine, model, ["document"], START)
    ask(mine, model, ["query"], START, "query")
    assert days_of(path) == [(14, 0), (90, 0)]
    ask(mine, model, ["document"], START + 1, "query")
    assert days_of(path) == [(14, 0), (90, 1)]
    ask(mine, model, ["query"], START + 2)
    assert days_of(path) == [(90, 1), (92, 2)]
    assert model.asked == ["document", "query"]


@pytest.mark.parametrize(("day", "removed"), [(14, 0), (15, 1)])
def test_a_vector_goes_on_the_day_after_its_last(
    mine: lockstep.Database, model: Watched, path: Path, day: int, removed: int
) -> None:
    """A prune looks once a day."""
    ask(mine, model, ["query"], START, "query")
    now = (START + day) * DAY_S
    assert prune.prune_if_due(mine._dialect, 90, now) == removed
    assert prune.prune_if_due(mine._dialect, 90, now + DAY_S - 1) == 0
    assert len(rows(path)) == 1 - removed


def test_what_is_in_use_outlives_its_day(mine: lockstep.Database, path: Path) -> None:
    """An expired vector that an embedding refers to lives on; the others of its age go."""
    with_task(mine).sync()
    mine.embed(["nobody's"], model=URI)
    later = vectors.today(datetime.now(UTC).timestamp()) + 91
    assert prune.prune_if_due(mine._dialect, 90, later * DAY_S) == 1
    assert {expires_on for _, expires_on, _ in rows(path)} == {later + 90}
    assert prune.remove_expired(mine._dialect, 90, later * DAY_S) == 0
    assert mine.check() == []


def test_a_search_that_finds_its_query_writes_nothing(mine: lockstep.Database, path: Path) -> None:
    """But for the first of a day; else searches would wait for whoever writes."""
    with_task(mine).sync()
    mine.search("task", "what?")
    watcher = sqlite3.connect(path)
    before = watcher.execute("PRAGMA data_version").fetchone()
    mine.search("task", "what?")
    mine.embed(["what?"], model=URI, kind="query")
    assert watcher.execute("PRAGMA data_version").fetchone() == before
    watcher.close()


def test_a_database_that_is_held_withholds_no_answer(
    path: Path, model: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a vector was used is noted the next time."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    with opened(path, model) as db:
        expected = ask(db, model, ["a"], START)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        assert np.array_equal(ask(db, model, ["a"], START + 1), expected)
        holder.execute("ROLLBACK")
        holder.close()
        assert days_of(path) == [(90, 0)]
        ask(db, model, ["a"], START + 2)
        assert days_of(path) == [(92, 2)]
    assert model.asked == ["a"]


# --- the same text, wanted twice at once ---------------------------------------------------------------------------


class Crowd(Flights):
    """Tells when somebody finds a text on its way already."""

    def __init__(self) -> None:
        super().__init__()
        self.met = threading.Event()

    @contextmanager
    def board(self, place: Any, hashes: Iterable[bytes]) -> Iterator[Boarding]:
        with super().board(place, hashes) as boarding:
            if boarding.others:
                self.met.set()
            yield boarding


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    found = Crowd()
    monkeypatch.setattr(cached, "FLIGHTS", found)
    return found


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """Run all at once; what each returned or raised."""
    results: list[object] = [None] * len(calls)

    def run(at: int) -> None:
        try:
            results[at] = calls[at]()
        except Exception as exc:  # noqa: BLE001
            results[at] = exc

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "it waits for ever"
    return results


def test_two_threads_that_want_one_text_ask_once(mine: lockstep.Database, model: Watched, crowd: Crowd) -> None:
    """The second waits for the first, and both have the vector."""
    model.before = lambda texts: None if crowd.met.wait(DEADLINE_S) else pytest.fail("nobody came")
    mine.collection("c")
    first, second = in_threads(*[lambda: mine.embed(["same"], model=URI)] * 2)
    assert model.asked == ["same"]
    assert isinstance(first, np.ndarray)
    assert np.array_equal(first, second)
    assert mine.cache.stats() == replace(mine.cache.stats(), hits=1, misses=1)


def test_an_error_of_one_thread_is_not_the_others(mine: lockstep.Database, model: Watched, crowd: Crowd) -> None:
    """Whoever waited asks for itself."""
    first_call = threading.Lock()

    def fail_once(texts: Sequence[str]) -> None:
        if first_call.acquire(blocking=False):
            assert crowd.met.wait(DEADLINE_S)
            raise ProviderUnavailable("It is away.")

    model.before = fail_once
    mine.collection("c")
    results = in_threads(*[lambda: mine.embed(["same"], model=URI)] * 2)
    assert sorted(type(result).__name__ for result in results) == ["ProviderUnavailable", "ndarray"]
    assert model.asked == ["same", "same"]


def test_a_thread_that_hangs_holds_up_the_others_for_a_bounded_time(
    mine: lockstep.Database, model: Watched, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they ask for themselves."""
    monkeypatch.setattr(cached, "WAIT_S", 0.1)
    entered, released = threading.Event(), threading.Event()

    def hang_once(texts: Sequence[str]) -> None:
        if not entered.is_set():
            entered.set()
            assert released.wait(DEADLINE_S)

    model.before = hang_once
    mine.collection("c")

    def second() -> object:
        assert entered.wait(DEADLINE_S)
        try:
            return mine.embed(["same"], model=URI)
        finally:
            released.set()

    results = in_threads(lambda: mine.embed(["same"], model=URI), second)
    assert np.array_equal(*results)  # type: ignore[arg-type]
    assert model.asked == ["same", "same"]


def test_calls_that_overlap_in_any_order_end_and_ask_once(mine: lockstep.Database, model: Watched) -> None:
    """No thread waits while others wait for it; every text is sent once, whoever wants it."""
    mine.collection("c")
    texts = [f"text {n}" for n in range(30)]
    chance = random.Random(7)
    wanted = [texts, texts[::-1], *(chance.sample(texts, 20) for _ in range(6))]
    barrier = threading.Barrier(len(wanted))

    def call(some: list[str]) -> Vectors:
        barrier.wait(DEADLINE_S)
        return mine.embed(some, model=URI)

    results = in_threads(*[lambda some=some: call(some) for some in wanted])  # type: ignore[misc]
    for some, result in zip(wanted, results, strict=True):
        assert np.array_equal(result, mine.embed(some, model=URI))  # type: ignore[arg-type]
    assert sorted(model.asked) == sorted(texts)


def test_a_text_that_landed_while_another_thread_looked_is_not_asked_for_again(
    mine: lockstep.Database, model: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is looked at once more when nobody has it on the way."""
    mine.collection("c")
    expected: list[Vectors] = []

    class Late(Flights):
        @contextmanager
        def board(self, place: Any, hashes: Iterable[bytes]) -> Iterator[Boarding]:
            if not expected:
                expected.append(np.empty(0))
                expected[0] = mine.embed(["same"], model=URI)
            with super().board(place, hashes) as boarding:
                yield boarding

    monkeypatch.setattr(cached, "FLIGHTS", Late())
    assert np.array_equal(mine.embed(["same"], model=URI), expected[0])
    assert model.asked == ["same"]


def test_a_vector_that_could_not_be_kept_is_shared_all_the_same(
    mine: lockstep.Database, model: Watched, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid for: who waited has it, and who asked is told of the full disk."""

    def fail(*_: object) -> None:
        raise StoreFull("The disk is full.")

    model.before = lambda texts: None if crowd.met.wait(DEADLINE_S) else pytest.fail("nobody came")
    mine.collection("c")
    monkeypatch.setattr(vectors, "insert", fail)
    results = in_threads(*[lambda: mine.embed(["same"], model=URI)] * 2)
    assert sorted(type(result).__name__ for result in results) == ["StoreFull", "ndarray"]
    assert model.asked == ["same"]


def test_what_arrived_beside_an_error_is_kept_and_shared(mine: lockstep.Database, model: Watched) -> None:
    """A refused text takes no other with it to the next call."""
    model.reject = "bad"
    with pytest.raises(ProviderRejected):
        mine.embed(["bad"], model=URI)
    assert mine.embed(["good"], model=URI).shape == (1, 16)
    with pytest.raises(ProviderRejected):
        mine.embed(["good", "bad"], model=URI)
    assert model.asked == ["bad", "good", "bad"]


# --- what is in it, and what leaves it -----------------------------------------------------------------------------


def test_stats_add_up(mine: lockstep.Database, model: Watched) -> None:
    """Per model and form; in use and unused; what a prune would remove; what was asked for."""
    assert mine.cache.stats().entries == ()
    with_task(mine, quantization="int8").sync()
    ask(mine, model, ["old"], START)
    mine.embed(["new", "text 1"], model=URI)
    mine.embed(["new"], model=URI)
    found = mine.cache.stats()
    by_form = {entry.form: entry for entry in found.entries}
    assert [(e.form, e.vectors, e.in_use, e.unused, e.expired) for e in found.entries] == [
        ("float32", 3, 0, 3, 1),
        ("int8", 40, 40, 0, 0),
    ]
    assert by_form["float32"].vector_bytes == 3 * 64
    assert by_form["float32"].oldest_use == datetime.fromtimestamp(START * DAY_S, UTC).date()
    assert (found.vectors, found.unused, found.limit) == (43, 3, None)
    assert found.bytes == sum(entry.bytes for entry in found.entries)
    assert (found.hits, found.misses) == (1, 3)
    assert mine.cache.stats("fake:hash:16") == found == mine.cache.stats(URI)
    with pytest.raises(UnknownName, match="fake:hash:16"):
        mine.cache.stats("fake:hash:17")


def test_the_size_is_about_that_in_the_file(tmp_path: Path) -> None:
    """Within a tenth, for short and long vectors."""
    for dimensions in (64, 384, 1536, 4090, 5000, 8200):
        path, uri = tmp_path / f"{dimensions}.db", f"fake:hash?dimensions={dimensions}"
        sizes = []
        for texts in (1, 1001):
            with lockstep.open(path) as db:
                db.embed([f"text {n}" for n in range(texts)], model=uri)
                estimated = db.cache.stats().bytes
            sizes.append(path.stat().st_size)  # closed: all is in the file
        assert sizes[1] - sizes[0] == pytest.approx(estimated, rel=0.1)


def test_clear_leaves_what_is_in_use(
    mine: lockstep.Database, model: Watched, state: Callable[[lockstep.Database], State]
) -> None:
    """Of one model, or of all."""
    with_task(mine).sync()
    before = state(mine)
    mine.embed(["a", "b"], model=URI)
    mine.embed(["a"], model="fake:hash?dimensions=8")
    assert mine.cache.clear("fake:hash?dimensions=8") == 1
    assert mine.cache.stats().unused == 2
    assert mine.cache.clear() == 2
    assert mine.cache.clear() == 0
    assert state(mine) == before
    mine.remove_task("task")
    assert mine.cache.clear(URI) == len(DOCUMENTS)


@pytest.mark.parametrize("how", ["clear", "limit", "prune"])
def test_a_sync_ends_well_whatever_leaves_the_cache_meanwhile(
    path: Path, state: Callable[[lockstep.Database], State], tmp_path: Path, how: str
) -> None:
    """Vectors that a batch counted on are gone when it is stored: its documents are embedded again, and none is lost."""
    model = Watched(dimensions=16)
    with opened(path, model) as db, opened(path, Watched(dimensions=16)) as other:
        with_task(db, batch_documents=4)
        ask(db, model, [document["text"] for document in DOCUMENTS[::2]], START)
        if how == "limit":
            db.cache.limit = 0

        def remove(texts: Sequence[str]) -> None:
            if how == "clear":
                other.cache.clear()
            else:
                day = START + (95 if how == "prune" else 0)
                prune.remove_expired(other._dialect, 1, day * DAY_S)
                prune.keep_to_limit(other._dialect, day * DAY_S)

        model.before = remove
        assert db.sync().complete
        assert db.check() == []
        found = state(db)
    with opened(tmp_path / "alone.db", Watched(dimensions=16)) as db:
        with_task(db).sync()
        assert state(db) == found


@pytest.mark.parametrize("how", ["clear", "prune", "limit"])
def test_what_comes_into_use_at_the_last_moment_stays(
    mine: lockstep.Database, model: Watched, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A sync refers to vectors after they were found to be unused, and before they are removed."""
    with_task(mine)
    ask(mine, model, [document["text"] for document in DOCUMENTS[:30]], START)
    mine.cache.limit = 0 if how == "limit" else None
    monkeypatch.setattr(cache, "aging", lambda *_: [])  # nor does a renewal save them
    with mine._dialect.begin(write=True) as connection:
        today = str(vectors.today(datetime.now(UTC).timestamp()))
        prune.migrations.put(connection, prune.PRUNED_ON, today)  # the sync prunes nothing itself
        prune.migrations.put(connection, prune.KEPT, f"{today} 1000000")
    caught_up = prune.InUse.catch_up
    synced: list[bool] = []

    def catch_up(self: Any, connection: Any) -> None:
        caught_up(self, connection)
        if not synced:
            synced.append(True)
            mine.sync()

    monkeypatch.setattr(prune.InUse, "catch_up", catch_up)
    if how == "clear":
        assert mine.cache.clear() == 0
    elif how == "prune":
        assert prune.remove_expired(mine._dialect, 90, (START + 91) * DAY_S) == 0
    else:
        assert prune.keep_to_limit(mine._dialect, START * DAY_S).removed == 0
    assert (synced, len(model.asked)) == ([True], len(DOCUMENTS))
    assert mine.check() == []


def test_above_the_limit_the_least_recently_used_go(mine: lockstep.Database, model: Watched, path: Path) -> None:
    """By the day of their last use and then by age, of all models; a twentieth more, so that it is not done every time."""
    for day in range(10):
        ask(mine, model, [f"{day} {n}" for n in range(10)], START + day)
    ask(mine, model, ["0 0", "1 5"], START + 20)
    each = mine.cache.stats().bytes // 100
    mine.cache.limit = 60 * each
    kept = prune.keep_to_limit(mine._dialect, (START + 20) * DAY_S)
    assert 42 <= kept.removed <= 44
    assert kept.size <= 60 * each * 0.95 + each
    left = [used_on - START for _, _, used_on in rows(path)]
    assert sorted(left)[-2:] == [20, 20]
    assert min(left) == 4
    assert left.count(4) == 10 - (kept.removed - 38)
    assert prune.keep_to_limit(mine._dialect, (START + 20) * DAY_S).removed == 0


def test_the_limit_holds_after_a_sync(mine: lockstep.Database, model: Watched) -> None:
    """Without waiting for the daily prune; what is in use stays, and what else there is goes."""
    with_task(mine).sync()
    mine.embed(["nobody's"], model=URI)
    mine.cache.limit = 100
    mine.collection("c").upsert([{"id": "one", "text": "more"}])
    mine.sync()
    found = mine.cache.stats()
    assert (found.vectors, found.unused, found.limit) == (41, 0, 100)
    assert mine.check() == []
    done = mine.cache.prune()
    assert (done.expired, done.over_limit, done.within_limit) == (0, 0, False)
    mine.cache.limit = None
    assert mine.cache.prune().within_limit


def test_a_limit_that_cannot_be_kept_is_not_tried_at_every_sync(
    mine: lockstep.Database, model: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only on the next day, or when a twentieth more has come."""
    looked = []
    found = prune.unused_days
    monkeypatch.setattr(prune, "unused_days", lambda *all_: looked.append(1) or found(*all_))
    with_task(mine)
    mine.cache.limit = 100
    mine.sync()
    assert len(looked) == 1
    mine.embed(["one more"], model=URI)
    mine.sync()
    assert len(looked) == 1
    mine.embed(["one more", "and more", "and more of them"], model=URI)
    mine.sync()
    assert (len(looked), mine.cache.stats().unused) == (2, 0)


def test_a_limit_is_a_number_of_bytes(mine: lockstep.Database) -> None:
    """Anything else is an error, and the limit as it was."""
    assert mine.cache.limit is None
    mine.cache.limit = 5000
    for wrong in (-1, 1.5, "2GB", True):
        with pytest.raises(ConfigError, match="limit of the cache"):
            mine.cache.limit = wrong  # type: ignore[assignment]
    assert mine.cache.limit == 5000


def test_many_pages_are_removed_in_their_order(
    mine: lockstep.Database, model: Watched, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """Page by page: what is in use between them stays."""
    monkeypatch.setattr(prune, "PAGE", 7)
    with_task(mine).sync()
    ask(mine, model, [f"old {n}" for n in range(30)], START)
    mine.embed([f"new {n}" for n in range(30)], model=URI)
    ask(mine, model, [document["text"] for document in DOCUMENTS], START)
    assert prune.remove_expired(mine._dialect, 90, (START + 91) * DAY_S) == 30
    assert mine.cache.clear() == 30
    assert len(rows(path)) == 40
    assert mine.check() == []


# --- to another machine --------------------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export of 40 vectors in each form, one of them a query's."""
    with opened(tmp_path / "there.db", Watched(dimensions=16)) as db:
        for form in FORMS:
            with_task(db, f"in-{form}", quantization=form)
        db.sync()
        db.embed(["a question"], model=URI)
        done = db.cache.export(tmp_path / "export.cache")
        assert (done.vectors, done.left_out) == (161, 0)
        assert done.bytes == (tmp_path / "export.cache").stat().st_size
    return tmp_path / "export.cache"


@pytest.mark.parametrize("form", FORMS)
def test_an_imported_cache_saves_the_bill(
    exported: Path, mine: lockstep.Database, model: Watched, path: Path, form: str, tmp_path: Path
) -> None:
    """In an empty database, the same task asks its model for nothing, and has the same vectors to the bit."""
    imported = mine.cache.import_file(exported)
    assert (imported.vectors, imported.added) == (161, 161)
    with_task(mine, quantization=form).sync()
    mine.embed(["a question"], model=URI)
    assert model.asked == []
    assert mine.check() == []
    with sqlite3.connect(tmp_path / "there.db") as there:
        numbers = dict(there.execute("SELECT form, model_id FROM lockstep_recipes").fetchall())
    there.close()
    columns = "hex(text_hash), hex(vector)" + (", scale" if form == "int8" else "")
    table = f"{numbers[form]}_{form}"
    assert rows(path, columns, f"1_{form}") == rows(tmp_path / "there.db", columns, table)


def test_what_is_here_stays_as_it_is(exported: Path, mine: lockstep.Database, model: Watched, path: Path) -> None:
    """An import adds; a second one adds nothing; what was about to expire gets time to be wanted."""
    ask(mine, model, ["text 3"], START)
    before = rows(path, "hex(text_hash), hex(vector), expires_on, used_on")
    assert mine.cache.import_file(exported).added == 160
    assert mine.cache.import_file(exported).added == 0
    assert set(before) <= set(rows(path, "hex(text_hash), hex(vector), expires_on, used_on"))
    assert mine.cache.stats().vectors == 161


def test_an_old_export_is_not_expired_when_it_arrives(mine: lockstep.Database, model: Watched, tmp_path: Path) -> None:
    """Its task may yet have to be added."""
    ask(mine, model, ["a"], START)
    mine.cache.export(tmp_path / "old.cache")
    with lockstep.open(tmp_path / "new.db") as db:
        db.cache.import_file(tmp_path / "old.cache")
        assert db.cache.prune().expired == 0
        assert db.cache.stats().vectors == 1


def test_an_export_has_no_texts(exported: Path) -> None:
    """Whoever finds the file cannot read what was embedded."""
    content = exported.read_bytes()
    assert b"text 1" not in content
    assert b"question" not in content
    assert b"fake:hash:16" in content


def test_one_model_can_be_exported(mine: lockstep.Database, tmp_path: Path) -> None:
    """By its URI or its identity; another is an error that names those there are."""
    with_task(mine).sync()
    mine.embed(["a"], model="fake:hash?dimensions=8")
    assert mine.cache.export(tmp_path / "x", "fake:hash?dimensions=8").vectors == 1
    assert mine.cache.export(tmp_path / "x", "fake:hash:16").vectors == 40
    with pytest.raises(UnknownName, match="fake:hash:8"):
        mine.cache.export(tmp_path / "y", "nobody:knows")
    assert not (tmp_path / "y").exists()


def test_texts_that_are_too_long_come_along(mine: lockstep.Database, path: Path, tmp_path: Path) -> None:
    """Else the other machine would send them again to be refused."""
    mine.embed(["a"], model=URI)
    text_hash = vectors.hash_text("long")
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO lockstep_long_texts VALUES (1, ?)", (text_hash,))
    connection.close()
    mine.cache.export(tmp_path / "x")
    with lockstep.open(tmp_path / "new.db") as db:
        db.embed(["a"], model="fake:hash?dimensions=8")
        db.cache.import_file(tmp_path / "x")
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("SELECT * FROM lockstep_long_texts").fetchall() == [(2, text_hash)]
    connection.close()


def test_an_export_replaces_only_an_export(mine: lockstep.Database, path: Path, tmp_path: Path) -> None:
    """Never a database, nor any other file; and only when it is whole."""
    with_task(mine).sync()
    (tmp_path / "notes.txt").write_text("mine")
    for place in (path, tmp_path / "notes.txt"):
        before = place.read_bytes()
        with pytest.raises(ConfigError, match="is no exported cache"):
            mine.cache.export(place)
        assert place.read_bytes() == before
    with pytest.raises(ConfigError, match="is no file"):
        mine.cache.export(tmp_path)
    with pytest.raises(ConfigError, match="cannot be written"):
        mine.cache.export(tmp_path / "nowhere" / "x")


def test_an_export_that_breaks_off_leaves_the_earlier_one(
    mine: lockstep.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file of its own."""
    with_task(mine).sync()
    mine.cache.export(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    names = sorted(each.name for each in tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exchange, "spelled_entries", fail)
    with pytest.raises(KeyboardInterrupt):
        mine.cache.export(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == names


def test_a_damaged_vector_is_left_out(mine: lockstep.Database, path: Path, tmp_path: Path) -> None:
    """It would make the whole file unfit for import."""
    mine.embed(["a", "b", "c"], model=URI)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lockstep_vectors_1_float32 SET vector = zeroblob(64) WHERE id = 2")
        connection.execute("UPDATE lockstep_vectors_1_float32 SET vector = x'00' WHERE id = 3")
    connection.close()
    done = mine.cache.export(tmp_path / "x")
    assert (done.vectors, done.left_out) == (1, 2)
    with lockstep.open(tmp_path / "new.db") as db:
        assert db.cache.import_file(tmp_path / "x").added == 1


def content(db: lockstep.Database) -> list[Any]:
    """Everything in the cache of a database."""
    with db._dialect.begin(write=False) as connection:
        if not db._schema.is_there():
            return []
        found = []
        for space in vectors.spaces(connection):
            name = vectors.identity_of(connection, space.model_id)
            for entries in exchange.entries_of(connection, 0, space):
                found += [(name, space.form, e.text_hash, e.vector, e.scale) for e in entries]
    return sorted(found)


def test_no_damage_goes_unnoticed(exported: Path, tmp_path: Path) -> None:
    """A flipped byte or a lost end: an error and nothing imported, or nothing of the content was hit."""
    whole = exported.read_bytes()
    chance = random.Random(3)
    with lockstep.open(tmp_path / "sound.db") as db:
        db.cache.import_file(exported)
        expected = content(db)
    places = [*range(16, 100, 7), *(chance.randrange(len(whole)) for _ in range(100))]
    harmless = 0
    with lockstep.open(tmp_path / "new.db") as db:
        for at in places:
            exported.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
            try:
                db.cache.import_file(exported)
            except (ImportInvalid, StoreTooNew):
                assert content(db) == []
            else:
                assert content(db) == expected
                db.cache.clear()
                harmless += 1
        assert harmless < len(places)
        for size in (0, 50, 100, 4096, 16_384, 20_000, len(whole) // 2, len(whole) - 16_384, len(whole) - 1):
            exported.write_bytes(whole[:size])
            with pytest.raises(ImportInvalid, match=r"no exported cache|bytes it has"):
                db.cache.import_file(exported)
            assert content(db) == []


def alter(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM vectors WHERE id = 5",
        "UPDATE vectors SET expires_on = expires_on + 1 WHERE id = 5",
        "UPDATE vectors SET text_hash = x'00' WHERE id = 5",
        "UPDATE vectors SET vector = 'text' WHERE id = 5",
        "UPDATE vectors SET scale = 2.0 WHERE id = 5",
        "UPDATE vectors SET scale = 9e999 WHERE scale IS NOT NULL",
        "UPDATE vectors SET expires_on = 'soon'",
        "UPDATE vectors SET space = 99 WHERE id = 161",
        "UPDATE vectors SET space = NULL WHERE id = 161",
        "UPDATE spaces SET model = 'another' WHERE id = 1",
        "UPDATE spaces SET dimensions = 17 WHERE id = 1",
        "UPDATE spaces SET dimensions = 99999999999",
        "UPDATE spaces SET form = 'float8'",
        "UPDATE about SET checksum = x'00'",
        "DELETE FROM about",
        "DROP TABLE spaces",
        "CREATE TABLE more (id INTEGER)",
        "CREATE TRIGGER t AFTER INSERT ON vectors BEGIN DELETE FROM about; END",
        "INSERT INTO long_texts (space, text_hash) VALUES (1, x'0011')",
    ],
)
def test_a_file_that_was_tampered_with_is_refused(exported: Path, mine: lockstep.Database, statement: str) -> None:
    """Whole: nothing of it is stored."""
    if "NULL WHERE" in statement or "9e999" in statement:
        alter(exported, "PRAGMA writable_schema = ON")
    try:
        alter(exported, statement)
    except sqlite3.IntegrityError:
        alter(exported, statement.replace("NULL", "-1"))
    with pytest.raises(ImportInvalid, match="nothing was imported") as caught:
        mine.cache.import_file(exported)
    assert "Export it again" in caught.value.hint
    assert content(mine) == []


@pytest.mark.parametrize(
    "vector",
    [
        np.full(16, np.nan, np.float32).tobytes(),
        np.full(16, np.inf, np.float32).tobytes(),
        np.zeros(16, np.float32).tobytes(),
        np.ones(15, np.float32).tobytes(),
        np.ones(17, np.float32).tobytes(),
        np.full(16, 3e38, np.float32).tobytes(),
    ],
    ids=["nan", "infinite", "zero", "short", "long", "overflow"],
)
def test_no_bad_vector_is_imported(
    mine: lockstep.Database, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vector: bytes
) -> None:
    """Even from a file whose checksum is right."""
    mine.embed(["a", "b"], model=URI)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lockstep_vectors_1_float32 SET vector = ? WHERE id = 2", (vector,))
    connection.close()
    with monkeypatch.context() as trusting:
        trusting.setattr(exchange, "sound", lambda held, entries: np.ones(len(entries), bool))
        mine.cache.export(tmp_path / "x")
    with lockstep.open(tmp_path / "new.db") as db:
        with pytest.raises(ImportInvalid, match="vector 2 is none of 16 numbers in float32"):
            db.cache.import_file(tmp_path / "x")
        assert content(db) == []


def test_what_is_no_export_is_named(exported: Path, mine: lockstep.Database, path: Path, tmp_path: Path) -> None:
    """A text, a database, nothing at all, and an export of a newer Lockstep."""
    with_task(mine)
    (tmp_path / "text").write_text("no database" * 99)
    for place in (tmp_path / "text", path):
        with pytest.raises(ImportInvalid, match="is no exported cache"):
            mine.cache.import_file(place)
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(SourceUnavailable, match="Cannot read"):
            mine.cache.import_file(missing)
    alter(exported, "PRAGMA user_version = 2")
    with pytest.raises(StoreTooNew, match="format is 2, this one knows 1") as caught:
        mine.cache.import_file(exported)
    assert "pip install --upgrade lockstep" in caught.value.hint


def test_two_models_under_one_name_are_not_mixed(mine: lockstep.Database, tmp_path: Path, path: Path) -> None:
    """A file whose model has other dimensions here is refused."""
    mine.embed(["a"], model=URI)
    with lockstep.open(tmp_path / "there.db", models={URI: (other := Watched(dimensions=8))}) as db:
        db.embed(["a", "b"], model=URI)
        alter(tmp_path / "there.db", "UPDATE lockstep_models SET identity = 'fake:hash:16'")
        db.cache.export(tmp_path / "x")
    assert other.asked == ["a", "b"]
    with pytest.raises(ImportInvalid, match="with 8 dimensions, and here it has 16; nothing"):
        mine.cache.import_file(tmp_path / "x")
    assert len(rows(path)) == 1


def test_large_caches_pass_in_pages(
    mine: lockstep.Database, model: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the page, the same comes out."""
    with_task(mine, quantization="int8").sync()
    mine.embed([f"more {n}" for n in range(25)], model=URI)
    monkeypatch.setattr(exchange, "ROWS_IN_MEMORY", 7)
    told: list[int] = []
    mine.cache.export(tmp_path / "x", progress=told.append)
    assert told[-1] == 65
    assert len(told) > 8
    with lockstep.open(tmp_path / "new.db") as db:
        assert db.cache.import_file(tmp_path / "x", progress=told.append).added == told[-1] == 65
        assert content(db) == content(mine)


def test_which_vectors_to_give_up_is_a_pure_choice() -> None:
    """Oldest days first over all spaces, no more than needed, in whole days but for the last."""
    a, b = Space(1, 16), Space(2, 16)
    days = {a: {5: 10, 7: 10}, b: {6: 4, 8: 1}}
    costs = {a: 10.0, b: 100.0}
    assert prune.least_recent(days, costs, 0) == []
    assert prune.least_recent(days, costs, 95) == [(a, 5, None)]
    assert prune.least_recent(days, costs, 41) == [(a, 5, 5)]
    assert prune.least_recent(days, costs, 300) == [(a, 5, None), (b, 6, 2)]
    assert prune.least_recent(days, costs, 530) == [(a, 5, None), (b, 6, None), (a, 7, 3)]
    assert prune.least_recent(days, costs, 10_000) == [(a, 7, None), (b, 8, None)]


def test_a_vector_of_a_beginning_is_not_taken_for_that_of_the_whole_text(path: Path) -> None:
    """Whoever lets the end be cut off finds it again; whoever does not is told."""
    long = "word " * 400
    with lockstep.open(path) as db:
        with pytest.warns(lockstep.errors.TextsCut):
            first = db.embed([long], model="local:minilm", truncate="end")
        with pytest.raises(lockstep.errors.TextTooLong):
            db.embed([long], model="local:minilm")
        before = db.cache.stats().hits
        np.testing.assert_array_equal(db.embed([long], model="local:minilm", truncate="end"), first)
        assert db.cache.stats().hits == before + 1
