"""What a provider must offer, and `Model`: a provider whose answers are checked before anyone sees them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lockstep.errors import (
    BadEmbedding,
    ConfigError,
    ImageUnreadable,
    LockstepError,
    QueryError,
    TextsCut,
    TextTooLong,
)
from lockstep.models.images import ImageSource, read_image
from lockstep.models.outcome import Embedded
from lockstep.types import Chunk, Ids, Kind, ModelInfo, Tokenizer, Truncate, Vectors

IMAGES_PER_CALL = 64  # read and in memory at a time
JOIN_TOKENS = 2
"""A prompt and a text that follows it may have so many tokens more than both alone."""


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

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """Embed `texts`, row i for text i.

        Args:
            texts: any number, their prompt before them; the provider packs its own batches.
            kind: whether they are documents or queries.
            tokens: where given, `tokens[i]` holds text i's token ids (no special tokens), or None. It may hold fewer
                than the text has; then it counts.

        Returns:
            float32, shape (len(texts), dimensions).
        """
        ...


@runtime_checkable
class JobProvider(Provider, Protocol):
    """A provider that looks after its own requests: packs them, keeps several in flight, retries, isolates errors."""

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind,
        tokens: Sequence[Ids | None] | None = None,
        wait: Callable[[float], bool] | None = None,
        contexts: Sequence[bytes | None] | None = None,
    ) -> Embedded:
        """Embed all that can be embedded.

        Args:
            texts: any number, their prompt before them.
            kind: whether they are documents or queries.
            tokens: as in `embed`.
            wait: waits so many seconds, and returns True when the work should stop; called from several threads.
            contexts: for a contextual model; texts that follow each other with one context are chunks of one text, and
                are sent together.

        Returns:
            Vectors that were checked, errors by position, what interrupted it, and what it took.
        """
        ...


@runtime_checkable
class ImageProvider(Protocol):
    """A provider that embeds images as well; "image" is among its `info.modalities`."""

    def embed_images(self, images: Sequence[bytes], first: int = 0) -> Vectors:
        """Embed encoded images (PNG, JPEG, WebP, GIF …): float32, shape (len(images), dimensions).

        Args:
            images: the files' bytes.
            first: the number of the first, for errors.

        Raises:
            ImageUnreadable: one of them cannot be decoded.
        """
        ...


@runtime_checkable
class ImageJobProvider(ImageProvider, Protocol):
    """A provider that looks after its own requests for images, too."""

    def embed_images_each(self, images: Sequence[bytes], wait: Callable[[float], bool] | None = None) -> Embedded:
        """Embed all images that can be embedded; else as `JobProvider.embed_each`."""
        ...


class Model:
    """An embedding model, the same object for every provider. Safe to use from several threads at once.

    Vectors are checked on the way in: right count, right dimensions, finite, not zero.
    """

    def __init__(self, uri: str, provider: Provider, prompts: Prompts | None = None) -> None:
        self.uri = uri
        self.provider = provider
        self._prompts = prompts or Prompts()

    @property
    def info(self) -> ModelInfo:
        """Facts about the model: dimensions, longest input, prompts."""
        info = self.provider.info
        document, query = self._prompts.over(info)
        if (document, query) == (info.document_prompt, info.query_prompt):
            return info
        return replace(info, document_prompt=document, query_prompt=query)

    @property
    def identity(self) -> str:
        """What the model's vectors depend on."""
        prompts = self._prompts.over(self.provider.info)
        return f"{self.provider.identity} {prompts!r}" if any(prompts) else self.provider.identity

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer, or one that estimates where the model is elsewhere."""
        return self.provider.tokenizer

    def text_tokens_max(self, kind: Kind = "document") -> int:
        """Most tokens that a text may have: what the model takes, less its special tokens and its prompt."""
        info = self.info
        prompt = prompt_of(info, kind)
        before = self.count_tokens([prompt])[0] + JOIN_TOKENS if prompt else 0
        return info.max_tokens - info.special_tokens - before

    def embed_documents(
        self, texts: Sequence[str], *, truncate: Truncate = "error", tokens: Sequence[Ids | None] | None = None
    ) -> Vectors:
        """Embed texts that are to be found.

        The model's document prompt is put before each.

        Args:
            texts: the texts, any number.
            truncate: what becomes of a text that is longer than the model takes: "error", or "end" to cut it off
                there and warn (TextsCut) of how many tokens were lost. Where the model is elsewhere and its tokenizer
                is not here, its provider decides.
            tokens: the texts' token ids without special ones (int32, shape (n,) each), where they were counted
                already; no more than the model takes.

        Returns:
            float32, shape (len(texts), dimensions), in the order given.

        Raises:
            ConfigError: `texts` is one string, or holds something that is no text.
            TextTooLong: a text is longer than the model takes.
            BadEmbedding: the provider's answer must not be used.
            ProviderUnavailable: it may work later.
            ProviderRejected: it will not.
        """
        return self._embed(texts, "document", truncate, tokens)

    def embed_each(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        wait: Callable[[float], bool] | None = None,
        tokens: Sequence[Ids | None] | None = None,
        contexts: Sequence[bytes | None] | None = None,
    ) -> Embedded:
        """Embed all texts that can be embedded, by a provider that looks after its own requests (`JobProvider`)."""
        assert isinstance(self.provider, JobProvider)
        texts = checked_texts(texts)
        if not texts:
            return Embedded.of([])
        if prompt := prompt_of(self.info, kind):
            texts, tokens = [prompt + text for text in texts], None
        return self.provider.embed_each(texts, kind, tokens, wait, contexts)

    def embed_images_each(
        self, images: Sequence[ImageSource], *, wait: Callable[[float], bool] | None = None
    ) -> Embedded:
        """Embed all images that can be embedded, by a provider that looks after its own requests (`ImageJobProvider`)."""
        assert isinstance(self.provider, ImageJobProvider)
        contents: dict[int, bytes] = {}
        errors: dict[int, LockstepError] = {}
        for at, image in enumerate(images):
            try:
                contents[at] = read_image(image, f"Image {at}")
            except ImageUnreadable as exc:
                errors[at] = exc
        if not contents:
            return Embedded.of([], errors)
        found = self.provider.embed_images_each(list(contents.values()), wait)
        places = np.fromiter(contents, np.intp)
        errors |= {int(places[row]): error for row, error in found.errors.items()}
        return replace(found, rows=places[found.rows], errors=errors)

    def embed_chunks(self, chunks: Sequence[Chunk]) -> Vectors:
        """Embed what the chunker made, all of it texts or all of it images; else as `embed_documents`."""
        images = [chunk.image for chunk in chunks if chunk.image is not None]
        if images:
            return self.embed_images(images)
        return self.embed_documents([chunk.input for chunk in chunks], tokens=[chunk.tokens for chunk in chunks])

    def embed_queries(self, texts: Sequence[str], *, truncate: Truncate = "error") -> Vectors:
        """Embed texts to search with, the model's query prompt before each; else as `embed_documents`."""
        return self._embed(texts, "query", truncate, None)

    def embed_images(self, images: Iterable[ImageSource]) -> Vectors:
        """Embed images into the space of the texts; they are read a few at a time.

        Args:
            images: each the path of a file, the bytes of one, or a data URI.

        Returns:
            float32, shape (number of images, dimensions), in the order given.

        Raises:
            ConfigError: the model takes no images.
            ImageUnreadable: something given is no image.
            BadEmbedding, ProviderUnavailable, ProviderRejected: as in `embed_documents`.
        """
        if isinstance(images, str | bytes):
            raise ConfigError("Give a list of images, not one image.", "Write [image].")
        if not isinstance(self.provider, ImageProvider) or "image" not in self.info.modalities:
            raise ConfigError(
                f'Model "{self.uri}" takes texts only, no images.', "CLIP models take both; see: lockstep models"
            )
        parts = [np.zeros((0, self.info.dimensions), dtype=np.float32)]
        numbered = enumerate(images)
        while group := [read_image(image, f"Image {at}") for at, image in islice(numbered, IMAGES_PER_CALL)]:
            first = sum(map(len, parts))
            expected = (len(group), self.info.dimensions)
            found = self.provider.embed_images(group, first)
            parts.append(checked_vectors(found, expected, self.uri, what="image", first=first))
        return np.concatenate(parts)

    def similarity(self, a: Vectors, b: Vectors) -> npt.NDArray[np.float32]:
        """Cosine similarity of every row of `a` with every row of `b`: float32, shape (len(a), len(b)).

        Raises:
            QueryError: they are not two matrices of one width.
        """
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
            raise QueryError(
                f"Cannot compare vectors of shapes {a.shape} and {b.shape}.", "Give two matrices of one width."
            )
        left = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        right = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        product: npt.NDArray[np.float32] = left @ right.T
        return product

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, the model's special ones and its prompts not counted.

        Exact where the model's own tokenizer is here (`model.tokenizer.exact`).
        """
        return [len(ids) for ids in self.tokenizer.ids(checked_texts(texts))]

    def _embed(
        self, texts: Sequence[str], kind: Kind, truncate: Truncate, tokens: Sequence[Ids | None] | None
    ) -> Vectors:
        if truncate not in ("error", "end"):
            raise ConfigError(f"truncate is {truncate!r}.", 'Give "error" or "end".')
        texts = checked_texts(texts)
        if not texts:
            return np.zeros((0, self.info.dimensions), dtype=np.float32)
        prompt = prompt_of(self.info, kind)
        if prompt:
            # The tokens of a text need not be the same behind a prompt.
            texts, tokens = [prompt + text for text in texts], None
        if self.tokenizer.exact:
            tokens = self._fitting(texts, tokens, prompt, truncate)
        return checked_vectors(self.provider.embed(texts, kind, tokens), (len(texts), self.info.dimensions), self.uri)

    def _fitting(
        self, texts: Sequence[str], tokens: Sequence[Ids | None] | None, prompt: str, truncate: Truncate
    ) -> list[Ids | None]:
        """Each text's token ids, as many as the model takes; None for texts that are surely short enough.

        Raises:
            TextTooLong: a text has more of them, and its end must not be cut off.
        """
        limit = self.info.max_tokens - self.info.special_tokens
        fitting: list[Ids | None] = list(tokens) if tokens is not None else [None] * len(texts)
        unknown = [at for at, ids in enumerate(fitting) if ids is None and self.tokenizer.tokens_max(texts[at]) > limit]
        cut: dict[int, int] = {}
        for at, ids in zip(unknown, self.tokenizer.ids([texts[at] for at in unknown]), strict=True):
            fitting[at] = ids[:limit]
            if len(ids) > limit:
                cut[at] = len(ids) - limit
        if cut and truncate == "error":
            before = len(self.tokenizer.ids([prompt])[0])
            at, over = next(iter(cut.items()))
            raise TextTooLong.counted(at, limit + over - before, limit - before, self.uri)
        if cut:
            warnings.warn(TextsCut(cut, self.uri), stacklevel=4)
        return fitting


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a user wants before texts; None leaves it to the model."""

    document: str | None = None
    query: str | None = None

    @classmethod
    def pop(cls, options: Mapping[str, str]) -> tuple[Prompts, dict[str, str]]:
        """The prompts among a URI's options, and the other options."""
        rest = dict(options)
        return cls(rest.pop("document_prompt", None), rest.pop("query_prompt", None)), rest

    def over(self, info: ModelInfo) -> tuple[str, str]:
        """The prompts for documents and queries of a model that has its own."""
        document = info.document_prompt if self.document is None else self.document
        query = info.query_prompt if self.query is None else self.query
        return document, query


def prompt_of(info: ModelInfo, kind: Kind) -> str:
    """What is put before a text of this kind."""
    return info.query_prompt if kind == "query" else info.document_prompt


def checked_texts(texts: Sequence[str]) -> Sequence[str]:
    """The texts, unless something among them is none.

    Raises:
        ConfigError: says which.
    """
    if isinstance(texts, str):
        raise ConfigError("Give a list of texts, not one text.", "Write [text].")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"Text {at} is of type {type(text).__name__}, not a text.")
    return texts


def checked_vectors(
    vectors: Vectors, expected: tuple[int, int], uri: str, *, what: str = "text", first: int = 0
) -> Vectors:
    """The vectors as float32 in C order, unless they must not be used.

    Args:
        vectors: as a provider gave them.
        expected: (number of texts, dimensions).
        uri: of the model, for messages.
        what: each vector is of, for messages.
        first: the number of the first of these.

    Raises:
        BadEmbedding: the shape is another, or a vector has NaN, infinity or zero length.
    """
    if vectors.shape != expected:
        raise BadEmbedding(f'Model "{uri}" returned vectors of shape {vectors.shape}, expected {expected}.', model=uri)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # One pass over the data finds all three faults: NaN and infinity survive the sum of squares, zero is zero.
    squares = np.einsum("ij,ij->i", vectors, vectors)
    bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
    if len(bad):
        raise BadEmbedding(
            f'Model "{uri}" returned {len(bad)} vector(s) with NaN, infinity or zero length, '
            f"the first for {what} {first + bad[0]} of {first + expected[0]}.",
            rows=tuple(int(row) for row in bad),
            vectors=vectors,
            model=uri,
        )
    return vectors
