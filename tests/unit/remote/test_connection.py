"""Connections: what may be said, what is refused, and that no key is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.connection import NUMBERS, RESERVED, Connection
from lockstep.models.remote.kinds import KINDS

KEY = "sk-proj-0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own."""
    for kind in KINDS.values():
        for variable in (kind.base_url_env, kind.key_env, *kind.settings_env.values()):
            if variable:
                monkeypatch.delenv(variable, raising=False)


def connection(kind: str = "openai", **given: Any) -> Connection:
    return Connection(name=given.pop("name", kind if kind not in RESERVED else "mine"), kind=kind, **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"api_key": KEY}, "api_key"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": f"key:{KEY}"}, "api_key"),
        ({"api_key": f"env:{KEY}"}, "api_key"),
        ({"api_key": "env:"}, "api_key"),
        ({"api_key": f"keyring:{KEY}"}, "api_key"),
        ({"search_api_key": KEY}, "search_api_key"),
        ({"base_url": KEY}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "host.example/v1"}, "base_url"),
        ({"base_url": f"ftp://{KEY}.example"}, "base_url"),
        ({"base_url": f"https://{KEY}@host.example/v1"}, "base_url"),
        ({"base_url": f"https://user:{KEY}@host.example/v1"}, "base_url"),
        ({"base_url": f"https://user:{KEY}/v1"}, "base_url"),
        ({"base_url": f"https://host.example/v1?api-key={KEY}"}, "base_url"),
        ({"base_url": f"https://host.example/v1?a=1&Signature={KEY}"}, "base_url"),
        ({"base_url": f"https://host.example/v1?{KEY}"}, "base_url"),
        ({"base_url": f"https://host.example/v1?x={KEY}"}, "base_url"),
        ({"base_url": f"https://host.example/v1#{KEY}"}, "base_url"),
        ({"base_url": f"https://[{KEY}"}, "base_url"),
        ({"base_url": "https://host.example:99999"}, "base_url"),
        ({"base_url": "https://host.example:0"}, "base_url"),
        ({"base_url": "https:///v1"}, "base_url"),
        ({"proxy": KEY}, "proxy"),
        ({"proxy": f"http://user:{KEY}@proxy.example:8080"}, "proxy"),
        ({"proxy": f"http://user:{KEY}@proxy.example:8080?x=1"}, "proxy"),
        ({"proxy": f"http://proxy.example:8080?token={KEY}"}, "proxy"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 3601}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": "60"}, "timeout_s"),
        ({"price_per_million_tokens": -1}, "price_per_million_tokens"),
        ({"price_per_million_tokens": float("nan")}, "price_per_million_tokens"),
        ({"price_per_million_tokens": float("inf")}, "price_per_million_tokens"),
        ({"in_flight": 0}, "in_flight"),
        ({"in_flight": True}, "in_flight"),
        ({"in_flight": 1.5}, "in_flight"),
    ],
)
def test_a_bad_setting_is_refused_and_what_may_be_a_key_is_not_repeated(given: dict[str, Any], named: str) -> None:
    """It is named, and what people put where a key does not belong is not in the message."""
    with pytest.raises(ConfigError, match=named) as caught:
        connection(**given)
    shown = f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert KEY not in shown
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("setting", NUMBERS)
def test_numbers_have_bounds(setting: str) -> None:
    """The bounds themselves are allowed, and what is beyond is not."""
    low, high = NUMBERS[setting]
    for allowed in (low, high):
        assert getattr(connection(**{setting: allowed}), setting) == allowed
    for refused in (low - 1, high + 1, str(low), float(low)):
        with pytest.raises(ConfigError, match=setting):
            connection(**{setting: refused})


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "a_b", "-a", "a-", "a--b", "a/b", "é", "a\n", *RESERVED])
def test_a_name_that_no_uri_could_begin_with_is_refused(name: str) -> None:
    """Nor one that means something else."""
    with pytest.raises(ConfigError, match="cannot be named"):
        connection(name=name)


@pytest.mark.parametrize("name", ["a", "my-openai", "acme.eu", "gpt4", "openai"])
def test_names_that_are_allowed(name: str) -> None:
    """Small letters, digits, single dashes and dots."""
    assert connection(name=name).name == name


def test_another_kinds_name_is_refused() -> None:
    """`mistral:...` should not lead to OpenAI."""
    with pytest.raises(ConfigError, match='cannot be named "mistral"'):
        connection(name="mistral")


def test_unknown_kinds_and_settings_are_errors_that_name_the_nearest() -> None:
    """A typing error does not change what happens in silence."""
    with pytest.raises(UnknownName, match='Did you mean "openai"'):
        connection(kind="opnai", name="x")
    with pytest.raises(UnknownName, match='Did you mean "organization"'):
        Connection.create("openai", "openai", organisation="x")
    with pytest.raises(UnknownName, match='Did you mean "requests_per_minute"'):
        Connection.create("openai", "openai", request_per_minute=5)
    with pytest.raises(UnknownName, match="mistral"):
        Connection.create("mistral", "mistral", organization="x")


def test_settings_of_a_kind_are_recognised_among_the_common_ones() -> None:
    """And what is None was not given."""
    made = Connection.create("openai", "openai", project="p", in_flight=3, organization=None, proxy=None)
    assert made == connection(in_flight=3, settings={"project": "p"})


@pytest.mark.parametrize(
    ("kind", "given", "used"),
    [
        ("openai", None, "https://api.openai.com/v1"),
        ("openai", "https://host.example", "https://host.example/v1"),
        ("openai", "https://host.example/", "https://host.example/v1"),
        ("openai", "https://host.example//", "https://host.example/v1"),
        ("openai", "https://host.example/v1", "https://host.example/v1"),
        ("openai", "https://host.example/v1/", "https://host.example/v1"),
        ("openai", "https://host.example/v1/v1", "https://host.example/v1"),
        ("openai", "https://host.example//v1//v1/", "https://host.example/v1"),
        ("openai", "https://host.example/v1/embeddings", "https://host.example/v1"),
        ("openai", "https://host.example/v1/embeddings/", "https://host.example/v1"),
        ("openai", "https://host.example/embeddings", "https://host.example/v1"),
        ("openai", "https://host.example/api/paas/v4", "https://host.example/api/paas/v4"),
        ("openai", "https://host.example/compatible-mode/v1", "https://host.example/compatible-mode/v1"),
        ("openai", "https://host.example/inference", "https://host.example/inference"),
        ("openai", "http://localhost:8000", "http://localhost:8000/v1"),
        ("openai", "http://[::1]:8000/", "http://[::1]:8000/v1"),
        ("ollama", "http://localhost:11434/", "http://localhost:11434"),
        ("cohere", "https://host.example/", "https://host.example"),
        ("tei", "https://host.example/e5//", "https://host.example/e5"),
    ],
)
def test_an_address_works_in_every_form_that_people_paste(kind: str, given: str | None, used: str) -> None:
    """No slash at the end, and the version once for OpenAI's protocol."""
    assert connection(kind, base_url=given).url == used


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["/", "//", "/v1", "/v2", "/api", "/embeddings"]), max_size=5).map("".join),
)
def test_an_address_that_was_made_tidy_stays_as_it_is(path: str) -> None:
    """Stored and read again, it is the same."""
    once = connection(base_url=f"https://host.example{path}").url
    assert not once.endswith("/")
    assert "//" not in once.removeprefix("https://")
    assert once != "https://host.example"
    if "embeddings" not in path:
        assert connection(base_url=once).url == once


def test_without_an_address_it_says_how_to_give_one() -> None:
    """Some services have no place of their own."""
    with pytest.raises(ConfigError, match="AZURE_OPENAI_ENDPOINT"):
        _ = connection("azure").url
    with pytest.raises(ConfigError, match="has no address"):
        _ = connection("tei").url


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000", True),
        ("http://LOCALHOST", True),
        ("http://embedder.localhost/v1", True),
        ("http://127.0.0.1:11434", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8080", True),
        ("http://0.0.0.0", False),
        ("http://192.168.1.4", False),
        ("http://[fe80::1]", False),
        ("http://localhost.example", False),
        ("http://notlocalhost", False),
        ("http://example.com", False),
    ],
)
def test_plain_http_is_warned_of_unless_it_stays_on_this_machine(url: str, local: bool) -> None:
    """Texts and key could be read on the way; with https, nobody is warned."""
    made = connection(base_url=url)
    assert made.is_local is local
    assert (made.warning is None) is local
    assert connection(base_url=url.replace("http:", "https:")).warning is None
    if not local:
        assert "plain http" in str(made.warning)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in RESERVED])
def test_every_kind_has_a_default_connection(kind: str) -> None:
    """Of its own name, with the place of its key where it needs one; nothing of it is a warning."""
    made = Connection.default(kind)
    assert (made.name, made.kind, made.base_url, made.settings) == (kind, kind, None, {})
    known = KINDS[kind]
    assert made.api_key == (f"env:{known.key_env}" if known.key_env and known.needs_key else None)
    if known.base_url:
        assert made.url.startswith(known.base_url)
        assert made.warning is None


def test_a_default_connection_finds_what_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that users of the service set anyway; an empty one counts as not set."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "")
    made = Connection.default("openai")
    assert made.url == "https://proxy.example/v1"
    assert made.settings == {"organization": "org"}
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert Connection.default("openai").base_url is None
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/")
    assert Connection.default("azure").url == "https://me.openai.azure.com"


def test_a_key_that_is_not_needed_is_used_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own server asks for none, mostly."""
    assert Connection.default("vllm").key_reference is None
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    assert Connection.default("vllm").key_reference == "env:VLLM_API_KEY"


def test_a_services_key_does_not_go_to_another_server() -> None:
    """Only the service itself gets the key of the usual variable; another address gets what the connection names."""
    assert connection().key_reference == "env:OPENAI_API_KEY"
    assert connection(base_url="http://localhost:1").key_reference is None
    assert connection(base_url="http://localhost:1", api_key="env:MINE").key_reference == "env:MINE"
    assert connection("vllm").key_reference is None
    assert connection("spaces").key_reference is None


def test_searches_share_the_connection_unless_they_have_a_key_or_limits_of_their_own() -> None:
    """Sharing is one queue, in which they go first."""
    shared = connection(api_key="env:A", requests_per_minute=10, tokens_per_minute=20)
    assert shared.for_search is shared
    own_key = connection(api_key="env:A", requests_per_minute=10, search_api_key="env:B").for_search
    assert (own_key.api_key, own_key.requests_per_minute) == ("env:B", None)
    own_limit = connection(api_key="env:A", requests_per_minute=10, search_requests_per_minute=5).for_search
    assert (own_limit.api_key, own_limit.requests_per_minute, own_limit.tokens_per_minute) == ("env:A", 5, None)
    own_tokens = connection(tokens_per_minute=10, search_tokens_per_minute=7).for_search
    assert own_tokens.tokens_per_minute == 7
    assert own_tokens.for_search is own_tokens


@settings(max_examples=50, deadline=None)
@given(
    in_flight=st.integers(1, 512),
    timeout_s=st.floats(0.1, 3600),
    limit=st.none() | st.integers(1, 10_000_000),
    price=st.none() | st.floats(0, 1e5),
    settings=st.dictionaries(st.sampled_from(["organization", "project"]), st.text()),
    url=st.none() | st.just("http://host.example/v1"),
)
def test_what_is_stored_is_what_is_read(
    in_flight: int,
    timeout_s: float,
    limit: int | None,
    price: float | None,
    settings: dict[str, str],
    url: str | None,
) -> None:
    """Every setting, to the last digit."""
    made = connection(
        base_url=url,
        api_key="keyring:service/user",
        search_api_key="file:~/key",
        in_flight=in_flight,
        timeout_s=timeout_s,
        requests_per_minute=limit,
        price_per_million_tokens=price,
        settings=settings,
        proxy="http://proxy.example:8080",
        ca_file="/etc/ca.pem",
    )
    assert Connection.from_json(made.to_json()) == made


def test_a_key_is_neither_shown_nor_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection knows where it lies, and not what it is."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Connection.default("openai")
    assert json.loads(made.to_json())["api_key"] == "env:OPENAI_API_KEY"
    for shown in (repr(made), str(made), made.to_json(), repr(made.for_search)):
        assert KEY not in shown
