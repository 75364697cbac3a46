"""Google's Gemini API: `POST …/models/{model}:batchEmbedContents`, with a key of AI Studio.

`gemini-embedding-001` gives vectors of length 1 only at its full 3,072 dimensions. Search normalises them anyway.
Answers do not say how many tokens were counted, and no setting keeps a too long text from being cut.

Source: https://ai.google.dev/api/embeddings and https://ai.google.dev/gemini-api/docs/embeddings
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from lockstep.errors import UnknownName
from lockstep.models.remote.answers import at, in_order, matrix, read_json
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.keys import KeyAuth, NoAuth
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Auth, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

API_VERSIONS = ("v1beta", "v1")
OTHER_KEY = "GOOGLE_API_KEY"
"""Where Google's own packages look for a key, too."""
DOCUMENT, QUERY = "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"
# What a task is called in the words put before a text, for models without a field for it.
PROMPTS = {
    QUERY: "search result",
    "QUESTION_ANSWERING": "question answering",
    "FACT_VERIFICATION": "fact checking",
    "CODE_RETRIEVAL_QUERY": "code retrieval",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "SEMANTIC_SIMILARITY": "sentence similarity",
}
TASKS = (DOCUMENT, *PROMPTS)
SYMMETRIC = ("CLASSIFICATION", "CLUSTERING", "SEMANTIC_SIMILARITY")
"""Tasks that documents have as well as queries; for the others, documents are for retrieval."""
BY_FIELD = ("gemini-embedding-001", "gemini-embedding-exp")
"""Gemini models that are told the task in a field; those that came later in the text."""


@dataclass(frozen=True, kw_only=True)
class GoogleWire:
    """Speaks the Gemini API's protocol."""

    identity: str
    url: str
    """Up to the model's name, included."""
    model: str
    texts_max: int
    tokens_max: int | None = None
    dimensions: int | None = None
    task: str | None = None
    """One of `TASKS`; None for the one that each kind has."""

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        task = task_of(self.task, kind)
        settings = {
            "taskType": None if prompted(self.model) else task,
            "outputDimensionality": self.dimensions,
        }
        fields = {name: value for name, value in settings.items() if value is not None}
        requests = [
            {"model": f"models/{self.model}", "content": {"parts": [{"text": each}]}, **fields}
            for each in contents(texts, self.model, task)
        ]
        return json_request(f"{self.url}:batchEmbedContents", {"requests": requests})

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`: embeddings come in the order of the requests."""
        items = in_order(at(read_json(body), "embeddings"), count)
        return Answer(matrix([at(item, "values") for item in items]))


def task_of(task: str | None, kind: Kind) -> str:
    """What to tell the model that a text is for."""
    if kind == "document" and task not in SYMMETRIC:
        return DOCUMENT
    return task or QUERY


def prompted(model: str) -> bool:
    """Whether the model is told the task in the text: it takes no notice of the field."""
    return model.startswith("gemini-") and not model.startswith(BY_FIELD)


def contents(texts: Sequence[str], model: str, task: str) -> list[str]:
    """The texts as the model is to read them."""
    if not prompted(model):
        return list(texts)
    before = "title: none | text: " if task == DOCUMENT else f"task: {PROMPTS[task]} | query: "
    return [before + text for text in texts]


def open_google(uri: ModelURI, connection: Connection) -> GoogleWire:
    """The wire for a model of the Gemini API.

    Raises:
        UnknownName: an option is not known, or the version of the API.
    """
    kind = KINDS["google"]
    uri.allow("dimensions", *kind.options)
    version = connection.settings.get("api_version", API_VERSIONS[0])
    if version not in API_VERSIONS:
        raise UnknownName("api_version of the Gemini API", version, API_VERSIONS)
    model = uri.name.removeprefix("models/")
    return GoogleWire(
        identity=uri_identity(connection.kind, replace(uri, name=model)),
        url=f"{connection.url.removesuffix(f'/{version}')}/{version}/models/{quote(model, safe='')}",
        model=model,
        texts_max=kind.texts_max,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        task=uri.choice("task_type", TASKS),
    )


def open_auth(connection: Connection) -> Auth:
    """Signs with the key from `GEMINI_API_KEY`, or from `GOOGLE_API_KEY` where only that is there."""
    kind = KINDS["google"]
    reference = connection.key_reference
    if reference is None:
        return NoAuth()
    if reference == f"env:{kind.key_env}" and not os.environ.get(str(kind.key_env)) and os.environ.get(OTHER_KEY):
        reference = f"env:{OTHER_KEY}"
    return KeyAuth(reference, f'Connection "{connection.name}"', kind.key_header, kind.key_prefix)
