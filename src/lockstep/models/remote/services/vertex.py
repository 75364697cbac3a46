"""Embeddings on Google Cloud's Vertex AI: `POST …/publishers/google/models/{model}:predict`, for a service account.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api and
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings; of service accounts
https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from lockstep.errors import AccessRefused, ConfigError, MissingExtra, ProviderUnavailable
from lockstep.models.remote.answers import at, in_order, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.http import Client
from lockstep.models.remote.keys import NoAuth, read_file, read_keyring
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.refusals import scrub
from lockstep.models.remote.services.google import TASKS, contents, prompted, task_of
from lockstep.models.remote.wire import Answer, Auth, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

LOCATION = "us-central1"
PLACE = re.compile(r"[a-z0-9]([a-z0-9:.-]*[a-z0-9])?")
"""Projects and locations: both go into addresses."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
SECRET_FIELDS = ("private_key", "client_secret", "refresh_token")
TYPES = ("service_account", "authorized_user")


@dataclass(frozen=True, kw_only=True)
class VertexWire:
    """Speaks Vertex AI's protocol: `predict`, or `embedContent` for Gemini models after the first.

    Too long texts are refused rather than cut.
    """

    identity: str
    url: str
    """Up to the model's name, included."""
    model: str
    texts_max: int
    tokens_max: int | None
    dimensions: int | None = None
    task: str | None = None
    """One of `google.TASKS`; None for the one that each kind has."""

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        task = task_of(self.task, kind)
        given = contents(texts, self.model, task)
        settings: dict[str, Any] = {"autoTruncate": False}
        if self.dimensions:
            settings["outputDimensionality"] = self.dimensions
        if prompted(self.model):
            body = {"content": {"parts": [{"text": given[0]}]}, "embedContentConfig": settings}
            return json_request(f"{self.url}:embedContent", body)
        instances = [{"content": text, "task_type": task} for text in given]
        return json_request(f"{self.url}:predict", {"instances": instances, "parameters": settings})

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`: predictions come in the order of the instances."""
        found = read_json(body)
        if prompted(self.model):
            values = [at(found, "embedding", "values")]
            return Answer(matrix(values), tokens_at(found, "usageMetadata", "promptTokenCount"))
        items = in_order(at(found, "predictions"), count)
        told = [tokens_at(item, "embeddings", "statistics", "token_count") for item in items]
        counted = [tokens for tokens in told if tokens is not None]
        vectors = matrix([at(item, "embeddings", "values") for item in items])
        return Answer(vectors, sum(counted) if len(counted) == count else None)


def open_vertex(uri: ModelURI, connection: Connection) -> VertexWire:
    """The wire for a model on Vertex AI.

    Raises:
        UnknownName: an option is not known.
        ConfigError: the project is not given, or it or the location cannot be one.
    """
    kind = KINDS["vertex"]
    uri.allow("dimensions", *kind.options)
    project = connection.settings.get("project")
    if not project:
        raise ConfigError(
            f'Connection "{connection.name}" has no project.', "Give it project=ID, or set GOOGLE_CLOUD_PROJECT."
        )
    location = connection.settings.get("location", LOCATION)
    for what, value in (("project", project), ("location", location)):
        if not PLACE.fullmatch(value):
            raise ConfigError(f'{what} "{value}" cannot be one.', "It has a-z, 0-9 and dashes in it.")
    base = connection.url if connection.base_url else f"https://{host_of(location)}"
    place = f"projects/{project}/locations/{location}/publishers/google/models"
    return VertexWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{base.removesuffix('/v1')}/v1/{place}/{quote(uri.name, safe='@')}",
        model=uri.name,
        texts_max=1 if uri.name.startswith("gemini-") else kind.texts_max,
        tokens_max=kind.tokens_max,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        task=uri.choice("task_type", TASKS),
    )


def host_of(location: str) -> str:
    """Where the models of a location are: a region, `us` or `eu`, or `global`."""
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


class TokenAuth:
    """Signs by an access token, which it gets with Google's credentials and renews before it ends.

    The credentials are read at the first request: the JSON of a service account, or of a user who has signed in with
    `gcloud auth application-default login`. They say themselves where tokens are given (`token_uri`).
    """

    def __init__(self, connection: Connection, reference: str) -> None:
        self._who = f'Connection "{connection.name}"'
        self._reference = reference
        self._connection = connection
        self._credentials: Any = None
        self._secrets: list[str] = []
        self._tokens: list[str] = []
        self._lock = threading.Lock()

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Auth.headers`."""
        del request
        with self._lock:
            if self._credentials is None:
                info = read_credentials(self._reference, self._who)
                self._secrets = secrets_of(info)
                self._credentials = credentials_of(info, self._who)
            if not self._credentials.valid:
                self._renew()
            return {"Authorization": f"Bearer {self._credentials.token}"}

    def secrets(self) -> Sequence[str]:
        """See `Auth.secrets`."""
        return [*self._secrets, *self._tokens]

    def _renew(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials.refresh(self._ask)
        except GoogleAuthError as exc:
            said = scrub(str(exc.args[0] if exc.args else exc), self.secrets(), ())
            if exc.retryable:
                raise ProviderUnavailable(f"{self._who} gets no access token: {said}.", "Try again later.") from exc
            raise AccessRefused(
                f"{self._who} gets no access token: {said}.", "Check its service account, and whether its key is valid."
            ) from exc
        # A request that is on its way still has the one before.
        self._tokens = [*self._tokens[-1:], self._credentials.token]

    def _ask(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> _Reply:
        """How google-auth sends: as the connection does, with its certificates and its proxy."""
        client = Client(self._connection)  # once in an hour, so nothing is kept open
        try:
            response = client.send(Request(url, body or b"", method), headers or {})
        finally:
            client.close()
        return _Reply(response.status, response.headers, response.body)


class _Reply(NamedTuple):
    """An answer as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def open_auth(connection: Connection) -> Auth:
    """What signs the requests of a connection to Vertex AI.

    Raises:
        MissingExtra: google-auth is not installed.
    """
    reference = connection.key_reference
    if reference is None:
        return NoAuth()
    try:
        import google.auth.exceptions  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(f'Connection "{connection.name}"', "vertex") from exc
    return TokenAuth(connection, reference)


def read_credentials(reference: str, who: str) -> Mapping[str, Any]:
    """The JSON that a reference leads to; a variable may hold it, or the path of its file.

    Raises:
        ConfigError: it is not there, or no JSON of a type that we know; names the place, never what is in it.
    """
    scheme, _, place = reference.partition(":")
    if scheme == "env":
        found, where = os.environ.get(place), f"the environment variable {place}"
        if found and not found.lstrip().startswith("{"):
            place, scheme = found.strip(), "file"
    elif scheme == "keyring":
        found, where = read_keyring(place), f'the keyring entry "{place}"'
    if scheme == "file":
        found, where = read_file(Path(place).expanduser()), f"the file {place}"
    if not found:
        raise ConfigError(
            f"{who} needs the credentials of a service account, and {where} is not there.",
            "Give api_key=file:PATH of its JSON, or set GOOGLE_APPLICATION_CREDENTIALS to the path.",
        )
    try:
        info = json.loads(found)
    except ValueError:
        info = None
    if not isinstance(info, dict) or info.get("type") not in TYPES:
        raise ConfigError(
            f"{who} needs the credentials of a service account, and what {where} holds are none.",
            f"It must be JSON with one of these types: {', '.join(TYPES)}.",
        )
    return info


def credentials_of(info: Mapping[str, Any], who: str) -> Any:
    """google-auth's object for credentials; it has no token yet.

    Raises:
        ConfigError: a field is missing, or the key in them cannot be read.
    """
    from google.oauth2 import credentials, service_account

    try:
        if info["type"] == "service_account":
            return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
        found = credentials.Credentials.from_authorized_user_info(info, scopes=[SCOPE])
    except ValueError as exc:
        raise ConfigError(f"{who} has credentials that cannot be read: {exc}.", "Download them again.") from exc
    return found


def secrets_of(info: Mapping[str, Any]) -> list[str]:
    """What must not be shown of credentials; with line breaks as they are, and as JSON writes them."""
    values = [str(info[name]) for name in SECRET_FIELDS if info.get(name)]
    return list(dict.fromkeys(form for value in values for form in (value, json.dumps(value)[1:-1])))
