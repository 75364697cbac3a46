"""What an estimate says is what the sync then does; and where not all is read, the truth lies within its margins."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import ConfigError, TextTooLong, UnknownName
from lockstep.syncing import estimate as estimating
from lockstep.syncing.estimate import Distinct, Seen, estimate_job
from lockstep.syncing.foresight import spread, thinned
from lockstep.testing import HashModel
from lockstep.types import ModelInfo

SENTENCE = "the rain in spain stays mainly on plain roofs and far fields while nobody looks at them"


class Paid(HashModel):
    """A model at a service: it counts the tokens that it is sent, and has a price."""

    tokens = 0
    price: float | None = 0.1
    prompt = ""
    contextual = False
    longest: int | None = None

    @property
    def info(self) -> ModelInfo:
        return replace(
            super().info,
            price_per_million_tokens=self.price,
            document_prompt=self.prompt,
            contextual=self.contextual,
        )

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
        counts = [len(ids) for ids in self.tokenizer.ids(texts)]
        if self.longest and max(counts) > self.longest:
            raise TextTooLong("Too long.")
        self.tokens += sum(counts)
        return super().embed(texts, kind, tokens)


@pytest.fixture
def paid() -> Paid:
    return Paid(dimensions=16, max_tokens=40)


@pytest.fixture
def other() -> Paid:
    return Paid(dimensions=24, max_tokens=40)


@pytest.fixture
def db(path: Path, paid: Paid, other: Paid) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={"test:paid": paid, "test:other": other}) as database:
        yield database


def text_of(chooser: random.Random, words: int) -> str:
    return " ".join(chooser.choices(SENTENCE.split(), k=words))


def fill(db: lockstep.Database, documents: int = 300, seed: int = 0) -> None:
    """Documents of which some share texts, some have none, and some are long."""
    chooser = random.Random(seed)
    db.collection("things").upsert(
        {
            "id": number,
            "price": number % 10,
            "group": f"group {number % 7}",
            "text": text_of(chooser, chooser.choice([0, 1, 3, 30, 200])),
            "tags": [text_of(chooser, 1) for _ in range(number % 3)],
        }
        for number in range(documents)
    )


def add(db: lockstep.Database, **settings: Any) -> None:
    db.add_task("task", "things", **({"fields": ["text"], "model": "test:paid"} | settings))


def check_against_sync(db: lockstep.Database, model: Paid, **limits: Any) -> estimating.Estimate:
    """The estimate, once it was found to say what a sync does."""
    expected = db.estimate("task")
    texts, tokens = model.texts_embedded, model.tokens
    report = db.sync(**limits)
    assert report.complete
    assert expected.exact
    assert (expected.chunks_margin, expected.tokens_margin, expected.tokens_to_embed_margin) == (0, 0, 0)
    assert expected.texts_to_embed == report.embedded == model.texts_embedded - texts
    assert expected.tokens_to_embed == model.tokens - tokens
    stored = list(db.embeddings("task"))
    assert expected.chunks == len(stored)
    assert expected.documents == db.status("task").documents
    after = db.estimate("task")
    assert (after.texts_to_embed, after.tokens_to_embed, after.cost) == (0, 0, 0.0)
    assert after.cache_hits == after.texts_distinct == expected.texts_distinct
    return expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fields": ["text", "group", "tags[]"]},
        {"fields": ["group"]},
        {"where": {"price": {"$lt": 4}}},
        {"chunking": {"max_tokens": 10, "overlap_tokens": 3}},
        {"fields": {"text": {"max_tokens": 5}, "tags[]": None}, "quantization": "int8"},
    ],
    ids=["one field", "duplicates", "few texts", "where", "many chunks", "chunking per field"],
)
def test_an_estimate_says_what_the_sync_then_does(db: lockstep.Database, paid: Paid, settings: dict[str, Any]) -> None:
    """Chunks, texts and tokens; and once it is in step, nothing is to be embedded."""
    fill(db)
    add(db, **settings)
    found = check_against_sync(db, paid)
    assert found.cost == pytest.approx(found.tokens_to_embed * 0.1 / 1e6)


def test_of_what_changes_only_what_is_new_costs(db: lockstep.Database, paid: Paid) -> None:
    """What is embedded and unchanged, and what comes back, is in the cache."""
    fill(db)
    add(db, fields=["text", "group"])
    db.sync()
    things = db.collection("things")
    things.upsert(
        [{"id": 1, "text": "never seen", "group": "group 1"}, {"id": 1000, "text": "twice", "group": "twice"}]
    )
    things.delete([2, 3])
    found = check_against_sync(db, paid)
    assert found.texts_to_embed == 2


def test_prompts_and_prefixes_are_paid_for(db: lockstep.Database, paid: Paid) -> None:
    """The tokens are those that are sent, headings and the model's prompt among them."""
    paid.prompt = "passage: "
    chooser = random.Random(1)
    db.collection("things").upsert(
        {"id": n, "text": f"# Title {n % 3}\n\n## Part {n}\n\n{text_of(chooser, 60)}\n"} for n in range(20)
    )
    add(db, chunking={"method": "markdown", "headings": True, "max_tokens": 30})
    assert any(chunk.prefix for document in db.preview("task").documents for chunk in document.chunks)
    check_against_sync(db, paid)


def test_a_change_in_context_costs_its_whole_text(db: lockstep.Database, paid: Paid) -> None:
    """A contextual model is sent all chunks of a text of which one is new."""
    paid.contextual = True
    fill(db, 60)
    add(db)
    check_against_sync(db, paid)
    text = db.collection("things").get(4)["text"]  # type: ignore[index]
    db.collection("things").upsert([{"id": 4, "text": f"{text or 'word ' * 100} and this"}])
    assert check_against_sync(db, paid).texts_to_embed > 1


def test_texts_that_were_too_long_are_counted_as_they_are_cut(db: lockstep.Database, paid: Paid) -> None:
    """What a provider refused for its length is remembered, and nothing is left to embed."""
    paid.longest = 9
    fill(db, 40)
    add(db)
    assert db.sync().complete
    after = db.estimate("task")
    assert after.texts_to_embed == 0
    assert after.chunks == len(list(db.embeddings("task")))


def test_an_edit_costs_what_is_not_known_in_its_space(db: lockstep.Database, paid: Paid, other: Paid) -> None:
    """Another form nothing, another field its texts, another model all of them; and the sync after it does the same."""
    fill(db, 80)
    add(db)
    db.sync()
    assert db.estimate("task", quantization="binary").texts_to_embed == 0
    more = db.estimate("task", fields=["text", "group"])
    assert more.texts_to_embed == 7
    assert db.estimate("task", where={"price": 1}).texts_to_embed == 0
    anew = db.estimate("task", model="test:other", chunking={"max_tokens": 20})
    assert anew.texts_to_embed == anew.texts_distinct > 7
    assert other.texts_embedded == 0
    db.edit_task("task", model="test:other", chunking={"max_tokens": 20})
    assert db.estimate("task") == anew
    report = db.sync()
    assert report.embedded == anew.texts_to_embed == other.texts_embedded
    assert other.tokens == anew.tokens_to_embed
    assert db.estimate("task", fields="group", model="test:paid").texts_to_embed == 7


def test_from_a_coarser_form_nothing_can_be_taken(db: lockstep.Database) -> None:
    """int8 vectors make binary ones, and no float32 ones."""
    fill(db, 30)
    add(db, quantization="int8")
    db.sync()
    assert db.estimate("task", quantization="binary").texts_to_embed == 0
    float32 = db.estimate("task", quantization="float32")
    assert float32.texts_to_embed == float32.texts_distinct


def test_a_task_need_not_be_there(writer: sqlite3.Connection, fill: Callable[[int], None], path: Path) -> None:
    """Nor Lockstep's tables: nothing is made by looking."""
    fill(50)
    task = lockstep.Task.create("new", source="t", fields=["name"], model="fake:hash")
    with lockstep.open(path) as database:
        found = database.estimate(task)
        assert (found.documents, found.chunks, found.texts_to_embed) == (50, 50, 50)
        assert database.estimate(task, where={"price": {"$lt": 5}}).documents == 5
        with pytest.raises(UnknownName, match="nmae"):
            database.estimate(task, fields=["nmae"])
    assert writer.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_unknown_names_are_answered_with_the_nearest(db: lockstep.Database) -> None:
    """Of tasks and of settings."""
    fill(db, 3)
    add(db)
    with pytest.raises(UnknownName, match='"task"'):
        db.estimate("tsak")
    with pytest.raises(UnknownName, match='"quantization"'):
        db.estimate("task", quantisation="int8")
    with pytest.raises(ConfigError, match="sample is 0"):
        db.estimate("task", sample=0)


def test_a_document_that_cannot_be_read_holds_up_no_other(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """They are counted, and one is named."""
    fill(db, 30)
    add(db)
    writer.execute("UPDATE things SET data = 'no JSON' WHERE id IN ('3', '4')")
    assert writer.execute("SELECT changes()").fetchone() == (2,)
    found = db.estimate("task")
    assert (found.documents, found.failed) == (30, 2)
    assert found.error
    assert "'3'" in found.error or "'4'" in found.error


def test_money_is_known_where_a_price_is(db: lockstep.Database, paid: Paid) -> None:
    """None is not 0: a price that nobody knows makes a cost that nobody knows."""
    fill(db, 20)
    add(db)
    paid.price = None
    found = db.estimate("task")
    assert (found.price_per_million_tokens, found.cost) == (None, None)
    assert (found.seconds, found.seconds_from) == (None, "unknown")
    db.sync()
    assert db.estimate("task").cost == 0.0


def test_a_model_that_runs_here_is_measured(db: lockstep.Database) -> None:
    """By some of the texts; it costs time, not money, and the vectors are not kept."""
    fill(db, 40)
    add(db, model="local:minilm")
    found = db.estimate("task")
    assert found.cost == 0.0
    assert found.seconds_from == "measured"
    assert found.seconds
    assert found.seconds > 0
    assert found.tokens_exact
    assert db.estimate("task").texts_to_embed == found.texts_to_embed


def test_limits_say_the_least_time(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service is not asked, not even for a key: its connection's limits and the list price are known."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    fill(db, 200)
    add(db, fields=["text", "group"])
    db.add_connection("slow", "openai", api_key="env:NO_SUCH_KEY", tokens_per_minute=1000)
    found = db.estimate("task", model="slow:text-embedding-3-small")
    assert found.seconds_from == "limits"
    assert found.seconds == pytest.approx(found.tokens_to_embed * 60 / 1000)
    assert found.cost == pytest.approx(found.tokens_to_embed * found.price_per_million_tokens / 1e6)  # type: ignore[operator]
    db.add_connection("few", "openai", api_key="env:NO_SUCH_KEY", requests_per_minute=3, texts_per_request=2)
    found = db.estimate("task", model="few:text-embedding-3-small")
    assert found.seconds == pytest.approx(found.texts_to_embed / 2 * 20, rel=0.05)
    assert db.estimate("task", model="openai:text-embedding-3-small").seconds_from == "unknown"


@pytest.mark.parametrize("form", ["float32", "float16", "int8", "binary"])
def test_the_room_of_vectors_is_what_the_tables_take(db: lockstep.Database, path: Path, form: Any) -> None:
    """In each form, the scales of int8 among it; and the texts beside them."""
    fill(db, 50)
    add(db, quantization=form)
    found = db.estimate("task")
    db.sync()
    with sqlite3.connect(path) as connection:
        (table,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'lockstep_vectors_%' AND type = 'table'"
        ).fetchone()
        scale = " + 8" if form == "int8" else ""
        assert connection.execute(f"SELECT sum(length(vector){scale}) FROM {table}").fetchone() == (
            found.bytes_stored[found.quantization],
        )
        (embeddings,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'lockstep_embeddings_%' AND type = 'table'"
        ).fetchone()
        texts = connection.execute(f"SELECT sum(length(CAST(text AS BLOB))) FROM {embeddings}").fetchone()
    assert texts == (found.bytes_text,)


def test_vectors_that_documents_bring_along_cost_nothing(db: lockstep.Database) -> None:
    """No model is asked for them."""
    db.collection("things").upsert({"id": n, "vector": [float(n % 4), 1.0]} for n in range(10))
    db.add_task("task", "things", vectors="vector", dimensions=2)
    found = db.estimate("task")
    assert (found.texts_to_embed, found.tokens_to_embed, found.cost, found.seconds) == (4, 0, 0.0, 0.0)
    assert db.sync().complete
    assert db.estimate("task").texts_to_embed == 0


# --- where not all is read ----------------------------------------------------------------------------------------------


@pytest.fixture
def large(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> lockstep.Database:
    """A source that counts as large: lengths that vary with the order of the keys, and texts that many share."""
    monkeypatch.setattr(estimating, "EXACT_DOCUMENTS", 150)
    chooser = random.Random(5)
    db.collection("things").upsert(
        {
            "id": number,
            "group": f"group {number % 5}",
            "text": f"{number} {text_of(chooser, chooser.randrange(10, 30 + number // 20) * (1 + number % 2))}",
        }
        for number in range(2400)
    )
    add(db, fields=["text", "group"])
    return db


def test_the_truth_lies_within_the_margins(large: lockstep.Database) -> None:
    """Of 95 % intervals of 40 samples, about 38 hold it; with 34 or fewer something would be wrong (p < 0.003)."""
    job = large._trial("task", {})
    truth = estimate_job(job, None)
    assert truth.exact
    assert truth.documents_sampled == truth.documents == 2400
    within = {"chunks": 0, "tokens": 0, "tokens_to_embed": 0}
    for seed in range(40):
        found = estimate_job(job, 150, seed=seed)
        assert (found.documents, found.documents_sampled, found.exact) == (2400, 150, False)
        for name in within:
            margin = getattr(found, f"{name}_margin")
            assert 0 < margin < 0.3 * getattr(truth, name)
            within[name] += abs(getattr(found, name) - getattr(truth, name)) <= margin
        assert found.texts_distinct == pytest.approx(truth.texts_distinct, rel=0.25)
    assert min(within.values()) >= 35, within


def test_the_same_source_is_estimated_the_same(large: lockstep.Database) -> None:
    """A number that jumps about would be believed by nobody."""
    first = large.estimate("task", sample=100)
    assert not first.exact
    assert first.documents_sampled == 100
    assert large.estimate("task", sample=100) == first


def test_when_the_time_is_up_what_was_read_stands_for_all(large: lockstep.Database) -> None:
    """Long documents do not make it slow; a few hundred are read in any case."""
    ticks = count(step=estimating.COUNT_S)
    found = estimate_job(large._trial("task", {}), 2400, clock=lambda: float(next(ticks)))
    assert not found.exact
    assert estimating.SAMPLED_MIN <= found.documents_sampled < 2400
    assert found.documents == 2400
    whole = large.estimate("task", sample=None)
    assert abs(found.tokens - whole.tokens) <= 2 * found.tokens_margin


def test_in_step_nothing_is_to_embed_in_a_sample_either(large: lockstep.Database) -> None:
    """0 is 0, however few were read."""
    large.sync()
    found = large.estimate("task", sample=100)
    assert (found.texts_to_embed, found.tokens_to_embed, found.tokens_to_embed_margin, found.cost) == (0, 0, 0, 0.0)


def test_texts_that_many_documents_share_are_not_scaled_up(large: lockstep.Database) -> None:
    """Five groups in the sample are five groups, not eighty."""
    found = large.estimate("task", fields="group", sample=100)
    assert found.texts_distinct == 5
    assert found.chunks == 2400


def test_too_many_different_texts_are_counted_in_bounded_memory() -> None:
    """Within a few per cent, with a thousand hashes in memory; and exactly as long as there are few."""
    chooser, distinct = random.Random(3), Distinct(most=1000)
    hashes = [chooser.randbytes(16) for _ in range(40_000)]
    for number, text_hash in enumerate(hashes):
        for new in distinct.new({text_hash: None}):
            distinct.add(new, Seen(2, number, number % 4 == 0, is_image=False))
        if number == 900:
            assert distinct.is_whole
            assert distinct.totals(1.0).texts == 901
    totals = distinct.totals(1.0)
    assert not distinct.is_whole
    assert totals.texts == pytest.approx(40_000, rel=0.12)
    assert totals.known == pytest.approx(10_000, rel=0.2)
    assert totals.tokens_missing == pytest.approx(60_000, rel=0.12)


@pytest.mark.parametrize("total", [0, 1, 9, 10, 19, 20, 21, 999, 1000, 5000])
def test_keys_are_spread_over_all(total: int) -> None:
    """One of every stretch of equal length, from as many as wanted to twice as many; all where there are few."""
    pages = [list(range(at, min(at + 7, total))) for at in range(0, total, 7)]
    keys, number = spread(iter(pages), 10, random.Random(total))
    assert number == total
    assert keys == sorted(set(keys))
    length = next(1 << power for power in range(20) if total <= 20 << power)
    assert [key // length for key in keys] == list(range(len(keys)))
    assert total // length <= len(keys) <= -(-total // length)
    if length == 1:
        return
    chosen = thinned(keys, 5, random.Random(0))
    assert len(chosen) == 5
    assert all(a < b for a, b in pairwise(chosen))


def test_every_key_is_as_likely_as_any_other() -> None:
    """Whatever repeats itself in the order of keys: no place in it is preferred."""
    taken = [0] * 100
    for seed in range(4000):
        pages = [list(range(at, min(at + 13, 100))) for at in range(0, 100, 13)]
        for key in spread(pages, 10, random.Random(seed))[0]:
            taken[key] += 1
    # With probability 1/8 (in stretches of 8): 500 times of 4,000, give or take 21; five times that are allowed.
    assert all(abs(times - 500) < 105 for times in taken), taken


def test_nothing_is_written(db: lockstep.Database, path: Path) -> None:
    """Not a byte of the database, whether the task is new, in step, or edited."""
    fill(db, 20)
    add(db)
    db.sync(max_documents=10)
    with sqlite3.connect(path) as connection:
        before = list(connection.iterdump())
        db.estimate("task")
        db.estimate("task", model="test:other")
        assert list(connection.iterdump()) == before
    connection.close()
