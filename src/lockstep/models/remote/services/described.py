"""Any service that takes texts as JSON over HTTP, described in a TOML file: `http:./my-server.toml`.

url = "http://localhost:9000/vectors"
method = "POST"                     # or PUT
vectors = "result.items[].vec"      # where the vectors are: keys, [2] for the third, [] for each
tokens = "usage.tokens"             # where the number of tokens is, if it is told
dimensions = 384
max_tokens = 512                    # of one text
texts_per_request = 64
key = "env:MY_KEY"                  # where the key lies, never the key
key_header = "X-Key"                # Authorization when not given
key_prefix = ""                     # "Bearer " when not given
version = "2"                       # change it when the service's vectors change

[headers]
X-Tenant = "a"

[body]
model = "m"
texts = "{{texts}}"                 # the list of texts; or "{{text}}", for a service that takes one at a time
type = "{{kind}}"                   # document or query

[kinds]                             # other words for the two
document = "passage"
query = "search"
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.answers import at, check_count, matrix, read_json
from lockstep.models.remote.connection import SECRET_WORDS, Connection, check_url
from lockstep.models.remote.keys import KeyAuth, NoAuth, check_reference
from lockstep.models.remote.wire import Answer, Auth, Request
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
STEP = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\d*)\]")
EACH = "[]"
NUMBERS = ("dimensions", "max_tokens", "texts_per_request")
TABLES = ("headers", "body", "kinds")
WORDS = {"document": "document", "query": "query"}
DEFAULT_TEXTS = 32
"""In a request when the file says nothing; small enough for a server at home."""

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file says of a service."""

    url: str
    vectors: str
    body: Mapping[str, Any]
    method: str = "POST"
    tokens: str = ""
    dimensions: int | None = None
    max_tokens: int | None = None
    texts_per_request: int | None = None
    key: str | None = None
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=lambda: dict(WORDS))

    @property
    def one_at_a_time(self) -> bool:
        """Whether the service takes one text in a request."""
        return "text" in placeholders(self.body)

    def uri(self, uri: ModelURI) -> ModelURI:
        """The URI of the file with the facts that the file tells; the URI's own options come first."""
        told = {"dimensions": self.dimensions, "max_tokens": self.max_tokens}
        facts = {name: str(value) for name, value in told.items() if value}
        return replace(uri, options={**facts, **uri.options})


@dataclass(frozen=True, kw_only=True)
class DescribedWire:
    """Speaks as a description says."""

    description: Description
    identity: str
    vectors: Path_
    tokens: Path_ = ()
    texts_max: int = DEFAULT_TEXTS
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        said = self.description
        values = {"texts": list(texts), "text": texts[0], "kind": said.kinds[kind]}
        raw = json.dumps(filled(said.body, values), ensure_ascii=False, separators=(",", ":")).encode()
        return Request(said.url, raw, said.method, dict(said.headers))

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        rows = each_at(found, self.vectors)
        if type(rows) is not list:
            raise ValueError(f"the answer has no list at {self.description.vectors}")
        if self.description.one_at_a_time and rows and not isinstance(rows[0], list | str):
            rows = [rows]
        check_count(len(rows), count)
        return Answer(matrix(rows), self._tokens(found))

    def _tokens(self, found: Any) -> int | None:
        try:
            told = at(found, *self.tokens) if self.tokens else None
        except ValueError:
            return None
        return told if type(told) is int and told >= 0 else None


def read_description(path: str | Path) -> Description:
    """What a file says, checked.

    Raises:
        UnknownName: it has a setting that does not exist; says the nearest.
        ConfigError: it is not there, is no TOML, or something in it is missing or wrong; keys are never repeated.
    """
    file = Path(path).expanduser()
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(
            f"There is no file {file}.", "Write http:PATH of a TOML file that describes a service."
        ) from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"The file {file} cannot be read: {exc}.") from exc
    known = [each.name for each in fields(Description)]
    for name, value in given.items():
        if name not in known:
            raise UnknownName(f"setting of {file.name}", name, known)
        check_type(name, value, file)
    for name in ("url", "vectors", "body"):
        if not given.get(name):
            raise ConfigError(f"{file} has no {name}.", "It needs url, vectors and [body].")
    check(given, file)
    return Description(**{**given, "kinds": {**WORDS, **given.get("kinds", {})}})


def check_type(name: str, value: object, file: Path) -> None:
    """Refuse a value of a wrong type, without repeating it."""
    if name in NUMBERS:
        fits, wanted = type(value) is int and value > 0, "a whole number of 1 or more"
    elif name in TABLES:
        fits, wanted = isinstance(value, dict), "a table"
        if isinstance(value, dict) and name != "body":
            fits, wanted = all(isinstance(each, str) for each in value.values()), "a table of strings"
    else:
        fits, wanted = isinstance(value, str), "a string"
    if not fits:
        raise ConfigError(f"{file}: {name} must be {wanted}.")


def check(given: Mapping[str, Any], file: Path) -> None:
    """Refuse what cannot work, or what holds a key."""
    check_address(given["url"], file)
    if given.get("method", "POST") not in ("POST", "PUT"):
        raise ConfigError(f'{file}: method is "{given["method"]}".', "It must be POST or PUT.")
    if "key" in given:
        check_reference(given["key"], f"{file}: key")
    for name in given.get("headers", {}):
        if any(word in name.lower() for word in ("authorization", *SECRET_WORDS)):
            raise ConfigError(
                f"{file}: the header {name} looks like a key.", 'Give key="env:NAME" and key_header instead.'
            )
    for name in given.get("kinds", {}):
        if name not in WORDS:
            raise UnknownName(f"kind of text in {file.name}", name, WORDS)
    used = placeholders(given["body"])
    for name in sorted(used - {"texts", "text", "kind"}):
        raise UnknownName(f"placeholder in {file.name}", name, ["texts", "text", "kind"])
    if len(used & {"texts", "text"}) != 1:
        has = "both {{texts}} and {{text}}" if "text" in used else "no {{texts}}"
        raise ConfigError(f"{file}: the body has {has}.", "It must have {{texts}}, or {{text}} for one at a time.")
    if "text" in used and given.get("texts_per_request", 1) > 1:
        raise ConfigError(f"{file}: texts_per_request is more than 1, and the body takes one {{{{text}}}}.")
    if parse_path(given["vectors"], file).count(EACH) > 1 or EACH in parse_path(given.get("tokens", ""), file):
        raise ConfigError(f"{file}: [] may be in vectors once, and not in tokens.")


def check_address(url: str, file: Path) -> None:
    """Refuse a URL that is none, or that holds a key."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ConfigError(f"{file}: url is no address: {exc}.") from None
    names = re.findall(r"([^&=]+)=", parts.query)
    if parts.username or parts.password or any(word in name.lower() for name in names for word in SECRET_WORDS):
        raise ConfigError(f"{file}: url holds a key.", 'Give key="env:NAME" instead.')
    check_url(parts._replace(query="", fragment="").geturl(), f"{file}: url")
    if PLACEHOLDER.search(url):
        raise ConfigError(f"{file}: placeholders may be in the body only.")


def parse_path(path: str, file: Path) -> Path_:
    """The steps of `result.items[].vec`: keys, numbers and `EACH`.

    Raises:
        ConfigError: it has not this form.
    """
    steps: list[str | int] = []
    end = 0
    while end < len(path):
        step = STEP.match(path, end)
        if step is None:
            raise ConfigError(f'{file}: "{path}" is no path.', "Write it like data.items[].vector or [0].vector.")
        steps.append(step[1] if step[1] is not None else int(step[2]) if step[2] else EACH)
        end = step.end()
    return tuple(steps)


def each_at(value: Any, path: Path_) -> Any:
    """What lies at a path; behind `EACH`, a list of what lies there for each."""
    if EACH not in path:
        return at(value, *path)
    place = path.index(EACH)
    items = at(value, *path[:place])
    if type(items) is not list:
        raise ValueError(f"the answer has no list at {'.'.join(map(str, path[:place])) or 'its root'}")
    return [at(item, *path[place + 1 :]) for item in items]


def placeholders(value: Any) -> set[str]:
    """The names of all placeholders in a body."""
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for each in inside for name in placeholders(each)}


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """A body with the placeholders' values in it; a text that looks like a placeholder stays as it is."""
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), value)
    if isinstance(value, Mapping):
        return {name: filled(each, values) for name, each in value.items()}
    return [filled(each, values) for each in value] if isinstance(value, list) else value


def identity_of(description: Description) -> str:
    """A hash of what changes vectors: body, words for kinds, method, the path of the URL, where the vectors are.

    The path counts, since many services have the model's name in it; the host does not, so that a server may move; nor do
    headers, which say who asks. `version` is for what none of these shows.
    """
    parts = urlsplit(description.url)
    words = description.kinds if "kind" in placeholders(description.body) else {}
    said = [
        description.method,
        parts.path,
        parts.query,
        description.body,
        words,
        description.vectors,
        description.version,
    ]
    raw = json.dumps(said, sort_keys=True, default=str).encode()
    return f"http:{hashlib.sha256(raw).hexdigest()[:32]}"


def open_described(description: Description) -> DescribedWire:
    """The wire that a description makes."""
    file = Path(urlsplit(description.url).path)
    return DescribedWire(
        description=description,
        identity=identity_of(description),
        vectors=parse_path(description.vectors, file),
        tokens=parse_path(description.tokens, file),
        texts_max=1 if description.one_at_a_time else description.texts_per_request or DEFAULT_TEXTS,
    )


def connection_of(description: Description, name: str) -> Connection:
    """The connection to a described service; its name is made of the file's."""
    parts = urlsplit(description.url)
    words = re.findall(r"[a-z0-9]+", Path(name).stem.lower())
    return Connection.create(
        "-".join(["http", *words]) if words else "http-service",
        "http",
        base_url=f"{parts.scheme}://{parts.netloc}",
        api_key=description.key,
        key_header=description.key_header,
        key_prefix=description.key_prefix,
    )


def open_http(uri: ModelURI, connection: Connection) -> DescribedWire:
    """The wire of the file that a URI `http:PATH` names."""
    del connection
    uri.allow("dimensions")
    return open_described(read_description(uri.name))


def open_auth(connection: Connection) -> Auth:
    """The key in the header that the description names; none without a key."""
    if connection.api_key is None:
        return NoAuth()
    header = connection.settings.get("key_header", "Authorization")
    prefix = connection.settings.get("key_prefix", "Bearer ")
    return KeyAuth(connection.api_key, f'Connection "{connection.name}"', header, prefix)
