"""What a provider must offer, and `Model`: a provider whose answers are checked before anyone sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lockstep.errors import BadEmbedding, ConfigError, QueryError
from lockstep.types import Kind, ModelInfo, Tokenizer, Vectors


@runtime_checkable
class Provider(Protocol):
    """One open model. Safe to call from several threads at once."""

    @property
    def info(self) -> ModelInfo:
        """Facts about the model."""
        ...

    @property
    def identity(self) -> str:
        """Everything that changes vectors, and nothing else: two models with one identity give the same vectors."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts the model's tokens."""
        ...

    def embed(
        self, texts: Sequence[str], kind: Kind, tokens: Sequence[npt.NDArray[np.int32] | None] | None = None
    ) -> Vectors:
        """Embed `texts`, row i for text i.

        Args:
            texts: any number; the provider packs its own batches.
            kind: whether they are documents or queries.
            tokens: where given, `tokens[i]` holds text i's token ids (no special tokens), or None.

        Returns:
            float32, shape (len(texts), dimensions).
        """
        ...


class Model:
    """An embedding model, the same object for every provider.

    Vectors are checked on the way in: right count, right dimensions, finite, not zero.
    """

    def __init__(self, uri: str, provider: Provider) -> None:
        self.uri = uri
        self.provider = provider

    @property
    def info(self) -> ModelInfo:
        """Facts about the model: dimensions, longest input, prompts."""
        return self.provider.info

    @property
    def identity(self) -> str:
        """What the model's vectors depend on."""
        return self.provider.identity

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        return self.provider.tokenizer

    def embed_documents(
        self, texts: Sequence[str], *, tokens: Sequence[npt.NDArray[np.int32] | None] | None = None
    ) -> Vectors:
        """Embed texts that are to be found.

        Args:
            texts: the texts, any number.
            tokens: their token ids where a chunker counted them already.

        Returns:
            float32, shape (len(texts), dimensions), in the order given.

        Raises:
            ConfigError: `texts` is one string, or holds something that is no text.
            BadEmbedding: the provider's answer must not be used.
            ProviderUnavailable: it may work later.
            ProviderRejected: it will not.
        """
        return self._embed(texts, "document", tokens)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to search with; shapes and errors as `embed_documents`."""
        return self._embed(texts, "query", None)

    def similarity(self, a: Vectors, b: Vectors) -> npt.NDArray[np.float32]:
        """Cosine similarity of every row of `a` with every row of `b`: float32, shape (len(a), len(b))."""
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
            raise QueryError(
                f"Cannot compare vectors of shapes {a.shape} and {b.shape}.", "Give two matrices of one width."
            )
        left = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        right = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        product: npt.NDArray[np.float32] = left @ right.T
        return product

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, the model's special ones not counted."""
        return [len(tokens.ids) for tokens in self.tokenizer.encode(texts)]

    def _embed(
        self, texts: Sequence[str], kind: Kind, tokens: Sequence[npt.NDArray[np.int32] | None] | None
    ) -> Vectors:
        if isinstance(texts, str):
            raise ConfigError("Give a list of texts, not one text.", "Write [text].")
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise ConfigError(f"Text {at} is of type {type(text).__name__}, not a text.")
        if not texts:
            return np.zeros((0, self.info.dimensions), dtype=np.float32)
        return self._checked(self.provider.embed(texts, kind, tokens), len(texts))

    def _checked(self, vectors: Vectors, count: int) -> Vectors:
        expected = (count, self.info.dimensions)
        if vectors.shape != expected:
            raise BadEmbedding(
                f'Model "{self.uri}" returned vectors of shape {vectors.shape}, expected {expected}.', model=self.uri
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        # One pass over the data finds all three faults: NaN and infinity survive the sum of squares, zero is zero.
        squares = np.einsum("ij,ij->i", vectors, vectors)
        bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
        if len(bad):
            raise BadEmbedding(
                f'Model "{self.uri}" returned {len(bad)} vector(s) with NaN, infinity or zero length, '
                f"the first for text {bad[0]} of {count}.",
                rows=tuple(int(row) for row in bad),
                vectors=vectors,
                model=self.uri,
            )
        return vectors
