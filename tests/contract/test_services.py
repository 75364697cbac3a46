"""One suite over every kind of service: what a remote model promises holds for each, over real HTTP."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, ProviderUnavailable
from lockstep.models.remote import Links, breaker, http, limiter, open_described, open_remote, refusals, remote_model
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

KEY, WRONG = "sk-right-0123456789abcdef", "sk-wrong-0123456789abcdef"
SERVER_DIMENSIONS = 256
TEXTS = [f"text {n:02}" for n in range(20)]


@dataclass(frozen=True)
class Case:
    """A model at the fake, by the adapter of one kind."""

    uri: str
    path: str = ""
    """Of its `base_url`."""
    dimensions: tuple[int, int] | None = (16, 32)
    """Two that may be asked for; None where none can."""
    queries: bool = False
    """Whether queries are told from documents, and so get other vectors."""
    settings: dict[str, str] = field(default_factory=dict)
    variable: str = "KEY"
    """`RIGHT_…` and `WRONG_…` are the environment variables with what signs its requests."""

    @property
    def kind(self) -> str:
        return self.uri.partition(":")[0]

    @property
    def width(self) -> int:
        return self.dimensions[0] if self.dimensions else SERVER_DIMENSIONS

    def with_dimensions(self, which: int) -> ModelURI:
        uri = ModelURI.parse(self.uri)
        given = {"dimensions": str(self.dimensions[which])} if self.dimensions else {}
        return ModelURI(uri.provider, uri.name, {**uri.options, **given})


BY_OPENAI = [name for name, kind in KINDS.items() if kind.adapter.startswith("openai:")]
CASES = [
    *(Case(f"{kind}:m", "/v1", queries=kind == "jina") for kind in BY_OPENAI),
    Case("azure:deployment"),
    Case("nomic:m", "/v1", queries=True),
    Case("nomic:m?task_type=clustering", "/v1"),
    Case("voyage:m", "/v1", queries=True),
    Case("voyage:voyage-context-3", "/v1", queries=True),
    Case("cohere:m", queries=True),
    Case("cohere:m?input_type=classification"),
    Case("google:gemini-embedding-001", queries=True),
    Case("google:gemini-embedding-2", queries=True),
    Case("google:gemini-embedding-001?task_type=CLUSTERING"),
    Case("vertex:text-embedding-005", queries=True, settings={"project": "p"}, variable="ACCOUNT"),
    Case("dashscope:m", "/api/v1", queries=True),
    Case("huggingface:org/m", "/hf-inference"),
    Case("huggingface:org/m?query_prompt_name=query", "/hf-inference", queries=True),
    Case("tei:m"),
    Case("tei:m?query_prompt_name=query", queries=True),
    Case("spaces:owner/app", dimensions=None),
    Case("spaces:owner/app?instruction=document&query_instruction=query", dimensions=None, queries=True),
    Case("spaces:owner/app?gradio=3", dimensions=None),
    Case("ollama:m"),
    Case("ollama:m?legacy=true", dimensions=None),
    Case("bedrock:cohere.embed-v4:0", dimensions=(256, 512), queries=True, settings={"region": "eu-west-1"}),
    Case("bedrock:amazon.titan-embed-text-v2:0", dimensions=(256, 512), settings={"region": "eu-west-1"}),
    Case("http:service", dimensions=None),
]
DESCRIPTION = """
url = "{base}/v1/embeddings"
vectors = "data[].embedding"
tokens = "usage.total_tokens"
key = "env:{variable}"
[body]
model = "m"
input = "{{{{texts}}}}"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    """It speaks everything and asks for the key."""
    with ChaosServer(dimensions=SERVER_DIMENSIONS, key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def private_key() -> str:
    """Of the service account, by which Vertex's tokens are asked for."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()


@pytest.fixture(scope="module")
def no_tls() -> ssl.SSLContext:
    """Nothing here is encrypted, and to read all certificates takes longer than a test."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, server: ChaosServer, private_key: str, no_tls: ssl.SSLContext) -> None:
    """Nothing is waited for longer than it must; the server is as new."""
    monkeypatch.setattr(remote_model, "RETRY_S", 0.002)
    monkeypatch.setattr(remote_model, "SEARCH_RETRY_S", 0.002)
    monkeypatch.setattr(breaker, "OPEN_S_FIRST", 0.005)
    monkeypatch.setattr(limiter, "PACE_MIN", 50.0)
    told = refusals.retry_after_s
    monkeypatch.setattr(refusals, "retry_after_s", lambda headers: None if told(headers) is None else 0.01)
    monkeypatch.setattr(http, "trusted", lambda connection: no_tls)
    for name, value in (("RIGHT", KEY), ("WRONG", WRONG)):
        account = {
            "type": "service_account",
            "private_key_id": value,
            "private_key": private_key,
            "client_email": "me@p.iam.gserviceaccount.com",
            "token_uri": f"{server.url}/token",
        }
        monkeypatch.setenv(f"{name}_KEY", value)
        monkeypatch.setenv(f"{name}_ACCOUNT", json.dumps(account))
    monkeypatch.delenv("MISSING_KEY", raising=False)
    server.clear()
    server.reset_counters()


class Opener:
    """Opens the model of a case, by a key and at an address of choice."""

    def __init__(self, case: Case, server: ChaosServer, links: Links, folder: Path) -> None:
        self.case = case
        self._url = server.url
        self._links = links
        self._folder = folder

    def connection(self, variable: str = "RIGHT", base: str | None = None, **settings: Any) -> Connection:
        case = self.case
        return Connection.create(
            case.kind,
            case.kind,
            base_url=(base or self._url) + case.path,
            api_key=f"env:{variable}_{case.variable}",
            **{**case.settings, **settings},
        )

    def __call__(
        self, variable: str = "RIGHT", base: str | None = None, which: int = 0, **settings: Any
    ) -> RemoteModel:
        if self.case.kind == "http":
            file = self._folder / "service.toml"
            file.write_text(DESCRIPTION.format(base=base or self._url, variable=f"{variable}_{self.case.variable}"))
            return open_described(ModelURI("http", str(file)), self._links)
        connection = self.connection(variable, base, **settings)
        return open_remote(self.case.with_dimensions(which), connection, self._links)


@pytest.fixture(params=CASES, ids=lambda case: case.uri)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def opener(case: Case, server: ChaosServer, tmp_path: Path) -> Iterator[Opener]:
    links = Links()
    yield Opener(case, server, links, tmp_path)
    links.close()


@pytest.fixture
def model(opener: Opener) -> RemoteModel:
    return opener()


def expected(case: Case, texts: list[str], *, queries: bool = False) -> np.ndarray:
    """What the fake makes of texts."""
    return hash_vectors([f"query\n{text}" for text in texts] if queries and case.queries else texts, case.width)


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Ollama's older address is made as long as the newer one, which rounds."""
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=1e-5, atol=1e-6))


def longest_list(value: object) -> int:
    """The number of texts in a request's body, however it holds them."""
    if isinstance(value, dict):
        return max(map(longest_list, value.values()), default=0)
    return max([len(value), *map(longest_list, value)]) if isinstance(value, list) else 0


def test_every_kind_is_in_this_suite() -> None:
    """A kind that is added to the table is added here, or this fails."""
    assert {case.kind for case in CASES} == set(KINDS)


def test_vectors_are_those_of_the_service(case: Case, model: RemoteModel) -> None:
    """float32, a row for each text, the columns that the model says; queries where they are told apart."""
    found, queries = model.embed(TEXTS, "document"), model.embed(TEXTS, "query")
    assert found.dtype == np.float32
    assert model.info.dimensions == case.width
    assert same(found, expected(case, TEXTS))
    assert same(queries, expected(case, TEXTS, queries=True))
    assert model.info.kinds_differ == case.queries == (not same(found, queries))


def test_many_texts_keep_their_order(case: Case, opener: Opener, server: ChaosServer) -> None:
    """However many requests they are in; none has more than the service takes."""
    model = opener(texts_per_request=100_000)
    most = model._wire.texts_max
    texts = [f"text {n}" for n in range(min(2 * most + 1, 4500) if most > 1 else 40)]
    done = model.embed_each(texts, "document")
    assert not done.errors
    assert done.interruption is None
    vectors = np.zeros((len(texts), case.width), np.float32)
    vectors[done.rows] = done.vectors
    assert same(vectors, expected(case, texts))
    sizes = [longest_list(json.loads(request.body)) for request in server.requests if request.body[:1] == b"{"]
    assert max(sizes) <= most
    assert done.usage.requests == server.paid_requests >= 3
    assert done.usage.texts == server.paid_texts == len(texts)


def test_several_threads_may_embed_at_once(case: Case, model: RemoteModel) -> None:
    """A sync and a search share one model."""
    found: list[bool] = []

    def embed(queries: bool) -> None:
        vectors = model.embed(TEXTS, "query" if queries else "document")
        found.append(same(vectors, expected(case, TEXTS, queries=queries)))

    threads = [threading.Thread(target=embed, args=(n % 2 == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_a_wrong_key_is_refused_and_not_named(opener: Opener) -> None:
    """It is the account's fault, not the texts'; no message repeats the key."""
    with pytest.raises(AccessRefused) as caught:
        opener("WRONG").embed(TEXTS, "document")
    assert WRONG not in f"{caught.value!r} {caught.value}"


def test_a_missing_key_is_named_by_its_variable(opener: Opener, server: ChaosServer) -> None:
    """Nothing is sent."""
    with pytest.raises(ConfigError, match=f"MISSING_{opener.case.variable}"):
        opener("MISSING").embed(TEXTS, "document")
    assert server.requests == []


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after_s": 0.01}, {"status": 500}], ids=["429", "500"])
def test_what_passes_is_tried_again(fault: dict[str, Any], case: Case, model: RemoteModel, server: ChaosServer) -> None:
    """And comes out right, counted as a retry."""
    server.fault("status", times=1, **fault)
    done = model.embed_each(TEXTS[:3], "document")
    assert same(done.vectors[np.argsort(done.rows)], expected(case, TEXTS[:3]))
    assert done.usage.retries == 1
    assert done.usage.limited == (fault["status"] == 429)


# A fault -> what it is when it lasts.
SPOILED = {
    "wrong_count": (AccessRefused, BadEmbedding, ProviderUnavailable),
    "wrong_dimensions": (AccessRefused, BadEmbedding),
    "malformed_json": (ProviderUnavailable,),
    "html": (ProviderUnavailable,),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_answer_is_asked_for_again(fault: str, case: Case, model: RemoteModel, server: ChaosServer) -> None:
    """Once it is an accident; when it lasts it is an error of a class that says what to do, and no vector is made up."""
    model.embed(TEXTS[:1], "document")
    server.fault(fault, times=1)
    assert same(model.embed(TEXTS, "document"), expected(case, TEXTS))
    server.fault(fault)
    with pytest.raises(SPOILED[fault]):
        model.embed(TEXTS[:5], "document")


@pytest.mark.parametrize("fault", ["reject", "nan"])
def test_one_bad_text_fails_alone(fault: str, case: Case, model: RemoteModel, server: ChaosServer) -> None:
    """The other 19 have their vectors."""
    server.fault(fault, containing="text 07")
    done = model.embed_each(TEXTS, "document")
    assert done.interruption is None
    assert list(done.errors) == [7]
    assert TEXTS[7] not in str(done.errors[7])
    assert sorted(done.rows) == [n for n in range(20) if n != 7]
    assert same(done.vectors, expected(case, [TEXTS[row] for row in done.rows]))


def test_identity_is_that_of_the_vectors(case: Case, opener: Opener) -> None:
    """Neither the address nor the key is in it; the dimensions are."""
    here, there = opener().identity, opener("WRONG", "https://elsewhere.example").identity
    assert here == there
    if case.dimensions:
        assert opener(which=1).identity != here


def test_a_service_is_no_model_of_this_machine(case: Case, opener: Opener, model: RemoteModel) -> None:
    """Its answers are counted, wherever it runs; what runs here costs nothing."""
    assert not model.info.local
    assert model.info.uri.startswith(f"{case.kind}:")
    assert model.info.modalities == ("text",)
    if case.kind != "http":
        assert opener.connection().is_local
        assert not opener.connection(base="https://elsewhere.example").is_local
