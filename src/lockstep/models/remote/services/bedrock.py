"""Amazon Bedrock: `POST /model/ID/invoke` with a body of each model's own; signed with AWS credentials, or a bearer key.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html (Cohere)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from lockstep.errors import AccessRefused, ConfigError, MissingExtra, UnknownName
from lockstep.models.remote.answers import at, listed, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.keys import KeyAuth
from lockstep.models.remote.wire import Answer, Auth, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

BEARER = "AWS_BEARER_TOKEN_BEDROCK"
SIGNED = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
FAMILIES = {
    "titan-embed-text-v1": "titan-v1",
    "titan-embed-g1-text": "titan-v1",
    "titan-embed-text-v2": "titan-v2",
    "cohere.embed-english-v3": "cohere-v3",
    "cohere.embed-multilingual-v3": "cohere-v3",
    "cohere.embed-v4": "cohere-v4",
}
"""What is in a model's id -> the form of its requests."""
DIMENSIONS = {"titan-v1": (), "titan-v2": (256, 512, 1024), "cohere-v3": (), "cohere-v4": (256, 512, 1024, 1536)}
COHERE_TEXTS_MAX = 96


@dataclass(frozen=True, kw_only=True)
class TitanWire:
    """Speaks to Amazon's Titan, one text at a time."""

    identity: str
    url: str
    dimensions: int | None = None
    normalize: bool | None = None
    texts_max: int = 1
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        del kind
        (text,) = texts
        body = {"inputText": text, "dimensions": self.dimensions, "normalize": self.normalize}
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        del count
        found = read_json(body)
        return Answer(matrix([at(found, "embedding")]), tokens_at(found, "inputTextTokenCount"))


@dataclass(frozen=True, kw_only=True)
class CohereWire:
    """Speaks to Cohere's Embed."""

    identity: str
    url: str
    by_type: bool
    """Ask for floats by name, as version 4 does."""
    dimensions: int | None = None
    texts_max: int = COHERE_TEXTS_MAX
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        body = {
            "texts": list(texts),
            "input_type": "search_query" if kind == "query" else "search_document",
            "truncate": "NONE",
            "embedding_types": ["float"] if self.by_type else None,
            "output_dimension": self.dimensions,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        embeddings = at(read_json(body), "embeddings")
        if isinstance(embeddings, dict):
            embeddings = at(embeddings, "float")
        return Answer(matrix(listed(embeddings, count)))


class SignatureAuth:
    """Signs each request with AWS credentials (Signature Version 4). Safe between threads: botocore's own are."""

    def __init__(self, credentials: Any, region: str, who: str) -> None:
        self._credentials = credentials
        self._region = region
        self._who = who
        self._used: tuple[str, ...] = ()

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Auth.headers`."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            frozen = self._credentials.get_frozen_credentials()
        except BotoCoreError as exc:
            raise AccessRefused(f"{self._who} got no AWS credentials: {exc}", "Sign in again: aws sso login") from exc
        self._used = tuple(filter(None, (frozen.secret_key, frozen.token)))
        signed = AWSRequest(method=request.method, url=request.url, data=request.body)
        SigV4Auth(frozen, "bedrock", self._region).add_auth(signed)
        return {name: signed.headers[name] for name in SIGNED if name in signed.headers}

    def secrets(self) -> Sequence[str]:
        """See `Auth.secrets`."""
        return self._used


def open_bedrock(uri: ModelURI, connection: Connection) -> TitanWire | CohereWire:
    """The wire of a model by its id, such as `amazon.titan-embed-text-v2:0`.

    Options: `dimensions`; `normalize`, Titan 2 only; `family`, for ids that do not tell what model it is: one of titan-v1,
    titan-v2, cohere-v3, cohere-v4.
    """
    known = [name for part, name in FAMILIES.items() if part in uri.name]
    family = uri.choice("family", list(DIMENSIONS)) or (known[0] if known else "")
    if not family:
        raise UnknownName("embedding model of Bedrock that we speak to", uri.name, FAMILIES)
    own = {"dimensions": bool(DIMENSIONS[family]), "normalize": family == "titan-v2", "family": True}
    uri.allow(*(option for option, is_there in own.items() if is_there))
    dimensions = uri.number("dimensions", 0, minimum=1) or None
    if dimensions and dimensions not in DIMENSIONS[family]:
        allowed = ", ".join(map(str, DIMENSIONS[family]))
        raise ConfigError(f"{uri.name} has no {dimensions} dimensions.", f"Choose one of {allowed}.")
    base = connection.url if connection.base_url else f"https://bedrock-runtime.{region_of(connection)}.amazonaws.com"
    same = {option: value for option, value in uri.options.items() if option != "family"}
    identity = uri_identity(connection.kind, replace(uri, options=same))
    url = f"{base}/model/{quote(uri.name, safe='')}/invoke"
    if family.startswith("cohere"):
        return CohereWire(identity=identity, url=url, by_type=family == "cohere-v4", dimensions=dimensions)
    return TitanWire(identity=identity, url=url, dimensions=dimensions, normalize=uri.flag("normalize"))


def open_auth(connection: Connection) -> Auth:
    """A bearer key where the connection or AWS_BEARER_TOKEN_BEDROCK has one; AWS credentials, wherever AWS's own tools
    find them, otherwise.

    Raises:
        MissingExtra: botocore is not installed.
        ConfigError: there are no credentials, or no such profile.
    """
    who = f'Connection "{connection.name}"'
    if connection.api_key is not None or os.environ.get(BEARER):
        return KeyAuth(connection.api_key or f"env:{BEARER}", who)
    credentials = aws_session(connection).get_credentials()
    if credentials is None:
        raise ConfigError(f"{who} found no AWS credentials.", f"Run aws configure, or set {BEARER}.")
    return SignatureAuth(credentials, region_of(connection), who)


def region_of(connection: Connection) -> str:
    """The region that the connection, or the AWS configuration, names.

    Raises:
        ConfigError: neither does.
    """
    found = connection.settings.get("region") or os.environ.get("AWS_DEFAULT_REGION")
    if not found:
        try:
            found = aws_session(connection).get_config_variable("region")
        except MissingExtra:
            found = None
    if not found:
        raise ConfigError(f'Connection "{connection.name}" has no region.', "Give it one: region=us-east-1.")
    return str(found)


def aws_session(connection: Connection) -> Any:
    """What AWS's own configuration says, for the connection's profile.

    Raises:
        MissingExtra: botocore is not installed.
        ConfigError: there is no such profile.
    """
    try:
        from botocore.exceptions import ProfileNotFound
        from botocore.session import Session
    except ImportError as exc:
        raise MissingExtra(f'Connection "{connection.name}"', "bedrock") from exc
    session = Session(profile=connection.settings.get("profile"))
    try:
        session.get_scoped_config()
    except ProfileNotFound as exc:
        raise ConfigError(f'Connection "{connection.name}": {exc}.', "See: aws configure list-profiles") from exc
    return session
