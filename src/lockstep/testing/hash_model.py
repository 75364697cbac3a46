"""`fake:hash`, a model that embeds by hashing; what it can do is told in the package's docstring."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lockstep.errors import ProviderRejected, ProviderUnavailable, UnknownName
from lockstep.models.tokens import WordTokenizer
from lockstep.models.uri import ModelURI
from lockstep.types import Kind, ModelInfo, Tokenizer, Vectors

OPTIONS = ("dimensions", "max_tokens", "delay_ms", "fail_every", "nan_every", "reject", "log")


@dataclass(kw_only=True)
class HashModel:
    """A provider whose vectors come from a hash of the text."""

    dimensions: int = 384
    max_tokens: int = 256
    delay_s: float = 0.0
    fail_every: int = 0
    """Every so many calls raise ProviderUnavailable; 0 never."""
    nan_every: int = 0
    """Every so many texts get NaN; 0 never."""
    reject: str = ""
    """Texts that contain it are refused; empty refuses none."""
    log: str = ""
    """A file that gets the hash of every embedded text as a line; empty for none."""
    texts_embedded: int = field(default=0, init=False)
    """How many texts were embedded by this object."""

    def __post_init__(self) -> None:
        self._calls = itertools.count(1)
        self._texts = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, uri: ModelURI, *, download: bool = True) -> HashModel:
        """The model that a URI `fake:hash?…` describes."""
        del download
        if uri.name != "hash":
            raise UnknownName("fake model", uri.name, ["hash"])
        uri.allow(*OPTIONS)
        return cls(
            dimensions=uri.number("dimensions", 384, minimum=1),
            max_tokens=uri.number("max_tokens", 256, minimum=1),
            delay_s=uri.number("delay_ms", 0) / 1000,
            fail_every=uri.number("fail_every", 0),
            nan_every=uri.number("nan_every", 0),
            reject=uri.options.get("reject", ""),
            log=uri.options.get("log", ""),
        )

    @property
    def info(self) -> ModelInfo:
        """Facts about the model; it counts as remote, so that tests exercise what is done to spare a provider."""
        return ModelInfo(
            uri=f"fake:hash?dimensions={self.dimensions}",
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
            local=False,
            description="Deterministic vectors from a hash of the text; for tests and benchmarks.",
        )

    @property
    def identity(self) -> str:
        """Faults and delays do not change vectors, so they are no part of it."""
        return f"fake:hash:{self.dimensions}"

    @property
    def tokenizer(self) -> Tokenizer:
        """Words."""
        return WordTokenizer()

    def embed(
        self, texts: Sequence[str], kind: Kind, tokens: Sequence[npt.NDArray[np.int32] | None] | None = None
    ) -> Vectors:
        """See `Provider.embed`."""
        del kind, tokens
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.fail_every and next(self._calls) % self.fail_every == 0:
            raise ProviderUnavailable("The fake model fails on command.", "Try again.", model="fake:hash")
        if self.reject and any(self.reject in text for text in texts):
            raise ProviderRejected(f'The fake model refuses a text with "{self.reject}" in it.', model="fake:hash")
        vectors = hash_vectors(texts, self.dimensions)
        if self.nan_every:
            vectors[[next(self._texts) % self.nan_every == 0 for _ in texts]] = np.nan
        with self._lock:
            self.texts_embedded += len(texts)
        if self.log:
            self._write_log(texts)
        return vectors

    def _write_log(self, texts: Sequence[str]) -> None:
        lines = "".join(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() + "\n" for text in texts)
        # One write in append mode: lines of several processes do not mix, and a kill leaves none behind.
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)


def hash_vectors(texts: Sequence[str], dimensions: int) -> Vectors:
    """Deterministic unit vectors: float32, shape (len(texts), dimensions)."""
    size = max(dimensions, 16)
    raw = b"".join(hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(size) for text in texts)
    codes = np.frombuffer(raw, dtype=np.int8).reshape(len(texts), size)[:, :dimensions]
    vectors = codes.astype(np.float32) + np.float32(0.5)  # never zero
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors
