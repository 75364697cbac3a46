"""A reranker that is a Python function of the user's: `python:package.module:function`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lockstep.errors import BadEmbedding, ConfigError
from lockstep.models.python_function import called, refuse_asynchronous
from lockstep.models.rerank.base import Reranked, RerankerInfo, Scores
from lockstep.models.uri import ModelURI
from lockstep.named import find
from lockstep.types import Usage

HOW = "Write python:package.module:function."

RerankFunction = Callable[[str, list[str]], Any]
"""Takes a query and texts, and returns a score for each text."""


class FunctionReranker:
    """A scorer around a user's function. Safe to call from several threads: the function itself is not, by default.

    Args:
        function: takes a query and a list of texts and returns a score for each text: a list, an array, or anything that
            becomes one. Or an object with `rerank(query, texts)`.
        name: for messages, such as `package.module:function`.
        threads: how many calls may run at the same time.

    Raises:
        ConfigError: what was given cannot be called with a query and texts, or is asynchronous.
    """

    def __init__(self, function: object, name: str, *, threads: int = 1) -> None:
        self._function = shape(function, name)
        self._name = name
        self._turn = threading.Semaphore(threads)
        # Where a function computes is not known, so it counts as remote, and its price is not known either.
        self.info = RerankerInfo(
            uri=f"python:{name}", local=False, price_per_million_tokens=None, description="A Python function."
        )

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """See `Scorer.score`.

        Raises:
            ProviderRejected: the function raised something; a ProviderError of its own passes as it is.
            BadEmbedding: it returned something else than a number for each text.
            ConfigError: it is asynchronous.
        """
        del timeout_s
        with self._turn:
            found = called(self._name, self._function, query, list(texts))
        return Reranked(self._scores(found), Usage(requests=1, texts=len(texts)))

    def _scores(self, found: object) -> Scores:
        try:
            return np.asarray(found, dtype=np.float32)
        except Exception as exc:
            raise BadEmbedding(
                f'The function "{self._name}" returned a {type(found).__name__} that is no list of numbers.',
                "It must return a score for each text, in their order.",
                model=self._name,
            ) from exc


def open_function(uri: ModelURI, *, download: bool = False) -> FunctionReranker:
    """The reranker that a URI `python:package.module:function?threads=…` names.

    Raises:
        ConfigError: there is no such module or function, or it cannot be used.
    """
    del download
    uri.allow("threads")
    return FunctionReranker(find(uri.name, HOW), uri.name, threads=uri.number("threads", 1, minimum=1))


def shape(function: object, name: str) -> RerankFunction:
    """What is to be called, of whatever a user gave.

    Raises:
        ConfigError: it cannot be called with a query and texts, or is asynchronous.
    """
    if inspect.isclass(function):
        raise ConfigError(f'"{name}" is a class.', "Give an object of it, or a function.")
    found = getattr(function, "rerank", function)
    if not callable(found):
        raise ConfigError(
            f'"{name}" is a {type(function).__name__}, which cannot be called with a query and texts.',
            "Give a function, or an object with rerank.",
        )
    refuse_asynchronous(name, found, getattr(found, "__call__", None))  # noqa: B004 - an object's own may be asynchronous
    if not takes(found, 2):
        raise ConfigError(
            f'"{name}" cannot be called with a query and texts.',
            "A reranker takes (query, texts). What takes texts alone embeds them, and is a model.",
        )
    return found


def is_reranker(function: object) -> bool:
    """Whether a function wants a query and texts, rather than texts alone."""
    return callable(function) and not inspect.isclass(function) and takes(function, 2) and not takes(function, 1)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments; True where it does not say."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True  # built in, and silent about what it takes
    return True
