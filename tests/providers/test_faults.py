"""Whatever a provider does: what was bought is kept, what is wrong is named, and the next sync sets it right."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import lockstep
from lockstep.models.remote import remote_model
from lockstep.testing import ChaosServer
from providers.conftest import MODEL, Make, patience_s

# A fault -> whether its answer, though useless, is billed.
PASSING: dict[str, tuple[dict[str, Any], bool]] = {
    "status 500": ({"status": 500}, False),
    "status 503": ({"status": 503, "retry_after_s": 0.01}, False),
    "status 429": ({"status": 429, "retry_after_s": 0.01}, False),
    "status 408": ({"status": 408}, False),
    "status 409": ({"status": 409}, False),
    "timeout": ({}, False),
    "dribble": ({}, False),
    "reset": ({}, False),
    "html": ({"status": 502}, False),
    "html as if all were well": ({"status": 200}, False),
    "empty": ({}, False),
    "huge": ({}, False),
    "reset_midway": ({}, True),
    "malformed_json": ({}, True),
    "truncated_json": ({}, True),
    "wrong_count": ({}, True),
    "wrong_dimensions": ({}, True),
}


@pytest.fixture
def expected(make: Make, state: Callable[..., Any]) -> Any:
    """What a run without faults stores."""
    db = make("expected")
    db.sync()
    return state(db)


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_leaves_no_trace(
    fault: str, make: Make, server: ChaosServer, expected: Any, state: Callable[..., Any]
) -> None:
    """After two of them, everything is stored as if there had been none, and no answered text is bought again."""
    arguments, is_billed = PASSING[fault]
    db = make(timeout_s=patience_s(fault))
    server.reset_counters()
    server.fault(fault.split()[0], times=2, **arguments)
    report = db.sync()
    assert report.complete, report
    assert state(db) == expected
    assert db.check() == []
    assert server.texts_paid_twice <= (16 if is_billed else 0)
    assert server.paid_texts >= 60


def test_answers_in_another_order_are_put_right(
    make: Make, server: ChaosServer, expected: Any, state: Callable[..., Any]
) -> None:
    """`index` says which text a vector is of, not its place."""
    db = make()
    server.fault("wrong_order")
    assert db.sync().complete
    assert state(db) == expected


LASTING: dict[str, dict[str, Any]] = {
    "status 500": {"status": 500},
    "status 429": {"status": 429, "retry_after_s": 0.001},
    "timeout": {},
    "reset": {},
    "html": {"status": 502},
    "empty": {},
    "malformed_json": {},
    "wrong_count": {},
    "wrong_dimensions": {},
    "huge": {},
    "redirect": {},
    "unauthorized": {},
    "quota": {},
    "unknown_model": {},
    "chat_model": {},
    "echo": {},
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_holds_up_the_task_and_no_document(
    fault: str, make: Make, server: ChaosServer, expected: Any, state: Callable[..., Any]
) -> None:
    """It ends with an outage that says why, after few requests; when it is over, all is well."""
    db = make(timeout_s=patience_s(fault))
    server.reset_counters()
    server.fault(fault.split()[0], **LASTING[fault])
    report = db.sync()
    assert set(report.outages) == {"task"}
    assert db.status("task").outage == report.outages["task"]
    assert db.errors() == []
    assert len(server.requests) < 8 * 25
    server.clear()
    assert db.sync().complete
    assert db.status("task").outage is None
    assert state(db) == expected
    assert db.check() == []


def test_one_bad_text_is_found_and_its_batch_mates_are_not_bought_again(
    db: lockstep.Database, server: ChaosServer
) -> None:
    """Halving: a handful of requests more, each of the others paid once."""
    server.fault("reject", containing="document 17 ")
    db.sync()
    assert [error.id for error in db.errors()] == ["17"]
    assert db.status("task").embedded == 59
    assert server.texts_paid_twice == 0
    assert len(server.requests) <= 8 + 1 + 2 * 3 + 1  # requests, the probe, the halves, the dimensions


@pytest.mark.parametrize("fault", ["nan", "zero"])
def test_a_vector_that_must_not_be_stored_is_one_documents_failure(
    fault: str, db: lockstep.Database, server: ChaosServer
) -> None:
    """The others of its answer are kept."""
    server.fault(fault, containing="document 17 ")
    db.sync()
    assert [error.id for error in db.errors()] == ["17"]
    assert server.texts_paid_twice == 0
    server.clear()
    assert db.sync().complete
    assert db.errors() == []


def test_a_text_that_is_too_long_for_the_provider_is_cut_finer(make: Make, server: ChaosServer) -> None:
    """None of it is lost, it is no failure, and later syncs and checks see the same pieces."""
    db = make(task=False)
    long = " ".join(f"word{n}" for n in range(300))
    db.collection("c").upsert([{"id": "long", "text": long}])
    db.add_task("task", "c", ["text"], model=f"{'service:embedder?dimensions=16'}&max_tokens=1000")
    server.fault("too_long", over_tokens=100)
    assert db.sync().complete
    pieces = [e for e in db.embeddings("task") if e.id == "long"]
    assert " ".join(piece.text for piece in pieces) == long
    assert [piece.position for piece in pieces] == list(range(len(pieces)))
    assert all(long[piece.start : piece.end] == piece.text for piece in pieces)
    assert len(pieces) >= 4
    assert db.check() == []
    asked = len(server.requests)
    db.collection("c").upsert([{"id": "again", "text": long}])
    assert db.sync().complete
    assert db.sync().total.embedded == 0
    assert len(server.requests) == asked  # it is known by now to be too long, and its pieces are known
    assert db.search("task", long)[0].id in ("long", "again")


def test_a_provider_that_is_away_is_not_hammered(make: Make, server: ChaosServer) -> None:
    """After some failures one request at a time finds out whether it is back."""
    db = make(documents=400, in_flight=8)
    server.reset_counters()
    server.fault("status", status=500)
    report = db.sync()
    assert "500" in report.outages["task"]
    assert len(server.requests) <= 8 + 4 + 4  # in flight at first, sent before the fifth failure, probes


def test_a_search_does_not_wait_for_what_a_sync_took_ahead(make: Make, server: ChaosServer) -> None:
    """With a limit on tokens, requests are no larger than it bears, and searches go before them."""
    db = make(tokens_per_minute=60_000, texts_per_request=128, documents=0)
    db.collection("c").upsert([{"id": n, "text": f"document {n} " + "word " * 150} for n in range(12)])
    assert db.sync().complete
    assert max(len(json.loads(request.body)["input"]) for request in server.requests) <= 26
    assert db.search("task", "a question")


def test_an_account_with_very_low_limits_gets_requests_that_fit(make: Make, server: ChaosServer) -> None:
    """10,000 tokens a minute: no request of more than half of it."""
    db = make(tokens_per_minute=10_000, texts_per_request=128, documents=0)
    db.collection("c").upsert([{"id": n, "text": f"document {n} " + "word " * 300} for n in range(14)])
    model = lockstep.model(MODEL, connection=db.connections()[0])
    assert isinstance(model.provider, remote_model.RemoteModel)
    parts = model.provider.parts([300] * 14, "document")
    assert [len(part) for part in parts] == [13, 1]


def test_dimensions_that_a_model_cannot_give_are_no_documents_failure(make: Make) -> None:
    """What the service says of it is why the task waits."""
    db = make(task=False)
    db.add_task("task", "c", ["text"], model="service:embedder?dimensions=999999")
    assert "dimensions" in db.sync().outages["task"]
    assert db.errors() == []
