"""Azure OpenAI's wire. Source: https://learn.microsoft.com/en-us/azure/ai-services/openai/reference#embeddings."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lockstep.errors import AccessRefused, ConfigError, MissingExtra, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.azure import TokenAuth, open_auth, open_azure
from lockstep.models.remote.wire import Request
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def azure(**settings: Any) -> Connection:
    return Connection.create("azure", "azure", **{"base_url": "https://acme.openai.azure.com", **settings})


def test_the_request_is_that_of_the_reference() -> None:
    """The deployment is in the path, the version in the query; the body names no model."""
    wire = open_azure(ModelURI.parse("azure:my-embeddings?dimensions=256"), azure(api_version="2023-05-15"))
    request = wire.request(["a", "b"], "document")
    assert request.method == "POST"
    assert request.url == (
        "https://acme.openai.azure.com/openai/deployments/my-embeddings/embeddings?api-version=2023-05-15"
    )
    assert json.loads(request.body) == {"input": ["a", "b"], "dimensions": 256, "encoding_format": "base64"}


@pytest.mark.parametrize(
    "ending", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "/openai/deployments/x"]
)
def test_an_endpoint_may_be_copied_with_any_ending(ending: str) -> None:
    """The portal, examples and SDKs each show another."""
    wire = open_azure(ModelURI.parse("azure:d"), azure(base_url=f"https://acme.openai.azure.com{ending}"))
    assert wire.url == "https://acme.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-10-21"


def test_a_path_of_a_proxy_stays() -> None:
    """API Management puts services behind a path."""
    wire = open_azure(ModelURI.parse("azure:d"), azure(base_url="https://gate.acme.com/ai/openai"))
    assert wire.url.startswith("https://gate.acme.com/ai/openai/deployments/d/")


def test_a_deployments_name_cannot_leave_its_place() -> None:
    """It is quoted."""
    wire = open_azure(ModelURI("azure", "a/b c"), azure())
    assert "/deployments/a%2Fb%20c/embeddings?" in wire.url


def test_the_identity_is_the_model_where_it_is_told() -> None:
    """Two deployments of one model have the same vectors; address and key do not count."""
    first = open_azure(ModelURI.parse("azure:one?model=text-embedding-3-small&dimensions=256"), azure())
    second = open_azure(
        ModelURI.parse("azure:two?dimensions=256&model=text-embedding-3-small"), azure(base_url="https://b.example.com")
    )
    assert first.identity == second.identity == "azure:text-embedding-3-small?dimensions=256"
    assert open_azure(ModelURI.parse("azure:one"), azure()).identity == "azure:one"


def test_an_unknown_option_or_setting_is_refused() -> None:
    """With the nearest that exists."""
    with pytest.raises(UnknownName, match='Did you mean "dimensions"'):
        open_azure(ModelURI.parse("azure:d?dimension=4"), azure())
    with pytest.raises(UnknownName, match="api_version"):
        azure(api_versoin="1")
    with pytest.raises(UnknownName, match="active_directory"):
        open_auth(azure(active_directory="yes"))
    with pytest.raises(ConfigError, match="AZURE_OPENAI_ENDPOINT"):
        open_azure(ModelURI.parse("azure:d"), Connection.create("azure", "azure"))


def test_the_default_connection_is_in_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that Azure's own examples set."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://acme.openai.azure.com/")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-06-01")
    connection = Connection.default("azure")
    assert open_azure(ModelURI.parse("azure:d"), connection).url.endswith("/d/embeddings?api-version=2024-06-01")
    assert open_auth(connection).headers(Request("https://x", b"")) == {"api-key": "k"}


class Credential:
    """What azure-identity offers, with tokens that last so long."""

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s
        self.asked: list[str] = []

    def get_token(self, *scopes: str) -> Any:
        self.asked += scopes
        return type("AccessToken", (), {"token": f"t{len(self.asked)}", "expires_on": time.time() + self.lasts_s})


def test_a_token_is_asked_for_once_and_again_before_it_ends() -> None:
    """Each costs a request."""
    request = Request("https://x", b"")
    credential = Credential(3600)
    auth = TokenAuth(credential, "it")
    assert auth.secrets() == []
    assert [auth.headers(request) for _ in range(3)] == [{"Authorization": "Bearer t1"}] * 3
    assert credential.asked == ["https://cognitiveservices.azure.com/.default"]
    assert auth.secrets() == ["t1"]
    short = TokenAuth(Credential(60), "it")
    assert [short.headers(request)["Authorization"] for _ in range(2)] == ["Bearer t1", "Bearer t2"]


def test_who_cannot_sign_in_is_told_how() -> None:
    """Every way of signing in has errors of its own."""

    class Failing:
        def get_token(self, *scopes: str) -> Any:
            raise RuntimeError("no\naccount")

    with pytest.raises(AccessRefused, match=r"it got no token from Microsoft Entra ID: no account Sign in.* az login"):
        TokenAuth(Failing(), "it").headers(Request("https://x", b""))


def test_active_directory_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how to install it."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("azure"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"lockstep\[azure\]"):
        open_auth(azure(active_directory="true"))


def test_it_embeds(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in `api-key`; a wrong one is refused."""
    monkeypatch.setenv("GOOD", "right-key")
    monkeypatch.setenv("BAD", "wrong-key")
    with ChaosServer(dimensions=32, key="right-key") as server:
        model = open_remote(ModelURI.parse("azure:d"), azure(base_url=server.url, api_key="env:GOOD"), links)
        texts = [f"text {n}" for n in range(5)]
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 32))
        np.testing.assert_array_equal(model.embed(["q"], "query"), hash_vectors(["q"], 32))
        assert server.requests[0].headers["api-key"] == "right-key"
        assert "authorization" not in server.requests[0].headers
        wrong = open_remote(ModelURI.parse("azure:d"), azure(base_url=server.url, api_key="env:BAD"), links)
        with pytest.raises(AccessRefused, match="invalid subscription key"):
            wrong.embed(["a"], "document")
