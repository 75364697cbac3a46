"""What a search is given, texts, vectors, an image, a relation or a document, and the vectors that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lockstep.chunking import chunk_texts
from lockstep.errors import DocumentUnreadable, QueryError, TextTooLong
from lockstep.extracting.values import clean
from lockstep.models.base import Model
from lockstep.recipe import Task
from lockstep.searching.request import Request
from lockstep.types import DocumentId, Text, Vectors
from lockstep.vectors.formats import read_vectors
from lockstep.vectors.similarity import normalise

QUERY_LENGTH_MAX = 1_000_000
VECTORS_MAX = 1000
WAYS = "a text, several texts, a vector, an image, a relation or a document's id"

EmbedTexts = Callable[[Sequence[str]], Vectors]
"""The vectors of texts that fit the model: float32, shape (len(texts), dimensions)."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is searched for; checked as far as that needs no model."""

    texts: tuple[str, ...] = ()
    """For their meaning, their words, or both."""
    vector: Any = None
    """One or several, in a form that docs/formats.md lists."""
    image: Any = None
    relation: tuple[str, str, str] | None = None
    """A, B, C: what is like A as B is to C."""
    like: DocumentId | None = None

    @classmethod
    def create(
        cls,
        request: Request,
        query: Any = None,
        *,
        vector: Any = None,
        image: Any = None,
        relation: Sequence[str] | None = None,
        like: DocumentId | None = None,
    ) -> Given:
        """From what a user gives.

        Raises:
            QueryError: nothing is given, too much, or something empty.
        """
        texts, is_vector = texts_of(query)
        if is_vector:
            if vector is not None:
                raise QueryError("There are two vectors to search for: query and vector.", "Leave one.")
            vector = query
        others = [
            name for name, value in (("image", image), ("relation", relation), ("like", like)) if value is not None
        ]
        if vector is not None:
            others.insert(0, "vector")
        needs_words = request.mode != "vector" or request.rerank is not None
        if needs_words and not texts:
            what = f'Mode "{request.mode}"' if request.mode != "vector" else "A reranker"
            raise QueryError(f"{what} looks at words, and the query has no text.", "Give a text as the query.")
        ways = [*(["a text"] if texts and not (needs_words and others) else []), *others]
        if not ways:
            raise QueryError(f"A search needs a query: {WAYS}.", "Give one of them.")
        if len(ways) > 1:
            raise QueryError(f"The query is {' and '.join(ways)}; a search is for one of them.", "Leave one.")
        if request.mode == "keyword" and others:
            raise QueryError(f'Mode "keyword" looks for words only, and {others[0]} was given.', "Leave it out.")
        return cls(texts, vector, image, None if relation is None else check_relation(relation), check_id(like))

    @property
    def text(self) -> str:
        """All texts as one, for a reranker."""
        return "\n".join(self.texts)

    @property
    def is_not_text(self) -> bool:
        """Whether its vectors come from something else than its texts."""
        return self.needs_model is False or self.image is not None or self.relation is not None

    @property
    def needs_model(self) -> bool:
        """Whether it has no vectors of its own."""
        return self.vector is None and self.like is None

    def vectors(self, dimensions: int) -> Vectors:
        """The vectors that were given: float32, shape (m, dimensions).

        Raises:
            QueryError: they are none, or too many.
        """
        if is_numbers(self.vector):
            return array_of(self.vector)
        try:
            found = read_vectors(self.vector, dimensions)
        except DocumentUnreadable as exc:
            raise QueryError(f"The query is no vector: {exc.message}", exc.hint) from exc
        check_count(len(found))
        return np.stack([each.decoded() for each in found])

    def embedded(self, task: Task, model: Model, embed: EmbedTexts) -> Vectors:
        """The vectors of texts, an image or a relation: float32, shape (m, dimensions).

        Args:
            task: says how a text is cut that is too long: then a document counts by the piece it is nearest to.
            model: the task's.
            embed: by that model.

        Raises:
            QueryError: a text cannot be cut so that it fits.
            ConfigError: the model takes no images.
        """
        if self.image is not None:
            return model.embed_images([self.image])
        if self.relation is None:
            return embed_fitting(task, model, self.texts, embed)
        a, b, c = (normalise(embed_fitting(task, model, [text], embed)[:1]) for text in self.relation)
        together: Vectors = a + b - c
        return together


def texts_of(query: Any) -> tuple[tuple[str, ...], bool]:
    """(The texts of a query, whether it is a vector instead)."""
    if query is None:
        return (), False
    if isinstance(query, str):
        return (check_text(query),), False
    if isinstance(query, Sequence) and len(query) and all(isinstance(text, str) for text in query):
        if len(query) > VECTORS_MAX:
            raise QueryError(
                f"A query of {len(query)} texts; at most {VECTORS_MAX} are one query.",
                "Search in several turns, or with search_many, which has an answer for each.",
            )
        return check_length(tuple(check_text(text) for text in query)), False
    return (), True


def is_numbers(given: Any) -> bool:
    """Whether it is an array, or a list of numbers or of lists of these; else it is for `read_vectors` to say what it is."""
    if isinstance(given, list | tuple):
        first = given[0] if given else 0.0
        return isinstance(first, Real) or (isinstance(first, list | tuple) and is_numbers(first))
    return hasattr(given, "__array__")


def array_of(given: Any) -> Vectors:
    """Numbers as vectors: float32, shape (m, dimensions).

    Raises:
        QueryError: they are no numbers, or there are none.
    """
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, OverflowError, RuntimeError) as exc:
        raise QueryError("The query is no vector, nor several of one length.", f"A query is {WAYS}.") from exc
    if found.size == 0:
        raise QueryError("The query is empty.", "Give a text, or a vector.")
    if found.dtype.kind not in "fiu":
        raise QueryError(f"The query is no vector: it holds {found.dtype.name}, not numbers.", f"A query is {WAYS}.")
    if found.ndim == 2:
        check_count(len(found))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
        return np.atleast_2d(found.astype(np.float32))


def check_count(vectors: int) -> None:
    """Refuse more vectors than one query may have.

    Raises:
        QueryError: says how many.
    """
    if vectors > VECTORS_MAX:
        raise QueryError(
            f"A query of {vectors} vectors; at most {VECTORS_MAX} are one query.", "Search in several turns."
        )


def check_id(like: Any) -> DocumentId | None:
    """A document's id as the database takes it.

    Raises:
        QueryError: no document can have it.
    """
    if isinstance(like, tuple | list) and not any(isinstance(part, tuple | list) for part in like):
        return tuple(check_id(part) for part in like)
    if isinstance(like, np.generic):
        like = like.item()
    is_whole = isinstance(like, int) and -(2**63) <= like < 2**63
    is_text = isinstance(like, str) and clean(like) == like
    if like is None or is_whole or is_text or isinstance(like, float | bytes):
        return like
    raise QueryError(f"like is {like!r}, which is no document's id.", "Give an id as hits have it.")


def check_relation(relation: Sequence[str]) -> tuple[str, str, str]:
    """Three texts.

    Raises:
        QueryError: they are not.
    """
    if (
        not isinstance(relation, list | tuple)
        or len(relation) != 3
        or not all(isinstance(text, str) for text in relation)
    ):
        raise QueryError(
            f"relation is {relation!r}.", 'Give three texts (A, B, C): what is like "man" as "queen" is to "woman".'
        )
    a, b, c = (check_text(text) for text in relation)
    return a, b, c


def check_text(text: str) -> str:
    """A query text, ready to embed.

    Raises:
        QueryError: it is empty or blank, or longer than any query.
    """
    if not text.strip():
        raise QueryError("The query is empty.", "Give a text to search for.")
    check_length((text,))
    return clean(text)


def check_length(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse more text than one query may have.

    Raises:
        QueryError: says how much.
    """
    characters = sum(map(len, texts))
    if characters > QUERY_LENGTH_MAX:
        raise QueryError(
            f"The query has {characters:,} characters; at most {QUERY_LENGTH_MAX:,} are one query.",
            "Search for the part of it that matters.",
        )
    return texts


def embed_fitting(task: Task, model: Model, texts: Sequence[str], embed: EmbedTexts) -> Vectors:
    """Embed texts, cut where they are too long for the model."""
    limit = model.text_tokens_max("query")
    while True:
        pieces = cut_queries(task, texts, limit, model.tokenizer)
        try:
            return embed(pieces)
        except TextTooLong:
            # Its tokens were only estimated; its provider counts more.
            longest = max(len(ids) for ids in model.tokenizer.ids(pieces))
            if model.tokenizer.exact or longest < 2:
                raise
            limit = longest // 2


def cut_queries(task: Task, texts: Sequence[str], limit: int, tokenizer: Any) -> list[str]:
    """The texts of a search as they are embedded: cut where they are too long, with the prefix of queries before each.

    Raises:
        QueryError: a text cannot be cut so that it fits.
    """
    prefix = task.query_chunking.context_prefix
    whole = [Text("query", text, prefix=prefix) for text in texts]
    pieces = []
    for chunks in chunk_texts(whole, task.query_chunking, limit, tokenizer):
        if isinstance(chunks, DocumentUnreadable):
            raise QueryError(f"The query does not fit: {chunks.message}", chunks.hint)
        pieces += [chunk.input for chunk in chunks]
    return pieces
