"""The values that the stages hand to each other: frozen, without behaviour, shared by everyone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lockstep.errors import ConfigError, UnknownName

Ids = npt.NDArray[np.int32]
"""Token ids of one text: int32, shape (n,)."""

Vectors = npt.NDArray[np.float32]
"""float32, shape (n, dimensions), C order."""

Kind = Literal["document", "query"]
"""Models may encode the two differently (prompts, input types)."""

Truncate = Literal["error", "end"]
"""What becomes of a text that is longer than the model takes: refused, or its end is cut off."""

Form = Literal["float32", "float16", "int8", "binary"]
"""What a stored vector is kept in; `lockstep.vectors.quantization` says how."""

FORMS: tuple[Form, ...] = get_args(Form)

Metric = Literal["cosine", "dot", "euclidean"]
"""How two vectors are compared; `lockstep.vectors.similarity` says how."""

METRICS: tuple[Metric, ...] = get_args(Metric)

IndexKind = Literal["bits", "hnsw"]
"""What finds candidates for a search; `lockstep.searching.index` says how."""

INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
INDEX_RANGES = {"m": (4, 128), "ef_construction": (8, 2000), "ef_search": (8, 10_000)}

DocumentId = Any
"""The primary key's value as the database gives it; a tuple where the key has several columns."""


ChunkingMethod = Literal["text", "lines", "paragraphs", "sentences", "markdown", "markdown-lines", "html", "none"]
"""How a text is cut; docs/chunking.md says what each does."""

CHUNKING_METHODS: tuple[ChunkingMethod, ...] = get_args(ChunkingMethod)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunking:
    """How a field's texts are cut.

    Raises:
        UnknownName: there is no such method.
        ConfigError: a number is out of range.
    """

    method: ChunkingMethod = "text"
    """What kind of text it is, and where it may be cut."""
    max_tokens: int | None = None
    """Of a chunk, prefix included and the model's special tokens not; None: as many as the model takes."""
    overlap_tokens: int = 0
    """At most so many tokens of a chunk are repeated at the start of the next."""
    context_prefix: str = ""
    """Put before every chunk for the model, and no part of the text that is stored: a text, or a template over the
    document's fields, `{{ title }}`."""
    headings: bool = False
    """Whether a Markdown chunk is given the headings that it stands under as context, after `context_prefix`."""

    def __post_init__(self) -> None:
        if self.method not in CHUNKING_METHODS:
            raise UnknownName("chunking method", self.method, CHUNKING_METHODS)
        for name, value in (("max_tokens", self.max_tokens), ("overlap_tokens", self.overlap_tokens)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ConfigError(f"{name} is {value!r}, not a whole number.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}.", "Give 1 or more.")
        if self.overlap_tokens < 0:
            raise ConfigError(f"overlap_tokens is {self.overlap_tokens}.", "Give 0 or more.")
        if self.max_tokens is not None and self.overlap_tokens >= self.max_tokens:
            raise ConfigError(
                f"overlap_tokens is {self.overlap_tokens}, and a chunk holds {self.max_tokens} tokens.",
                f"Give an overlap of {self.max_tokens - 1} or less.",
            )
        if not isinstance(self.context_prefix, str):
            raise ConfigError(f"context_prefix is of type {type(self.context_prefix).__name__}, not a text.")
        if self.headings and not self.method.startswith("markdown"):
            raise ConfigError(f'headings are for Markdown, and the chunking method is "{self.method}".')


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSettings:
    """How the nearest vectors of a task are found; docs/decisions/hnsw.md says when which is of use.

    Raises:
        UnknownName: there is no such kind.
        ConfigError: a number is out of range, or is for another kind.
    """

    kind: IndexKind = "bits"
    """`bits` scans the sign bits of all; `hnsw` has a graph besides, which takes minutes to build, and memory."""
    m: int = 16
    """Neighbours of each vector in the graph, twice as many on its lowest level."""
    ef_construction: int = 100
    """How many vectors are looked at to find the neighbours of one."""
    ef_search: int = 300
    """How many vectors a search keeps in view, at least; more find more, and take longer."""

    def __post_init__(self) -> None:
        if self.kind not in INDEX_KINDS:
            raise UnknownName("kind of index", str(self.kind), INDEX_KINDS)
        for each in fields(self):
            if each.name == "kind":
                continue
            value, (low, high) = getattr(self, each.name), INDEX_RANGES[each.name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(
                    f"{each.name} of the index is {value!r}; it must be a whole number from {low} to {high}."
                )
            if self.kind != "hnsw" and value != each.default:
                raise ConfigError(f'{each.name} is for an index of the kind "hnsw", and this is "{self.kind}".')


class Text(NamedTuple):
    """A text found in a document, and where."""

    path: str
    """Where in the document: `name`, `address.city`, `tags[0]`."""
    text: str
    image: str | bytes | None = None
    """Where the value is an image and the model takes those: a file's path, or its bytes; `text` then names it."""
    chunking: Chunking | None = None
    """How it is cut; None: as its field or task says."""
    prefix: str = ""
    """The context prefix as it is for this document: put before every chunk of it."""
    vector: bytes | None = None
    """Where the document brings its vector along: raw little-endian float32; `text` then stands for it."""


class Tokens(NamedTuple):
    """A text's tokens without the model's special ones.

    All three are int32, shape (n,). `starts` and `ends` are character offsets into the text, end exclusive, ascending.
    """

    ids: Ids
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]


class Tokenizer(Protocol):
    """What the chunker needs to know about a model's tokens."""

    @property
    def exact(self) -> bool:
        """Whether it is the model's own; else it estimates, and no model can use its ids."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise whole texts, never truncated, in the order given."""
        ...

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """The ids that `encode` gives, int32, shape (n,) each; faster than with the offsets."""
        ...

    def tokens_max(self, text: str) -> int:
        """A cheap upper bound of the number of tokens in `text`, found without tokenising."""
        ...


class Chunk(NamedTuple):
    """A piece of one text: `text == whole[start:end]`."""

    path: str
    position: int
    """0 for the first chunk of its text."""
    text: str
    start: int
    """In characters of the extracted text."""
    end: int
    """In characters, exclusive."""
    tokens: Ids | None = None
    """The model's token ids for `text` (int32, shape (n,), no special tokens), where the chunker had to count them
    and the model gives the same vectors for them; None otherwise."""
    image: str | bytes | None = None
    """As in `Text`; then `text` is what stands for the image: a name, and a hash of its content."""
    context: bytes | None = None
    """For a model that embeds a chunk with those around it: 16 bytes that stand for all chunks of its text."""
    prefix: str = ""
    """What the model is given before `text`, with the blank between them: the context prefix."""
    vector: bytes | None = None
    """As in `Text`."""

    @property
    def input(self) -> str:
        """What the model embeds."""
        return self.prefix + self.text


@dataclass(frozen=True, slots=True)
class Retrieval:
    """An average over retrieval benchmarks, as a model's authors published it."""

    score: float
    measure: str
    """What was averaged: nDCG@10 of these datasets."""
    source: str
    """Where it was published."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model before it is used; code obeys these fields, so no fact hides in prose."""

    uri: str
    """As a task names it, `local:minilm`."""
    dimensions: int
    max_tokens: int
    """Longest input, special tokens included; longer ones must be chunked."""
    matryoshka: tuple[int, ...] = ()
    """Shorter vectors that it was trained for, where its authors say so: `?dimensions=256`."""
    special_tokens: int = 0
    """How many of `max_tokens` the model adds itself ([CLS], [SEP])."""
    languages: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("text",)
    size_bytes: int | None = None
    """Weights on disk."""
    dtype: str = ""
    """What the weights are kept in: float32, float16, bfloat16, int8."""
    pooling: str = ""
    """How the tokens' vectors become the text's: mean, cls, max, lasttoken, or several joined by +."""
    normalised: bool = True
    """Whether every vector has length 1."""
    revision: str = ""
    """Of the published model, where it is known."""
    licence: str = ""
    document_prompt: str = ""
    """Put before every document; no part of the text that is stored."""
    query_prompt: str = ""
    """The same for queries."""
    contextual: bool = False
    """Whether a chunk's vector depends on the chunks around it, which are then sent together."""
    kinds_differ: bool = False
    """Whether the provider is told which of the two a text is, and gives them different vectors."""
    retrieval: Retrieval | None = None
    """How well it finds, where its authors say so."""
    price_per_million_tokens: float | None = 0.0
    """US dollars; 0 for what runs here, None where it is not known."""
    local: bool = True
    """Runs on this machine: asking it again costs time, not money."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One row or JSON document of a source."""

    id: DocumentId
    data: Mapping[str, Any]


class Part(NamedTuple):
    """What one way of searching says of a hit that several found together."""

    rank: int
    """1 for its best document."""
    score: float
    """Its own: a similarity, a BM25 score, a reranker's relevance."""


@dataclass(frozen=True, slots=True)
class ChunkMatch:
    """A chunk of a hit, where all that match were asked for."""

    chunk: Chunk
    similarity: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that answers a search, with its best chunk."""

    id: DocumentId
    document: Mapping[str, Any]
    similarity: float | None
    """Of the query and the best chunk by the task's metric, higher is closer: with cosine in [-1, 1]. None where no
    vectors were compared: mode "keyword"."""
    score: float
    """What this list is ordered by; equals `similarity` in vector mode."""
    chunk: Chunk
    task: str = ""
    """That found it."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Where several ways were put together, the rank and score of the document in each that found it: `vector`,
    `keyword`, and `rerank` and what it reordered."""
    highlights: tuple[tuple[int, int], ...] = ()
    """Where the words of the query stand in `chunk.text`: start and end in characters, end exclusive."""
    chunks: tuple[ChunkMatch, ...] = ()
    """All chunks that match, best first, where they were asked for."""


class Hits(list[Hit]):
    """Hits, best first."""

    def __init__(self, hits: Iterable[Hit] = (), partial: str | None = None) -> None:
        super().__init__(hits)
        self.partial = partial
        """Why there may be more soon, in a sentence: the task is still being built. None where it is whole."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One stored vector and the piece of text it stands for."""

    id: DocumentId
    path: str
    position: int
    text: str
    start: int
    end: int
    vector: npt.NDArray[np.float32] = field(repr=False)
    """float32, shape (dimensions,)."""


@dataclass(frozen=True, slots=True)
class DocumentError:
    """Why a document has no current embeddings."""

    task: str
    id: DocumentId
    error: str
    attempts: int
    at: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider was asked, and what it counted; added up with `+`."""

    requests: int = 0
    """That were answered with vectors, and so are paid for."""
    retries: int = 0
    """Requests that were sent again: the provider was away, or at its limit."""
    limited: int = 0
    """Of these, those that the provider's limits refused (429)."""
    texts: int = 0
    tokens: int = 0
    """As the provider counts them; estimated where it does not say."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})
