"""What it costs: counted from the provider's own usage, kept per day, and capped."""

from __future__ import annotations

import pytest

import lockstep
from lockstep.errors import ConfigError
from lockstep.testing import ChaosServer
from providers.conftest import MODEL, Make

PRICE = 1000.0  # US dollars per million tokens, so that a few texts cost something


def test_the_ledger_holds_what_the_provider_counted(make: Make, server: ChaosServer) -> None:
    """Tokens, texts and requests of sync and search, with their price."""
    db = make(price_per_million_tokens=PRICE)
    report = db.sync()
    synced = server.paid_tokens
    assert report.total.tokens == synced
    assert report.total.cost == pytest.approx(synced * PRICE / 1e6)
    db.search("task", "planted question")
    db.search("task", "planted question")
    rows = {row.purpose: row for row in db.usage("task")}
    assert (rows["sync"].tokens, rows["sync"].texts) == (synced, 60)
    assert rows["sync"].requests == 8
    assert rows["search"].tokens == server.paid_tokens - synced
    assert rows["search"].requests == 1  # the second came from the cache
    status = db.status("task")
    assert status.tokens == status.tokens_today == server.paid_tokens
    assert status.cost_today == pytest.approx(server.paid_tokens * PRICE / 1e6)


def test_retries_are_counted_apart(make: Make, server: ChaosServer) -> None:
    """Those that limits refused among them; they cost nothing."""
    db = make()
    server.fault("status", status=429, retry_after_s=0.001, times=2)
    server.fault("status", status=500, times=1)
    total = db.sync().total
    assert (total.retries, total.limited, total.requests) == (3, 2, 8)


def test_a_days_cap_pauses_the_task_visibly(make: Make, server: ChaosServer) -> None:
    """Never more than the cap; a higher one lets it go on."""
    db = make(task=False, price_per_million_tokens=PRICE)
    db.add_task("task", "c", ["text"], model=MODEL, max_cost_per_day=0.3, batch_documents=10)
    report = db.sync()
    assert 0 < report.total.cost <= 0.3
    assert "$0.3 a day" in report.outages["task"]
    assert db.status("task").state == "paused"
    paid = server.paid_texts
    assert db.sync().outages
    assert server.paid_texts == paid
    assert 0 < db.status("task").embedded < 60


def test_a_syncs_cap_ends_it_cleanly(make: Make, server: ChaosServer) -> None:
    """What was embedded stays; the next sync goes on."""
    db = make(task=False, price_per_million_tokens=PRICE)
    db.add_task("task", "c", ["text"], model=MODEL, batch_documents=10)
    report = db.sync(max_cost=0.2)
    assert 0 < report.total.cost <= 0.2
    assert db.status("task").state == "idle"
    assert db.sync().complete
    assert server.texts_paid_twice == 0


def test_a_cap_needs_a_price(make: Make) -> None:
    """Where none is known, the error says where to give one."""
    db = make(task=False, base_url="https://embeddings.example/v1")
    db.add_task("task", "c", ["text"], model=MODEL, max_cost_per_day=1)
    assert "price_per_million_tokens" in db.sync().outages["task"]


def test_list_prices_are_known_with_their_source() -> None:
    """Of the usual models, without asking anybody."""
    info = lockstep.model("openai:text-embedding-3-small").info
    assert (info.dimensions, info.price_per_million_tokens) == (1536, 0.02)
    assert info.max_tokens > 8000


@pytest.mark.parametrize("cap", [-1, float("nan"), "much", True])
def test_a_cap_that_is_none_is_refused(cap: object, make: Make) -> None:
    """Before anything is made."""
    with pytest.raises(ConfigError, match="max_cost_per_day"):
        make(task=False).add_task("task", "c", ["text"], model=MODEL, max_cost_per_day=cap)
