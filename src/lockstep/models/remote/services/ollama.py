"""Ollama in its own protocol: `POST /api/embed`; before Ollama 0.3 `POST /api/embeddings`, one text at a time.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np

from lockstep.errors import ConfigError, ProviderRejected
from lockstep.models.remote.answers import at, listed, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind, Vectors

PORT = 11434
MODEL_MISSING = re.compile("model ['\"]")
"""In the words for it: `model 'all-minilm' not found`."""


@dataclass(frozen=True, kw_only=True)
class OllamaWire:
    """Speaks Ollama's protocol."""

    identity: str
    url: str
    """Of the server."""
    model: str
    texts_max: int
    dimensions: int | None = None
    keep_alive: str | None = None
    legacy: bool = False
    """Use `/api/embeddings`, which cuts long texts off and says nothing."""
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        del kind
        body: dict[str, object] = {"model": self.model}
        if self.legacy:
            (body["prompt"],) = texts
        else:
            body |= {"input": list(texts), "truncate": False, "dimensions": self.dimensions}
        request = json_request(
            self._place("embeddings" if self.legacy else "embed"), {**body, "keep_alive": self.keep_alive}
        )
        return replace(request, hints=self._hints)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        if self.legacy:
            return Answer(self._shortened(matrix([at(found, "embedding")])))
        return Answer(matrix(listed(at(found, "embeddings"), count)), tokens_at(found, "prompt_eval_count"))

    def facts_request(self) -> Request:
        """See `FactsWire.facts_request`."""
        return replace(json_request(self._place("show"), {"model": self.model}), hints=self._hints)

    def facts(self, body: bytes) -> Mapping[str, int]:
        """See `FactsWire.facts`: `bert.embedding_length` and `bert.context_length`, or whatever the family's name is."""
        told = at(read_json(body), "model_info")
        if type(told) is not dict:
            raise ValueError("the answer has no model_info")
        family = told.get("general.architecture")
        found = {
            "dimensions": self.dimensions or tokens_at(told, f"{family}.embedding_length"),
            "max_tokens": tokens_at(told, f"{family}.context_length"),
        }
        return {name: value for name, value in found.items() if value}

    def instead(self, status: int, said: str) -> OllamaWire | None:
        """See `FallbackWire.instead`: what is missing is the address, unless the message is about the model."""
        if self.legacy or status != 404 or MODEL_MISSING.search(said):
            return None
        return replace(self, legacy=True, texts_max=1)

    @property
    def pull_done(self) -> str:
        """See `PullWire.pull_done`."""
        return "success"

    def pull_request(self) -> Request:
        """See `PullWire.pull_request`."""
        return json_request(self._place("pull"), {"model": self.model})

    def pull_progress(self, line: bytes) -> tuple[str, int, int]:
        """See `PullWire.pull_progress`."""
        told = read_json(line)
        if isinstance(told, dict) and told.get("error"):
            raise ProviderRejected(
                f'Ollama cannot fetch "{self.model}": {str(told["error"])[:300]}.',
                "Check its name at https://ollama.com/library, and that Ollama reaches the network.",
            )
        return str(at(told, "status")), tokens_at(told, "completed") or 0, tokens_at(told, "total") or 0

    def _place(self, name: str) -> str:
        return f"{self.url}/api/{name}"

    @property
    def _hints(self) -> Mapping[int, str]:
        """Both a model and an address that are not there are answered with 404."""
        return {404: f"Run: ollama pull {self.model} (or, if that is done, check the connection's base_url)."}

    def _shortened(self, vectors: Vectors) -> Vectors:
        """As the newer address gives them: of the dimensions asked for, and of length 1."""
        cut = vectors[:, : self.dimensions] if self.dimensions else vectors
        length = np.linalg.norm(cut, axis=1, keepdims=True)
        scaled: Vectors = cut / np.maximum(length, np.float32(1e-12))
        return scaled


def open_ollama(uri: ModelURI, connection: Connection) -> OllamaWire:
    """The wire of a model by its name at Ollama.

    Options: `dimensions`; `keep_alive`, how long the model stays in memory, such as `10m`; `legacy=true` for Ollama
    before 0.3, which is noticed without it at the cost of two requests.
    """
    uri.allow("dimensions", "keep_alive", "legacy")
    legacy = bool(uri.flag("legacy"))
    host = connection.settings.get("host")
    same = {option: value for option, value in uri.options.items() if option == "dimensions"}
    return OllamaWire(
        identity=uri_identity(connection.kind, replace(uri, options=same)),
        url=host_url(host) if host and connection.base_url is None else connection.url.removesuffix("/api"),
        model=uri.name,
        texts_max=1 if legacy else KINDS[connection.kind].texts_max,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        keep_alive=uri.options.get("keep_alive"),
        legacy=legacy,
    )


def host_url(given: str) -> str:
    """The address that `OLLAMA_HOST` means: `host`, `host:port`, `:port` or a URL.

    The server may listen at all addresses, 0.0.0.0; a client finds it at localhost.

    Raises:
        ConfigError: it is none of these.

    Source: https://github.com/ollama/ollama/blob/main/envconfig/config.go (Host)
    """
    text = given.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or (PORT if not separator else {"http": 80, "https": 443}.get(scheme, PORT))
    except ValueError as exc:
        raise ConfigError(f'OLLAMA_HOST "{given}" is no address: {exc}.', "Write it like host:11434.") from exc
    if scheme not in ("http", "https") or parts.username or parts.password:
        raise ConfigError("OLLAMA_HOST is no address that can be used.", "Write it like host:11434.")
    host = parts.hostname or "localhost"
    host = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104 - nothing listens here
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"
