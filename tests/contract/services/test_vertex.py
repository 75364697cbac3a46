"""Vertex AI's protocol, bytes spelled out by hand from
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api; its tokens from
https://developers.google.com/identity/protocols/oauth2/service-account.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lockstep.errors import (
    AccessRefused,
    BadEmbedding,
    ConfigError,
    MissingExtra,
    ProviderUnavailable,
    TextTooLong,
    UnknownName,
)
from lockstep.models.remote import Links, auth_of, open_remote, open_wire
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request, Wire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a red fox", "two owls", "the sea at night"]
MODELS = "projects/my-project/locations/us-central1/publishers/google/models"
REQUEST = Request("https://example.com", b"")


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def connection(**settings: Any) -> Connection:
    return Connection.create("vertex", "vertex", **{"project": "my-project"} | settings)


def wire(uri: str, **settings: str) -> Wire:
    return open_wire(ModelURI.parse(uri), connection(**settings))


def account(private_key: str, token_uri: str, key_id: str = "right") -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": key_id,
            "private_key": private_key,
            "client_email": "me@my-project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": token_uri,
        }
    )


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """Too long texts are refused rather than cut."""
    request = wire("vertex:text-embedding-005").request(["one", "two"], "document")
    assert request.method == "POST"
    assert request.url == f"https://us-central1-aiplatform.googleapis.com/v1/{MODELS}/text-embedding-005:predict"
    assert request.headers == {}
    assert request.body == (
        b'{"instances":[{"content":"one","task_type":"RETRIEVAL_DOCUMENT"},'
        b'{"content":"two","task_type":"RETRIEVAL_DOCUMENT"}],"parameters":{"autoTruncate":false}}'
    )


def test_queries_have_their_task_and_dimensions_their_field() -> None:
    """A query is told from a document."""
    found = wire("vertex:text-embedding-005?dimensions=256")
    assert json.loads(found.request(["x"], "query").body) == {
        "instances": [{"content": "x", "task_type": "RETRIEVAL_QUERY"}],
        "parameters": {"autoTruncate": False, "outputDimensionality": 256},
    }
    similar = wire("vertex:text-embedding-005?task_type=SEMANTIC_SIMILARITY").request(["x"], "document")
    assert json.loads(similar.body)["instances"] == [{"content": "x", "task_type": "SEMANTIC_SIMILARITY"}]


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_location_is_in_the_address(location: str, host: str) -> None:
    """Regions have hosts of their own."""
    url = wire("vertex:text-embedding-005", location=location).request(["x"], "query").url
    assert url == (
        f"https://{host}/v1/projects/my-project/locations/{location}/publishers/google/models/text-embedding-005:predict"
    )


def test_the_latest_model_has_a_method_of_its_own() -> None:
    """It takes one content, and the task is in the text."""
    found = wire("vertex:gemini-embedding-2?dimensions=768")
    request = found.request(["x"], "query")
    assert request.url.endswith(f"/{MODELS}/gemini-embedding-2:embedContent")
    assert json.loads(request.body) == {
        "content": {"parts": [{"text": "task: search result | query: x"}]},
        "embedContentConfig": {"autoTruncate": False, "outputDimensionality": 768},
    }
    answer = found.answer(b'{"embedding":{"values":[0.5,1]},"usageMetadata":{"promptTokenCount":7}}', 1)
    assert (answer.vectors.tolist(), answer.tokens) == ([[0.5, 1]], 7)


def test_limits_are_those_of_the_model() -> None:
    """Gemini models take one text at a time."""
    names = ("text-embedding-005", "gemini-embedding-001", "gemini-embedding-2")
    assert [wire(f"vertex:{name}").texts_max for name in names] == [250, 1, 1]
    assert wire("vertex:text-embedding-005").tokens_max == 20_000


def test_the_answer_is_read_in_its_order() -> None:
    """Tokens are told for each text."""
    answer = wire("vertex:text-embedding-005").answer(
        b'{"predictions":[{"embeddings":{"values":[0.5,-1],"statistics":{"truncated":false,"token_count":6}}},'
        b'{"embeddings":{"statistics":{"truncated":false,"token_count":4},"values":[2,0.25]}}],'
        b'"metadata":{"billableCharacterCount":30}}',
        2,
    )
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [[0.5, -1], [2, 0.25]]
    assert answer.tokens == 10
    assert wire("vertex:x").answer(b'{"predictions":[{"embeddings":{"values":[1]}}]}', 1).tokens is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"predictions":{}}', b'{"predictions":[{}]}', b'{"predictions":[1]}'])
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match="the answer"):
        wire("vertex:text-embedding-005").answer(body, 1)


def test_an_answer_with_too_few_vectors_is_bad() -> None:
    """Each text has a vector, or none is taken."""
    with pytest.raises(BadEmbedding, match=r"1 embedding\(s\) for 2 text"):
        wire("vertex:text-embedding-005").answer(b'{"predictions":[{"embeddings":{"values":[1]}}]}', 2)


@pytest.mark.parametrize("settings", [{"project": "a/../b"}, {"location": "evil.com/x"}, {"location": "x@evil"}])
def test_places_that_lead_elsewhere_are_refused(settings: dict[str, str]) -> None:
    """A token is sent to Google only."""
    with pytest.raises(ConfigError, match="cannot be one"):
        wire("vertex:text-embedding-005", **settings)


def test_a_project_is_needed_and_options_are_known() -> None:
    """Both are said before anything is sent."""
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT"):
        open_wire(ModelURI.parse("vertex:x"), Connection.create("vertex", "vertex"))
    with pytest.raises(UnknownName, match="Known: dimensions, task_type"):
        wire("vertex:x?y=1")


def test_identity_has_neither_project_nor_location() -> None:
    """The same model elsewhere is the same model."""
    assert wire("vertex:text-embedding-005?dimensions=256", location="eu").identity == (
        "vertex:text-embedding-005?dimensions=256"
    )


@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-001", "gemini-embedding-2"])
def test_texts_are_embedded_over_http(model: str, private_key: str, tmp_path: Path, links: Links) -> None:
    """From texts to vectors, with a token that is asked for once."""
    file = tmp_path / "sa.json"
    with ChaosServer(dimensions=16, key="right") as server:
        file.write_text(account(private_key, f"{server.url}/token"))
        at_server = connection(base_url=server.url, api_key=f"file:{file}")
        opened = open_remote(ModelURI.parse(f"vertex:{model}?dimensions=8"), at_server, links)
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))
        queries = hash_vectors([f"query\n{text}" for text in TEXTS], 8)
        np.testing.assert_array_equal(opened.embed(TEXTS, "query"), queries)
        assert [request.path for request in server.requests].count("/token") == 1
        assert server.requests[-1].headers["authorization"].startswith("Bearer ya29.")
        assert opened.embed_each(TEXTS, "document").usage.tokens == server.paid_tokens // 3


@pytest.mark.parametrize("form", ["path", "json"])
def test_a_variable_has_the_path_of_the_credentials_or_themselves(
    form: str, private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: Links
) -> None:
    """`GOOGLE_APPLICATION_CREDENTIALS` is where Google's own packages look."""
    with ChaosServer(dimensions=8, key="right", protocols=["vertex"]) as server:
        content = account(private_key, f"{server.url}/token")
        (tmp_path / "sa.json").write_text(content)
        value = content if form == "json" else str(tmp_path / "sa.json")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", value)
        opened = open_remote(
            ModelURI.parse("vertex:text-embedding-005?dimensions=8"),
            connection(base_url=server.url, api_key="env:GOOGLE_APPLICATION_CREDENTIALS"),
            links,
        )
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))


@pytest.mark.parametrize(("seconds", "renewed"), [(3599, 1), (1, 6)])
def test_a_token_is_renewed_before_it_ends_and_not_sooner(
    seconds: int, renewed: int, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads ask for one token, not for one each."""
    with ChaosServer(key="right", protocols=["vertex"]) as server:
        monkeypatch.setenv("ACCOUNT", account(private_key, f"{server.url}/token?expires_in={seconds}"))
        auth = auth_of(connection(api_key="env:ACCOUNT"))
        with ThreadPoolExecutor(6) as pool:
            found = [future.result() for future in [pool.submit(auth.headers, REQUEST) for _ in range(6)]]
        assert len(server.requests) == renewed
    assert len({headers["Authorization"] for headers in found}) == renewed
    assert found[0]["Authorization"].startswith("Bearer ya29.")


def test_key_and_token_are_secrets(private_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message shows them, however they are written."""
    with ChaosServer(key="right", protocols=["vertex"]) as server:
        monkeypatch.setenv("ACCOUNT", account(private_key, f"{server.url}/token"))
        auth = auth_of(connection(api_key="env:ACCOUNT"))
        assert list(auth.secrets()) == []
        token = auth.headers(REQUEST)["Authorization"].removeprefix("Bearer ")
    secrets = auth.secrets()
    assert {private_key, private_key.replace("\n", "\\n"), token} <= set(secrets)


def test_a_key_that_is_not_valid_is_refused(private_key: str, monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Google says so where tokens are given."""
    with ChaosServer(key="right", protocols=["vertex"]) as server:
        monkeypatch.setenv("ACCOUNT", account(private_key, f"{server.url}/token", "wrong"))
        at_server = connection(base_url=server.url, api_key="env:ACCOUNT")
        opened = open_remote(ModelURI.parse("vertex:text-embedding-005?dimensions=8"), at_server, links)
        with pytest.raises(AccessRefused, match="Invalid JWT Signature") as caught:
            opened.embed(["x"], "document")
    assert private_key not in str(caught.value)


def test_where_tokens_are_given_may_be_away(private_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no reason to give up."""
    monkeypatch.setenv("ACCOUNT", account(private_key, "http://127.0.0.1:9/token"))
    with pytest.raises(ProviderUnavailable, match="cannot reach"):
        auth_of(connection(api_key="env:ACCOUNT")).headers(REQUEST)


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", '{"type":"external_account"}', '{"type":"service_account","private_key":"x"}']
)
def test_what_are_no_credentials_is_said_without_repeating_it(content: str, tmp_path: Path) -> None:
    """The place is named, and what is in it is not."""
    (tmp_path / "sa.json").write_text(content)
    with pytest.raises(ConfigError, match="credentials") as caught:
        auth_of(connection(api_key=f"file:{tmp_path}/sa.json")).headers(REQUEST)
    assert not content or content not in str(caught.value)


def test_missing_credentials_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual place is told."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(ConfigError, match="GOOGLE_APPLICATION_CREDENTIALS is not there"):
        auth_of(connection()).headers(REQUEST)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who uses Vertex AI needs google-auth."""
    monkeypatch.setitem(sys.modules, "google.auth.exceptions", None)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(MissingExtra, match=r"lockstep\[vertex\]"):
        auth_of(connection())


def test_no_token_goes_to_another_address_without_being_told_so(links: Links) -> None:
    """The account of one's own project is not for whoever is at an address."""
    assert auth_of(connection(base_url="https://proxy.example")).headers(REQUEST) == {}


def test_a_too_long_text_is_refused(private_key: str, monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """It can be cut and sent again."""
    with ChaosServer(key="right", protocols=["vertex"]) as server:
        monkeypatch.setenv("ACCOUNT", account(private_key, f"{server.url}/token"))
        at_server = connection(base_url=server.url, api_key="env:ACCOUNT")
        opened = open_remote(ModelURI.parse("vertex:text-embedding-005?dimensions=8"), at_server, links)
        with pytest.raises(TextTooLong, match="input token count"):
            opened.embed(["word " * 2049], "document")
