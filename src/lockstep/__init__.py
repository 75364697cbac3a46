"""Lockstep keeps vector embeddings in step with your data.

    import lockstep
    with lockstep.open("shop.db") as db:
        db.collection("products").upsert([{"id": "p1", "name": "Parka", "text": "Warm and dry."}])
        db.add_task("shop-search", source="products", fields=["name", "text"])
        db.sync()
        hits = db.search("shop-search", "clothes for rain")

Importing it is quick: what needs time to load is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep import errors
from lockstep.errors import LockstepError, SearchStopped, StoreInterrupted

if TYPE_CHECKING:
    from lockstep.collection import Collection
    from lockstep.database import Database
    from lockstep.evaluate.results import Evaluation
    from lockstep.models import Registered
    from lockstep.models.base import Model, Provider
    from lockstep.models.remote.connection import Connection
    from lockstep.models.rerank.base import Reranker
    from lockstep.recipe import Task
    from lockstep.searching.request import SearchOptions
    from lockstep.searching.trace import Explanation
    from lockstep.syncing.estimate import Estimate
    from lockstep.syncing.fields import Functions
    from lockstep.syncing.preview import Preview
    from lockstep.types import Chunk, Chunking, ChunkMatch, DocumentError, Embedding, Hit, Hits, ModelInfo, Part

__version__ = "0.1.0"

__all__ = [
    "Chunk",
    "ChunkMatch",
    "Chunking",
    "Collection",
    "Connection",
    "Database",
    "DocumentError",
    "Embedding",
    "Estimate",
    "Evaluation",
    "Explanation",
    "Hit",
    "Hits",
    "LockstepError",
    "Model",
    "ModelInfo",
    "Part",
    "Preview",
    "Provider",
    "Reranker",
    "SearchOptions",
    "SearchStopped",
    "StoreInterrupted",
    "Task",
    "__version__",
    "errors",
    "model",
    "open",
    "reranker",
]

_HOMES = {
    "Chunk": "lockstep.types",
    "ChunkMatch": "lockstep.types",
    "Chunking": "lockstep.types",
    "Collection": "lockstep.collection",
    "Connection": "lockstep.models.remote.connection",
    "Database": "lockstep.database",
    "DocumentError": "lockstep.types",
    "Embedding": "lockstep.types",
    "Estimate": "lockstep.syncing.estimate",
    "Evaluation": "lockstep.evaluate.results",
    "Explanation": "lockstep.searching.trace",
    "Hit": "lockstep.types",
    "Hits": "lockstep.types",
    "Model": "lockstep.models.base",
    "ModelInfo": "lockstep.types",
    "Part": "lockstep.types",
    "Preview": "lockstep.syncing.preview",
    "Provider": "lockstep.models.base",
    "Reranker": "lockstep.models.rerank.base",
    "SearchOptions": "lockstep.searching.request",
    "Task": "lockstep.recipe",
}


def open(  # noqa: A001 - the name users expect
    location: str | Path,
    *,
    create: bool = True,
    models: Mapping[str, Registered] | None = None,
    functions: Functions | None = None,
) -> Database:
    """Open a database, and make it when it is not there; see `lockstep.Database`."""
    from lockstep.database import Database

    return Database(location, create=create, models=models, functions=functions)


def model(uri: str | None = None, *, connection: Connection | None = None, **options: str | int | bool) -> Model:
    """Open an embedding model without a database; see `lockstep.Model`.

    Args:
        uri: `provider:name?option=value`: `local:minilm`, `local:intfloat/e5-small-v2@revision`, `local:./folder`,
            `openai:text-embedding-3-small`; `local:minilm`, or what the environment says, when not given.
        connection: an account at a service; the URI begins with its name.
        **options: the same as behind the `?`: `dimensions=256`, `query_prompt="query: "`.
    """
    from lockstep.models import open_model
    from lockstep.models.remote import Links
    from lockstep.models.uri import with_options
    from lockstep.recipe import default_model

    links = Links(lambda name: connection if connection and connection.name == name else None)
    return open_model(with_options(uri or default_model(), options), links=links)


def reranker(
    uri: str, *, connection: Connection | None = None, download: bool = True, **options: str | int | bool
) -> Reranker:
    """Open a reranker without a database; see `lockstep.Reranker`.

    Args:
        uri: `provider:name?option=value`: `cohere:rerank-v3.5`, `local:cross-encoder/ms-marco-MiniLM-L6-v2`,
            `local:./folder`, `python:package.module:function`.
        connection: an account at a service; the URI begins with its name.
        download: fetch a local one that is not here.
        **options: the same as behind the `?`.
    """
    from lockstep.models.remote import Links
    from lockstep.models.rerank import open_reranker
    from lockstep.models.uri import with_options

    links = Links(lambda name: connection if connection and connection.name == name else None)
    return open_reranker(with_options(uri, options), links=links, download=download)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
