"""What bench.search searches: vectors with texts and numbers, queries that are none of them, and the exact answers.

Real texts are those that are on every machine with Python: documentation and sources, embedded by the built-in model. They
do not reach a million; the million is a mixture of clusters whose neighbourhoods are like those of the real ones.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lockstep
from lockstep.app import stdlib

DIMENSIONS = 384
SEED = 7
BLOCK = 50_000
TRUTH_BLOCK = 20_000
K = 10
QUERIES = 1_000
REAL_ROWS_MAX = 100_000
TEXTS_PER_ROW, TEXTS_MORE = 1.5, 5_000  # gathered: some are questions, or hold one

# With these, 5,000 rows have neighbourhoods as 5,000 entities of DBpedia embedded by all-MiniLM-L6-v2 have them: cosine of the
# nearest .63 (real: .55 to .61), of the tenth .40 (.40 to .48), of the 400th .17 (.16), intrinsic dimension 26 (18 to 25), and
# recall@10 of bare sign bits .58 (.59 to .65).
LATENT = 60
CLUSTERS = 4_000
SPREADS = (0.32, 0.8)
"""How wide a cluster is, in units of how far they lie apart."""
NOISE = 0.5
DECAY = 0.2
COMMON = 0.18
"""Length of what all vectors share: embeddings of text never lie around zero."""

VOCABULARY = 30_000
WORDS = 24
TOPICAL_WORDS = 8
TOPIC_WORDS = 60
"""So many words of a text belong to its cluster, which has so many."""
CATEGORIES = 20

CHUNK_WORDS = (60, 100)
QUERY_WORDS = (4, 24)

PRICE_MAX = 1_000_000
SHARES = {"50 %": 500_000, "1 %": 10_000, "0.01 %": 100}
"""A price below the bound leaves this share of the rows: prices are spread evenly."""

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of the million."""

    vectors: Vectors
    texts: list[str]
    categories: list[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What lies in a folder: rows are numbered from 0, and a row's number is its id."""

    folder: Path

    @property
    def vectors(self) -> Vectors:
        """Mapped: float32, shape (rows, dimensions), of length 1."""
        found: Vectors = np.load(self.folder / "vectors.npy", mmap_mode="r")
        return found

    @property
    def queries(self) -> Vectors:
        """float32, shape (QUERIES, dimensions)."""
        found: Vectors = np.load(self.folder / "queries.npy")
        return found

    @property
    def query_texts(self) -> list[str]:
        """The words of each query."""
        found: list[str] = json.loads((self.folder / "queries.json").read_text(encoding="utf-8"))
        return found

    @property
    def prices(self) -> Ids:
        """The numbers that are filtered by."""
        return prices(len(self.vectors))

    def rows(self) -> Iterator[tuple[int, str, str, int, bytes]]:
        """(id, text, category, price, vector) of every row."""
        vectors, prices = self.vectors, self.prices
        with (self.folder / "texts.jsonl").open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                text, category = json.loads(line)
                yield number, text, category, int(prices[number]), vectors[number].tobytes()

    def truth(self, price_below: int | None = None) -> Ids:
        """The exact answers, best first: shape (QUERIES, K), -1 where fewer match. Computed once."""
        path = self.folder / f"truth-{price_below or 'all'}.npy"
        if not path.exists():
            keep = np.arange(len(self.vectors)) if price_below is None else np.flatnonzero(self.prices < price_below)
            np.save(path, exact(self.queries, self.vectors, keep))
        found: Ids = np.load(path)
        return found


def prices(rows: int) -> Ids:
    """Spread evenly from 0 to PRICE_MAX, in an order that has nothing to do with the vectors."""
    order = np.random.default_rng(SEED + 1).permutation(rows).astype(np.int64)
    return order * (PRICE_MAX // rows)


def exact(queries: Vectors, vectors: Vectors, keep: Ids) -> Ids:
    """The K nearest of the rows in `keep`, by float32 and block by block."""
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    ids = np.full((len(queries), K), -1, dtype=np.int64)
    for start in range(0, len(keep), TRUTH_BLOCK):
        some = keep[start : start + TRUTH_BLOCK]
        scores = np.concatenate([best, queries @ np.asarray(vectors[some]).T], axis=1)
        numbers = np.concatenate([ids, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
        top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        best, ids = np.take_along_axis(scores, top, axis=1), np.take_along_axis(numbers, top, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)


def recall_at_k(found: Ids, truth: Ids) -> float:
    """The share of the exact answers that were found; rows of `found` may hold -1."""
    there = [len(set(row[row >= 0]) & set(right[right >= 0])) for row, right in zip(found, truth, strict=True)]
    return round(sum(there) / max(int((truth >= 0).sum()), 1), 4)


def corpus(cache: Path, rows: int, judged: Path | None = None) -> Corpus:
    """The corpus of a size, made when it is not there: real up to REAL_ROWS_MAX rows, else synthetic."""
    kind = "real" if rows <= REAL_ROWS_MAX else "synthetic"
    folder = cache / f"{kind}-{rows}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_real(folder, rows, judged) if kind == "real" else make_synthetic(folder, rows)
        (folder / "done").touch()
    return Corpus(folder)


# --- synthetic ---------------------------------------------------------------------------------------------------------


class Mixture:
    """Clusters of varying width in a space of few dimensions, with noise in all of them."""

    def __init__(self) -> None:
        random_ = np.random.default_rng(SEED)
        self.basis = np.linalg.qr(random_.standard_normal((DIMENSIONS, LATENT)))[0].T.astype(np.float32)
        scale = np.arange(1, LATENT + 1) ** -DECAY
        self.scale = (scale / np.sqrt((scale**2).sum())).astype(np.float32)
        self.centres = normal(random_, (CLUSTERS, LATENT)) * self.scale
        self.spreads = random_.uniform(*SPREADS, CLUSTERS).astype(np.float32)
        self.weights = normalised(np.arange(1, CLUSTERS + 1) ** -0.6)
        common = random_.standard_normal(DIMENSIONS)
        self.common = (COMMON * common / np.linalg.norm(common)).astype(np.float32)
        self.words = vocabulary(random_)
        self.word_weights = np.cumsum(normalised(1.0 / np.arange(1, VOCABULARY + 1)))
        self.topics = random_.integers(200, VOCABULARY, (CLUSTERS, TOPIC_WORDS))

    def block(self, number: int, rows: int) -> Block:
        """The rows of a block, which is the same however many there are; negative numbers are queries."""
        random_ = np.random.default_rng((SEED, number & 0xFFFF))
        who = random_.choice(CLUSTERS, rows, p=self.weights)
        inner = self.spreads[who, None] * self.scale * normal(random_, (rows, LATENT))
        vectors = (self.centres[who] + inner) @ self.basis
        vectors += normal(random_, (rows, DIMENSIONS)) * np.float32(NOISE / np.sqrt(DIMENSIONS)) + self.common
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        common = np.searchsorted(self.word_weights, random_.random((rows, WORDS - TOPICAL_WORDS)))
        topical = self.topics[who[:, None], random_.integers(0, TOPIC_WORDS, (rows, TOPICAL_WORDS))]
        numbers = random_.permuted(np.concatenate([common, topical], axis=1), axis=1).clip(max=VOCABULARY - 1)
        texts = [" ".join(words) for words in self.words[numbers].tolist()]
        return Block(vectors, texts, [f"category {cluster % CATEGORIES}" for cluster in who])


def normal(random_: np.random.Generator, shape: tuple[int, int]) -> Vectors:
    return random_.standard_normal(shape, dtype=np.float32)


def normalised(weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def vocabulary(random_: np.random.Generator) -> npt.NDArray[Any]:
    """Words that can be said, the shorter ones first as in every language."""
    consonants, vowels = list("bcdfghjklmnprstvwz"), list("aeiou")
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        syllables = 1 + len(found) * 4 // VOCABULARY + int(random_.integers(0, 2))
        parts = zip(random_.choice(consonants, syllables), random_.choice(vowels, syllables), strict=True)
        found["".join(f"{consonant}{vowel}" for consonant, vowel in parts)] = None
    return np.array(list(found), dtype=object)


def make_synthetic(folder: Path, rows: int) -> None:
    """Write a million rows, or how many there shall be, block by block."""
    mixture = Mixture()
    shape = (rows, DIMENSIONS)
    out = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as lines:
        for start in range(0, rows, BLOCK):
            block = mixture.block(start // BLOCK, min(BLOCK, rows - start))
            out[start : start + len(block.texts)] = block.vectors
            write_texts(lines, block.texts, block.categories)
    out.flush()
    queries = mixture.block(-1, QUERIES)
    np.save(folder / "queries.npy", queries.vectors)
    words = [" ".join(text.split()[: 3 + number % 6]) for number, text in enumerate(queries.texts)]
    (folder / "queries.json").write_text(json.dumps(words), encoding="utf-8")


def write_texts(lines: Any, texts: list[str], categories: list[str]) -> None:
    lines.writelines(json.dumps(pair) + "\n" for pair in zip(texts, categories, strict=True))


# --- real --------------------------------------------------------------------------------------------------------------


def make_real(folder: Path, rows: int, judged: Path | None) -> None:
    """Embed so many different texts, and queries that are none of them and stand in none of them.

    Raises:
        SystemExit: this machine has fewer texts.
    """
    found: dict[str, str] = {}
    for text, category in gather(judged):
        found.setdefault(text, category)
        if len(found) > TEXTS_PER_ROW * rows + TEXTS_MORE:
            break
    order = sorted(found)
    random.Random(SEED).shuffle(order)
    # The beginnings of docstrings ask for what their modules do; a text that holds one is not in the corpus.
    questions = first_lines(found, order)
    asked = set(questions)
    texts = [text for text in order if not any(line in asked for line in text.split("\n")) and text not in asked]
    if len(texts) < rows:
        raise SystemExit(f"This machine has {len(texts):,} texts of its own; {rows:,} were asked for.")
    texts = texts[:rows]
    model = lockstep.model("local:minilm")
    parts = [
        model.embed_documents(texts[start : start + BLOCK // 10], truncate="end")
        for start in range(0, rows, BLOCK // 10)
    ]
    np.save(folder / "vectors.npy", unit(np.concatenate(parts)))
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as lines:
        write_texts(lines, texts, [found[text] for text in texts])
    np.save(folder / "queries.npy", unit(model.embed_queries(questions)))
    (folder / "queries.json").write_text(json.dumps(questions), encoding="utf-8")


def unit(vectors: Vectors) -> Vectors:
    found: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


def first_lines(found: dict[str, str], order: list[str]) -> list[str]:
    """QUERIES first lines of docstrings that read like a request."""
    questions: dict[str, None] = {}
    for text in order:
        line = text.split("\n", 1)[0].strip()
        if found[text].startswith("doc ") and QUERY_WORDS[0] <= len(line.split()) <= QUERY_WORDS[1]:
            questions[line] = None
        if len(questions) == QUERIES:
            return list(questions)
    raise SystemExit(f"This machine has {len(questions)} docstrings that could be queries; {QUERIES} are needed.")


def gather(judged: Path | None) -> Iterator[tuple[str, str]]:
    """(text, category) of everything there is, some of it twice."""
    for document in stdlib.documents():
        yield from chunks(document["text"], "doc stdlib")
    if judged is not None:
        with (judged / "corpus.jsonl").open(encoding="utf-8") as lines:
            for entity in map(json.loads, lines):
                yield from chunks(f"{entity['title']}\n{entity['text']}", "entity")
    for path in sorted((Path(__file__).parent.parent / "docs").rglob("*.md")):
        yield from chunks(path.read_text(encoding="utf-8"), "documentation")
    roots = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    files = sorted({(path, path.relative_to(root).parts[0]) for root in roots for path in root.rglob("*.py")})
    random.Random(SEED).shuffle(files)
    for path, package in files:
        yield from of_file(path, package)


def of_file(path: Path, package: str) -> Iterator[tuple[str, str]]:
    """Docstrings, and the source in pieces."""
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, OSError, RecursionError):
        return  # a sample of bad code, or in an old encoding
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            yield from chunks(ast.get_docstring(node) or "", f"doc {package}")
    yield from chunks(source, f"code {package}")


def chunks(text: str, category: str) -> Iterator[tuple[str, str]]:
    """Pieces of whole lines, of 60 to 100 words; a text that is shorter is one."""
    piece: list[str] = []
    words = 0
    for line in text.splitlines():
        count = len(re.findall(r"\w+", line))
        if piece and words + count > CHUNK_WORDS[1]:
            yield "\n".join(piece), category
            piece, words = [], 0
        if line.strip() and count <= CHUNK_WORDS[1]:  # a longer line is a table, or data
            piece.append(line.strip())
            words += count
    if words >= QUERY_WORDS[0]:
        yield "\n".join(piece), category
