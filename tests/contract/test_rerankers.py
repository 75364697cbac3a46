"""One suite over every kind of reranking service, over real HTTP; and what all rerankers share."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from lockstep.errors import (
    AccessRefused,
    BadEmbedding,
    ConfigError,
    LockstepError,
    ProviderRejected,
    ProviderUnavailable,
    QueryError,
    UnknownName,
)
from lockstep.models.remote import Links, breaker, http, limiter, refusals
from lockstep.models.remote.connection import Connection
from lockstep.models.rerank import open_reranker, remote
from lockstep.models.rerank.base import Reranked, Reranker, RerankerInfo
from lockstep.models.rerank.kinds import RERANK_KINDS
from lockstep.testing import ChaosServer, overlap_scores
from support import reranking_functions

KEY, WRONG = "sk-right-0123456789abcdef", "sk-wrong-0123456789abcdef"
QUERY = "warm coat for rain"
TEXTS = ["tax law", "a warm coat", "rain", "a coat for rain, warm and dry", "cats"]


@dataclass(frozen=True)
class Case:
    """A reranker at the fake, by the adapter of one kind."""

    uri: str
    path: str = ""

    @property
    def kind(self) -> str:
        return self.uri.partition(":")[0]


CASES = [
    Case("cohere:rerank-v3.5"),
    Case("voyage:rerank-2.5", "/v1"),
    Case("tei:any"),
    *(Case(f"{kind}:m", "/v1") for kind, found in RERANK_KINDS.items() if found.adapter.startswith("jina:")),
]


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    """It speaks everything and asks for the key."""
    with ChaosServer(dimensions=16, key=KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, server: ChaosServer) -> None:
    """Nothing is waited for longer than it must; the server is as new."""
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(remote, "RETRY_S", 0.002)
    monkeypatch.setattr(breaker, "OPEN_S_FIRST", 0.005)
    monkeypatch.setattr(limiter, "PACE_MIN", 50.0)
    told = refusals.retry_after_s
    monkeypatch.setattr(refusals, "retry_after_s", lambda headers: None if told(headers) is None else 0.01)
    monkeypatch.setattr(http, "trusted", lambda connection: no_tls)
    monkeypatch.setenv("RIGHT_KEY", KEY)
    monkeypatch.setenv("WRONG_KEY", WRONG)
    monkeypatch.delenv("MISSING_KEY", raising=False)
    server.clear()
    server.reset_counters()


@pytest.fixture(params=CASES, ids=lambda case: case.uri)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


class Opener:
    """Opens the reranker of a case, by a key of choice."""

    def __init__(self, case: Case, server: ChaosServer) -> None:
        self._case, self._server = case, server
        self.opened: list[Links] = []

    def __call__(self, variable: str = "RIGHT", **settings: Any) -> Reranker:
        connection = Connection.create(
            self._case.kind,
            self._case.kind,
            base_url=self._server.url + self._case.path,
            api_key=f"env:{variable}_KEY",
            **settings,
        )
        self.opened.append(Links(lambda name: connection))
        return open_reranker(self._case.uri, links=self.opened[-1])


@pytest.fixture
def opener(case: Case, server: ChaosServer) -> Iterator[Opener]:
    opener = Opener(case, server)
    yield opener
    for links in opener.opened:
        links.close()


@pytest.fixture
def reranker(opener: Opener) -> Reranker:
    return opener()


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.dtype == np.float32 and found.shape == wanted.shape and bool(np.allclose(found, wanted, atol=1e-6))


def test_every_kind_is_in_this_suite() -> None:
    """A kind that is added to the table is added here, or this fails."""
    assert {case.kind for case in CASES} == set(RERANK_KINDS)


def test_scores_are_those_of_the_service_in_the_texts_order(
    case: Case, reranker: Reranker, server: ChaosServer
) -> None:
    """The service lists the best first; what it took is told, as it counts."""
    found = reranker.ask(QUERY, TEXTS)
    assert same(found.scores, overlap_scores(QUERY, TEXTS))
    assert int(np.argmax(found.scores)) == 3
    assert (found.usage.requests, found.usage.texts) == (server.paid_requests, server.paid_texts) == (1, 5)
    assert found.usage.tokens == server.paid_tokens
    assert found.search_units == (1 if case.kind == "cohere" else 0)
    assert same(reranker.rerank(QUERY, TEXTS), found.scores)
    assert not reranker.info.local


def test_many_texts_keep_their_order(case: Case, opener: Opener, server: ChaosServer) -> None:
    """However many requests they are in; none has more than the service takes."""
    reranker = opener(texts_per_request=100_000)
    most = RERANK_KINDS[case.kind].texts_max
    texts = [f"text {n} {'rain' if n % 7 == 0 else ''}" for n in range(2 * most + 1)]
    found = reranker.ask(QUERY, texts)
    assert same(found.scores, overlap_scores(QUERY, texts))
    assert found.usage.requests == server.paid_requests == 3
    assert found.usage.texts == server.paid_texts == len(texts)
    assert found.search_units == (3 if case.kind == "cohere" else 0)


def test_blank_texts_are_not_sent_and_come_last(reranker: Reranker, server: ChaosServer) -> None:
    """Services refuse them; nothing is less relevant than nothing."""
    found = reranker.rerank(QUERY, ["", TEXTS[3], " \n", TEXTS[0]])
    assert same(found[[1, 3]], overlap_scores(QUERY, [TEXTS[3], TEXTS[0]]))
    assert found[0] == found[2] == found.min()
    assert server.paid_texts == 2
    assert reranker.rerank(QUERY, ["", " "]).tolist() == [0, 0]
    assert server.paid_texts == 2


def test_several_threads_may_rerank_at_once(reranker: Reranker) -> None:
    """Searches share one reranker."""
    found: list[bool] = []

    def ask(number: int) -> None:
        texts = [f"{text} {number}" for text in TEXTS]
        found.append(same(reranker.rerank(QUERY, texts), overlap_scores(QUERY, texts)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6


def test_a_wrong_key_is_refused_and_not_named(opener: Opener) -> None:
    """No message repeats it."""
    with pytest.raises(AccessRefused) as caught:
        opener("WRONG").rerank(QUERY, TEXTS)
    assert WRONG not in f"{caught.value!r} {caught.value}"


def test_a_missing_key_is_named_by_its_variable(opener: Opener, server: ChaosServer) -> None:
    """Nothing is sent."""
    with pytest.raises(ConfigError, match="MISSING_KEY"):
        opener("MISSING").rerank(QUERY, TEXTS)
    assert server.requests == []


def test_a_message_repeats_neither_key_nor_texts(reranker: Reranker, server: ChaosServer) -> None:
    """Even where the service does."""
    server.fault("echo")
    texts = ["a secret that nobody may read", "another one that is as secret"]
    with pytest.raises(LockstepError) as caught:
        reranker.rerank("who may read the secrets?", texts)
    shown = f"{caught.value!r} {caught.value}"
    assert KEY not in shown
    assert all(text not in shown for text in [*texts, "who may read"])


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after_s": 0.01}, {"status": 500}], ids=["429", "500"])
def test_what_passes_is_tried_again(fault: dict[str, Any], reranker: Reranker, server: ChaosServer) -> None:
    """And comes out right, counted as a retry."""
    server.fault("status", times=1, **fault)
    found = reranker.ask(QUERY, TEXTS)
    assert same(found.scores, overlap_scores(QUERY, TEXTS))
    assert found.usage.retries == 1
    assert found.usage.limited == (fault["status"] == 429)


def test_a_service_that_stays_away_is_said_to(reranker: Reranker, server: ChaosServer) -> None:
    """After three tries, since somebody waits."""
    server.fault("status", status=503)
    with pytest.raises(ProviderUnavailable, match="503"):
        reranker.rerank(QUERY, TEXTS)
    assert len(server.requests) == 3


def test_an_unknown_model_is_named_with_the_known_ones(case: Case, reranker: Reranker, server: ChaosServer) -> None:
    """A typo is found by whoever reads the error."""
    server.fault("unknown_model")
    with pytest.raises(ProviderRejected) as caught:
        reranker.rerank(QUERY, TEXTS)
    known = RERANK_KINDS[case.kind].models
    assert case.kind == "voyage" or not known or known[0] in caught.value.hint


@pytest.mark.parametrize(
    "fault", ["wrong_count", "wrong_dimensions", "nan", "malformed_json", "truncated_json", "html"]
)
def test_a_spoiled_answer_is_asked_for_again(fault: str, reranker: Reranker, server: ChaosServer) -> None:
    """Once it is an accident; when it lasts it is a typed error, and no score is made up."""
    server.fault(fault, times=1)
    assert same(reranker.rerank(QUERY, TEXTS), overlap_scores(QUERY, TEXTS))
    server.fault(fault)
    with pytest.raises((BadEmbedding, ProviderUnavailable)):
        reranker.rerank(QUERY, TEXTS)


def test_the_order_of_an_answer_does_not_matter(reranker: Reranker, server: ChaosServer) -> None:
    """What counts is the index."""
    server.fault("wrong_order")
    assert same(reranker.rerank(QUERY, TEXTS), overlap_scores(QUERY, TEXTS))


@pytest.mark.parametrize("fault", ["timeout", "reset", "reset_midway", "dribble"])
def test_a_network_that_fails_is_an_outage(fault: str, opener: Opener, server: ChaosServer) -> None:
    """Within the connection's time."""
    reranker = opener(timeout_s=0.3)
    server.fault(fault)
    with pytest.raises(ProviderUnavailable):
        reranker.rerank(QUERY, TEXTS)


def test_a_search_waits_no_longer_than_it_says(reranker: Reranker, server: ChaosServer) -> None:
    """Whatever the connection's time is."""
    server.fault("timeout")
    with pytest.raises(ProviderUnavailable, match=r"within 0\.2 s"):
        reranker.ask(QUERY, TEXTS, timeout_s=0.2)
    server.clear()
    assert same(reranker.ask(QUERY, TEXTS, timeout_s=60).scores, overlap_scores(QUERY, TEXTS))


def test_one_refused_part_fails_all(case: Case, opener: Opener, server: ChaosServer) -> None:
    """A ranking with holes would be wrong."""
    reranker = opener(texts_per_request=2)
    server.fault("reject", containing="cats")
    with pytest.raises(ProviderRejected):
        reranker.rerank(QUERY, TEXTS)


def test_searching_with_a_key_of_its_own_reranks_with_it(
    case: Case, server: ChaosServer, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reranking is a part of searching."""
    reranker = opener("WRONG", search_api_key="env:RIGHT_KEY")
    assert same(reranker.rerank(QUERY, TEXTS), overlap_scores(QUERY, TEXTS))


# What all rerankers share, and how they are found.


class Fixed:
    """A scorer that says what it was told."""

    def __init__(self, scores: Any) -> None:
        self._scores = scores
        self.info = RerankerInfo(uri="my:fixed")

    def score(self, query: str, texts: Any, timeout_s: float | None = None) -> Reranked:
        return Reranked(np.asarray(self._scores))


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], [[1.0], [2.0]], [1.0, float("nan")], [1.0, 1e300]])
def test_wrong_scores_are_refused(scores: Any) -> None:
    """Whoever made them."""
    with pytest.raises(BadEmbedding, match="my:fixed"):
        Reranker("my:fixed", Fixed(scores)).rerank("q", ["a", "b"])


def test_a_query_and_texts_are_checked() -> None:
    """Nothing is asked for what makes no sense; no text at all has no score."""
    reranker = lockstep.reranker("fake:overlap")
    assert reranker.rerank("q", []).shape == (0,)
    with pytest.raises(QueryError, match="empty"):
        reranker.rerank(" ", ["a"])
    with pytest.raises(ConfigError, match="list of texts"):
        reranker.rerank("q", "a")
    with pytest.raises(ConfigError, match="Text 1 is of type int"):
        reranker.rerank("q", ["a", 1])  # type: ignore[list-item]
    assert reranker.rerank("q \ud800", ["a \udfff", "q"]).argmax() == 1


def test_a_function_is_a_reranker() -> None:
    """By its place in a module; it may raise, return nonsense and be asynchronous, and each is said."""
    reranker = lockstep.reranker("python:support.reranking_functions:longest")
    assert reranker.rerank("ab", ["xyz", "x"]).tolist() == [5, 3]
    with pytest.raises(ConfigError, match="asynchronous"):
        lockstep.reranker("python:support.reranking_functions:later")
    with pytest.raises(ConfigError, match="cannot be called with a query and texts"):
        lockstep.reranker("python:support.embedding_functions:embed")
    with pytest.raises(ConfigError, match="no Python module"):
        lockstep.reranker("python:nowhere.at_all:f")


def broken(query: str, texts: list[str]) -> list[float]:
    raise RuntimeError("out of luck")


def test_what_a_user_made_is_found_by_its_name(path: Path) -> None:
    """Functions and objects, beside embedding functions; each is told where it does not belong."""
    made: dict[str, Any] = {
        "my:longest": reranking_functions.longest,
        "my:fixed": Fixed([2, 1]),
        "my:broken": broken,
        "my:model": lambda texts: np.ones((len(texts), 4), np.float32),
        "my:strings": lambda query, texts: ["high" for _ in texts],
        "my:generator": lambda query, texts: (float(len(text)) for text in texts),
    }
    with lockstep.open(path, models=made) as db:
        accounts = db._accounts
        assert accounts.reranker("my:longest").rerank("a", ["abc", "a"]).tolist() == [4, 2]
        assert accounts.reranker("my:fixed").rerank("a", ["abc", "a"]).tolist() == [2, 1]
        assert accounts.reranker("my:generator").rerank("a", ["abc", "a"]).tolist() == [3, 1]
        assert accounts.reranker("my:longest") is accounts.reranker("my:longest")
        with pytest.raises(ProviderRejected, match="out of luck"):
            accounts.reranker("my:broken").rerank("a", ["b"])
        with pytest.raises(BadEmbedding, match="no list of numbers"):
            accounts.reranker("my:strings").rerank("a", ["b"])
        with pytest.raises(ConfigError, match="texts alone embeds"):
            accounts.reranker("my:model")
        for name in ("my:longest", "my:fixed"):
            with pytest.raises(ConfigError, match="is a reranker"):
                db.embed(["x"], model=name)
        assert db.embed(["x"], model="my:model").shape == (1, 4)


def test_a_databases_reranker_is_opened_once_by_its_connection(path: Path, server: ChaosServer) -> None:
    """And again when the connection was changed."""
    with lockstep.open(path) as db:
        db.add_connection("mine", "cohere", server.url, "env:RIGHT_KEY")
        found = db._accounts.reranker("mine:rerank-v3.5")
        assert same(found.rerank(QUERY, TEXTS), overlap_scores(QUERY, TEXTS))
        assert db._accounts.reranker("mine:rerank-v3.5") is found
        db.add_connection("mine", "cohere", server.url, "env:WRONG_KEY", replace=True)
        with pytest.raises(AccessRefused):
            db._accounts.reranker("mine:rerank-v3.5").rerank(QUERY, TEXTS)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("coher:rerank-v3.5", 'Did you mean "cohere"'),
        ("openai:text-embedding-3-small", "has no rerankers"),
        ("cohere:embed-v4.0", "is an embedding model, no reranker. Take a reranker, such as cohere:rerank-v3.5"),
        ("voyage:voyage-3.5", "is an embedding model, no reranker"),
        ("local:minilm", "is an embedding model, no reranker"),
        ("local:BAAI/bge-small-en-v1.5", "is an embedding model, no reranker"),
        ("local:ms-marco-MiniLM-L6", 'Did you mean "local:cross-encoder/ms-marco-MiniLM-L6-v2"'),
        ("local:whatever", "hub id or folder"),
        ("local:org/not-here", "lockstep models download local:org/not-here"),
        ("local:./not-here", "no model folder"),
        ("fake:overlp", 'Did you mean "overlap"'),
        ("rerank-v3.5", "is not a model"),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(
    uri: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is fetched to find out."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(ConfigError) as caught:
        lockstep.reranker(uri, download=False)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["cohere:rerank-v3.5", "voyage:rerank-2.5", "jina:jina-reranker-v3", "vllm:a/b-reranker"]
)
def test_a_reranker_is_no_embedding_model(uri: str) -> None:
    """It is told before anything is sent."""
    with pytest.raises(ConfigError, match="is a reranker, which gives no vectors"):
        lockstep.model(uri)


def test_an_unknown_option_of_lockstep_reranker_is_refused() -> None:
    """As behind the question mark."""
    with pytest.raises(UnknownName, match="option of fake:overlap"):
        lockstep.reranker("fake:overlap", speed=3)
