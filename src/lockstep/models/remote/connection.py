"""A connection: an account at a service, its address, the place of its key, its limits. It holds no secret."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.keys import check_reference
from lockstep.models.remote.kinds import KINDS

NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
RESERVED = ("local", "fake", "python", "http")
SECRET_WORDS = ("key", "token", "secret", "password", "sig", "signature", "credential")
NUMBERS = {
    "requests_per_minute": (1, 10_000_000),
    "tokens_per_minute": (1, 100_000_000_000),
    "search_requests_per_minute": (1, 10_000_000),
    "search_tokens_per_minute": (1, 100_000_000_000),
    "in_flight": (1, 512),
    "texts_per_request": (1, 100_000),
}


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An account at a service, shared by tasks.

    Raises:
        UnknownName: there is no such kind, or no such setting.
        ConfigError: a setting is not allowed; keys are never repeated.
    """

    name: str
    """What a model's URI begins with."""
    kind: str
    """A name in `KINDS`."""
    base_url: str | None = None
    """Where the service is; the kind's own place when not given."""
    api_key: str | None = None
    """Where the key lies: `env:NAME`, `file:PATH`, `keyring:SERVICE/USER`."""
    search_api_key: str | None = None
    """Where another key lies, for queries."""
    requests_per_minute: int | None = None
    """At most; None: what the service says, or what it lets through."""
    tokens_per_minute: int | None = None
    search_requests_per_minute: int | None = None
    """With one of these two, or with its own key, searching has limits of its own; else both share one limit, and
    searches go first."""
    search_tokens_per_minute: int | None = None
    in_flight: int = 32
    """Most requests on their way at once."""
    texts_per_request: int = 128
    """Most texts in a request, where the service takes as many."""
    timeout_s: float = 60.0
    """For the whole of a request."""
    ca_file: str | None = None
    """Certificates to trust instead of the system's, PEM."""
    proxy: str | None = None
    """Instead of HTTPS_PROXY and HTTP_PROXY."""
    price_per_million_tokens: float | None = None
    """US dollars, instead of the list price."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What only this kind has, such as `organization`."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of connection", self.kind, KINDS)
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise ConfigError(
                f'A connection cannot be named "{self.name}".',
                f"Use a-z, 0-9, single dashes and dots, and none of: {', '.join(RESERVED)}.",
            )
        if self.name in KINDS and self.name != self.kind:
            raise ConfigError(
                f'A connection of the kind "{self.kind}" cannot be named "{self.name}", as another kind is.',
                "Choose another name.",
            )
        for what in ("api_key", "search_api_key"):
            if (reference := getattr(self, what)) is not None:
                check_reference(reference, what)
        for setting in self.settings:
            if setting not in KINDS[self.kind].settings:
                raise UnknownName(
                    f"setting of {self.kind} connections", setting, [*KINDS[self.kind].settings, *NUMBERS]
                )
        for setting, (low, high) in NUMBERS.items():
            value = getattr(self, setting)
            if value is not None and (type(value) is not int or not low <= value <= high):
                raise ConfigError(f"{setting} is {value!r}; it must be a whole number from {low} to {high}.")
        if not isinstance(self.timeout_s, int | float) or not 0.1 <= self.timeout_s <= 3600:
            raise ConfigError(f"timeout_s is {self.timeout_s!r}; it must be from 0.1 to 3600 seconds.")
        price = self.price_per_million_tokens
        if price is not None and (not isinstance(price, int | float) or not 0 <= price < 1e6):
            raise ConfigError(f"price_per_million_tokens is {price!r}; it must be dollars, 0 or more.")
        for what in ("base_url", "proxy"):
            if (url := getattr(self, what)) is not None:
                check_url(url, what)

    @classmethod
    def create(cls, name: str, kind: str, **given: Any) -> Connection:
        """A connection from what a user gives: settings that only its kind has are recognised."""
        known = {f.name for f in fields(cls)} - {"name", "kind", "settings"}
        own = {setting: str(value) for setting, value in given.items() if setting not in known and value is not None}
        common = {setting: value for setting, value in given.items() if setting in known and value is not None}
        return cls(name=name, kind=kind, settings=own, **common)

    @classmethod
    def default(cls, kind: str) -> Connection:
        """The connection that every kind has: its usual address, and the usual places of its key and settings."""
        found = KINDS[kind]
        base_url = os.environ.get(found.base_url_env) if found.base_url_env else None
        settings = {
            name: os.environ[variable] for name, variable in found.settings_env.items() if os.environ.get(variable)
        }
        needed = found.key_env and (found.needs_key or os.environ.get(found.key_env))
        key = f"env:{found.key_env}" if needed else None
        return cls(name=kind, kind=kind, base_url=base_url or None, api_key=key, settings=settings)

    @classmethod
    def from_json(cls, text: str) -> Connection:
        """The connection that `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """As it is stored; it names places of keys and holds none."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def url(self) -> str:
        """The service's address without a trailing slash, and, for OpenAI's protocol, with the path of its version once.

        Raises:
            ConfigError: there is none.
        """
        kind = KINDS[self.kind]
        given = self.base_url or kind.base_url
        if not given:
            place = f", or {kind.base_url_env}" if kind.base_url_env else ""
            raise ConfigError(f'Connection "{self.name}" has no address.', f"Give it a base_url{place}.")
        return tidy_url(given, with_version=kind.adapter.startswith("openai:"))

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine."""
        return is_local(urlsplit(self.base_url or KINDS[self.kind].base_url or ""))

    @property
    def warning(self) -> str | None:
        """What a user should know of the address: texts and key in the clear."""
        parts = urlsplit(self.base_url or KINDS[self.kind].base_url or "")
        if parts.scheme == "http" and not is_local(parts):
            return f"{parts.hostname} is reached by plain http: your texts and your key can be read on the way."
        return None

    @property
    def key_reference(self) -> str | None:
        """Where the key lies; the kind's usual variable when nothing is said and the kind cannot do without."""
        kind = KINDS[self.kind]
        if self.api_key is not None or kind.key_env is None:
            return self.api_key
        # One's own server asks for no key, unless the connection names one; nor does a key go to it that is another's.
        return f"env:{kind.key_env}" if kind.needs_key and self.base_url is None else None

    @property
    def for_search(self) -> Connection:
        """The same account as searches use it; itself where they share key and limits."""
        if not (self.search_api_key or self.search_requests_per_minute or self.search_tokens_per_minute):
            return self
        return replace(
            self,
            api_key=self.search_api_key or self.api_key,
            requests_per_minute=self.search_requests_per_minute,
            tokens_per_minute=self.search_tokens_per_minute,
            search_api_key=None,
            search_requests_per_minute=None,
            search_tokens_per_minute=None,
        )


def check_url(url: str, what: str) -> None:
    """Refuse an address that is none, or that holds a key.

    Raises:
        ConfigError: the address is not repeated where it may hold a key.
    """
    try:
        parts = urlsplit(url)
        holds_key = bool(parts.username or parts.password) or any(
            word in name.lower() for name in re.findall(r"([^&=?]+)=", parts.query) for word in SECRET_WORDS
        )
        port = parts.port
    except ValueError:
        raise ConfigError(f"{what} is no address.", "Write it like https://host/path.") from None
    if holds_key:
        other = "Set HTTPS_PROXY" if what == "proxy" else "Give api_key=env:NAME"
        raise ConfigError(f"{what} holds a key; a key in an address ends up in logs.", f"{other} instead.")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        # What is no address may be a key in the wrong place.
        raise ConfigError(f"{what} is no address.", "Write it like https://host/path.")
    if parts.query or parts.fragment:
        raise ConfigError(f'{what} "{parts.scheme}://{parts.netloc}{parts.path}?…" ends with more than a path.')


def tidy_url(url: str, *, with_version: bool) -> str:
    """Without slashes at the end; with `/v1` exactly once where the protocol has it.

    A path that already names a version (`/v1`, `/api/paas/v4`, `/compatible-mode/v1`), or any other path, stays; a bare
    host gets `/v1`. What people copy from examples, `…/v1/embeddings`, works.
    """
    parts = urlsplit(url)
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    if with_version:
        path = path.removesuffix("/embeddings")
        path = re.sub(r"(/v\d+)(/v\d+)+$", r"\1", path)
        path = path or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def is_local(parts: SplitResult) -> bool:
    """Whether an address never leaves this machine."""
    host = parts.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
