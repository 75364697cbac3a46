"""A model that is a Python function of the user's: `python:package.module:function`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import numpy as np

from lockstep.errors import BadEmbedding, ConfigError, ProviderError, ProviderRejected
from lockstep.models.tokens import WordTokenizer
from lockstep.models.uri import ModelURI
from lockstep.named import find
from lockstep.types import Ids, Kind, ModelInfo, Tokenizer, Vectors

PROBE = "hello"
MAX_TOKENS = 512
"""Of a function that nothing is said of; most models behind one take as many."""
SHOWN_MAX = 300  # characters of what a function's exception says
HOW = "Write python:package.module:function."

Function = Callable[[list[str]], Any]


class FunctionModel:
    """A provider around a user's function. Safe to call from several threads: the function itself is not, by default.

    Args:
        function: takes a list of texts and returns a vector for each: an array, or anything that becomes one. Or an object
            with `embed(texts)`, or with `embed_documents(texts)` and `embed_query(text)`.
        name: for messages and the identity, such as `package.module:function`.
        dimensions: of the vectors; found by embedding a word when not given.
        max_tokens: longest text it takes.
        query_function: embeds queries instead; the same shapes.
        version: what to change when the function's vectors change, so that what is stored is embedded anew.
        threads: how many calls may run at the same time.
        query_name: of the query function, for the identity.

    Raises:
        ConfigError: what was given cannot be called with texts, or is asynchronous.
    """

    def __init__(
        self,
        function: object,
        name: str,
        dimensions: int | None = None,
        max_tokens: int = MAX_TOKENS,
        query_function: object = None,
        version: str = "",
        *,
        threads: int = 1,
        query_name: str = "",
    ) -> None:
        documents, queries = shapes(function, name)
        if query_function is not None:
            query_name = query_name or str(getattr(query_function, "__qualname__", type(query_function).__qualname__))
            queries = shapes(query_function, query_name)[1]
        self._functions: dict[Kind, Function] = {"document": documents, "query": queries}
        self._name = name
        self._dimensions = dimensions
        self._max_tokens = max_tokens
        self._options = {"query": query_name, "version": version}
        self._turn = threading.Semaphore(threads)

    @property
    def info(self) -> ModelInfo:
        """Facts about the model; where a function computes is not known, so it counts as remote and is spared."""
        if self._dimensions is None:
            self._dimensions = self.embed([PROBE], "document").shape[1]
        return ModelInfo(
            uri=f"python:{self._name}",
            dimensions=self._dimensions,
            max_tokens=self._max_tokens,
            kinds_differ=self._functions["document"] is not self._functions["query"],
            price_per_million_tokens=None,
            local=False,
            normalised=False,
            description="A Python function.",
        )

    @property
    def identity(self) -> str:
        """The functions' names and the version: what is inside them cannot be seen."""
        options = urlencode({option: value for option, value in self._options.items() if value})
        return f"python:{self._name}?{options}" if options else f"python:{self._name}"

    @property
    def tokenizer(self) -> Tokenizer:
        """One that estimates."""
        return WordTokenizer()

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """See `Provider.embed`.

        Raises:
            ProviderRejected: the function raised something; a ProviderError of its own passes as it is.
            BadEmbedding: it returned something else than a vector for each text.
            ConfigError: it is asynchronous.
        """
        del tokens
        with self._turn:
            found = called(self._name, self._functions[kind], list(texts))
        return self._vectors(found, len(texts))

    def _vectors(self, found: object, count: int) -> Vectors:
        """What a function returned as float32, shape (count, dimensions)."""
        try:
            vectors = np.asarray(found, dtype=np.float32)
        except Exception as exc:
            raise BadEmbedding(
                f'The function "{self._name}" returned a {type(found).__name__} that is no matrix of numbers.',
                "It must return a vector for each text, all of one width.",
                model=self._name,
            ) from exc
        if vectors.ndim != 2 or len(vectors) != count:
            raise BadEmbedding(
                f'The function "{self._name}" returned an array of shape {vectors.shape} for {count} text(s).',
                "It must return a vector for each text, in their order.",
                model=self._name,
            )
        return vectors


def open_function(uri: ModelURI, *, download: bool = True) -> FunctionModel:
    """The model that a URI `python:package.module:function?dimensions=…&version=…` names.

    Options: `dimensions`, `max_tokens`, `version`; `query`, another function of the module, or `module:function`, for
    queries; `threads`, how many calls may run at the same time, 1 by default.

    Raises:
        ConfigError: there is no such module or function, or it cannot be used.
    """
    del download
    uri.allow("dimensions", "max_tokens", "version", "query", "threads")
    function = find(uri.name, HOW)
    query = uri.options.get("query", "")
    query_place = query if ":" in query else f"{uri.name.partition(':')[0]}:{query}"
    return FunctionModel(
        function,
        uri.name,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        max_tokens=uri.number("max_tokens", MAX_TOKENS, minimum=1),
        query_function=find(query_place, HOW) if query else None,
        version=uri.options.get("version", ""),
        threads=uri.number("threads", 1, minimum=1),
        query_name=query,
    )


def shapes(function: object, name: str) -> tuple[Function, Function]:
    """The functions that embed documents and queries of whatever a user gave.

    Raises:
        ConfigError: it has none of the shapes, or is asynchronous.
    """
    if inspect.isclass(function):
        raise ConfigError(f'"{name}" is a class.', "Give an object of it, or a function.")
    many, one = getattr(function, "embed_documents", None), getattr(function, "embed_query", None)
    if callable(many):
        refuse_asynchronous(name, many, one)
        return many, (lambda texts: [one(text) for text in texts]) if callable(one) else many
    embed = getattr(function, "embed", function)
    if not callable(embed):
        raise ConfigError(
            f'"{name}" is a {type(function).__name__}, which cannot be called with texts.',
            "Give a function, or an object with embed, or with embed_documents and embed_query.",
        )
    refuse_asynchronous(name, embed, getattr(embed, "__call__", None))  # noqa: B004 - an object's own may be asynchronous
    return embed, embed


def refuse_asynchronous(name: str, *functions: object) -> None:
    """Refuse functions that return before they are done."""
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in functions):
        raise asynchronous(name)


def asynchronous(name: str) -> ConfigError:
    """The error for a function that would have to be awaited."""
    return ConfigError(f'"{name}" is asynchronous.', "Give a plain function, such as one that calls asyncio.run.")


def called(name: str, function: Callable[..., object], *arguments: object) -> object:
    """What a function of the user's returned.

    Raises:
        ProviderRejected: it raised something; a ProviderError of its own passes as it is.
        ConfigError: it is asynchronous.
    """
    try:
        found = function(*arguments)
        if inspect.isgenerator(found):
            found = list(found)
    except ProviderError:
        raise
    except Exception as exc:
        said = " ".join(str(exc).split())[:SHOWN_MAX]
        raise ProviderRejected(f'The function "{name}" raised {type(exc).__name__}: {said}.', model=name) from exc
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise asynchronous(name)
    return found
