"""Azure OpenAI: OpenAI's protocol under the name of a deployment, with a key or a token of Microsoft Entra ID.

Source: https://learn.microsoft.com/en-us/azure/ai-services/openai/reference#embeddings
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from lockstep.errors import AccessRefused, MissingExtra, UnknownName
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.keys import KeyAuth
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.services.openai import OpenAIWire
from lockstep.models.remote.wire import Auth, Request
from lockstep.models.uri import ModelURI

API_VERSION = "2024-10-21"
"""The last version with a date that is not a preview.

Source: https://learn.microsoft.com/en-us/azure/ai-foundry/openai/api-version-lifecycle
"""
SCOPE = "https://cognitiveservices.azure.com/.default"
RENEW_S = 300.0  # before a token ends; they last about an hour
VERSION_PATHS = re.compile(r"(/openai(/v1|/deployments(/.*)?)?)?$")


class Credential(Protocol):
    """What azure-identity's credentials offer."""

    def get_token(self, *scopes: str) -> Any:
        """An object with `token` and `expires_on`, seconds since 1970."""
        ...


class TokenAuth:
    """Signs by a token that is asked for when it is needed, and again before it ends. Safe between threads."""

    def __init__(self, credential: Credential, who: str) -> None:
        self._credential = credential
        self._who = who
        self._token = ""
        self._ends = 0.0
        self._lock = threading.Lock()

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Auth.headers`."""
        del request
        with self._lock:
            if time.time() > self._ends - RENEW_S:
                self._renew()
            return {"Authorization": f"Bearer {self._token}"}

    def secrets(self) -> Sequence[str]:
        """See `Auth.secrets`."""
        return [self._token] if self._token else []

    def _renew(self) -> None:
        try:
            found = self._credential.get_token(SCOPE)
        except Exception as exc:
            said = " ".join(str(exc).split())[:300]
            raise AccessRefused(
                f"{self._who} got no token from Microsoft Entra ID: {said}", "Sign in, for example by: az login"
            ) from exc
        self._token, self._ends = found.token, float(found.expires_on)


def open_azure(uri: ModelURI, connection: Connection) -> OpenAIWire:
    """The wire of a deployment.

    The URI's name is the deployment's, which its owner chose; the option `model` says what model it is, for the identity.
    """
    uri.allow("dimensions", "model")
    kind = KINDS[connection.kind]
    dimensions = uri.number("dimensions", 0, minimum=1) or None
    model = uri.options.get("model") or uri.name
    version = connection.settings.get("api_version") or API_VERSION
    endpoint = VERSION_PATHS.sub("", connection.url)
    place = f"{endpoint}/openai/deployments/{quote(uri.name, safe='')}/embeddings"
    return OpenAIWire(
        identity=f"azure:{model}?dimensions={dimensions}" if dimensions else f"azure:{model}",
        url=f"{place}?api-version={quote(version, safe='')}",
        model=None,
        texts_max=kind.texts_max,
        tokens_max=kind.tokens_max,
        dimensions=dimensions,
    )


def open_auth(connection: Connection) -> Auth:
    """A key in `api-key`, or a token where the connection says `active_directory=true`.

    Raises:
        MissingExtra: azure-identity is not installed.
    """
    who = f'Connection "{connection.name}"'
    asked = connection.settings.get("active_directory", "false").lower()
    if asked not in ("true", "false"):
        raise UnknownName("value of active_directory", asked, ["true", "false"])
    if asked == "false":
        kind = KINDS[connection.kind]
        reference = connection.key_reference or f"env:{kind.key_env}"
        return KeyAuth(reference, who, kind.key_header, kind.key_prefix)
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as exc:
        raise MissingExtra(who, "azure") from exc
    return TokenAuth(DefaultAzureCredential(), who)
