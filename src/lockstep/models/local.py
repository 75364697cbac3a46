"""Models that run here, on the CPU: weights that ship with the package, run by OpenVINO."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from lockstep.errors import UnknownName
from lockstep.models.batching import segments, spans
from lockstep.models.engine import SPECIAL_TOKENS, Engine, Ids, SpecialIds
from lockstep.models.uri import ModelURI
from lockstep.types import Kind, ModelInfo, Tokens, Vectors

BUILTIN = Path(__file__).parent / "builtin"
KNOWN = ("minilm",)
"""The models that ship, each a folder of `BUILTIN`."""

SEGMENT_CHARACTERS = 65_536
ENCODE_CHARACTERS = 1_048_576  # the tokenizer library keeps some 200 bytes a token until its answer is read
SURROGATES = re.compile("[\ud800-\udfff]")


class LocalModel:
    """A sentence-embedding model on this machine's processors.

    Every vector has length 1. A text longer than the model takes loses its end. Safe to call from several threads.
    """

    def __init__(self, uri: str, folder: Path, threads: int) -> None:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.info = _info(uri, facts, folder)
        self.identity = f"{uri}@{facts['checksum'][:16]}"
        self.tokenizer = WordPieceTokenizer(folder / "tokenizer.json")
        special = SpecialIds(facts["cls_id"], facts["sep_id"], facts["pad_id"])
        self._engine = Engine(folder / "model.xml", special, self.info.dimensions, threads)

    @classmethod
    def open(cls, uri: ModelURI) -> LocalModel:
        """Load a model that ships with the package.

        Raises:
            UnknownName: no model of this name ships, or an option is unknown.
            ConfigError: an option's value is wrong.
        """
        if uri.name not in KNOWN:
            raise UnknownName("local model", uri.name, KNOWN)
        uri.allow("threads")
        return cls(f"{uri.provider}:{uri.name}", BUILTIN / uri.name, uri.number("threads", _processors(), minimum=1))

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """Embed `texts`, row i for text i: float32, shape (len(texts), dimensions). Both kinds are embedded alike."""
        return self._engine.run(self._ids(texts, tokens), urgent=kind == "query")

    def _ids(self, texts: Sequence[str], tokens: Sequence[Ids | None] | None) -> list[Ids]:
        """Each text's token ids without special ones, as many as the model takes."""
        longest = self.info.max_tokens - self.info.special_tokens
        given = tokens if tokens is not None else [None] * len(texts)
        missing = [text for text, ids in zip(texts, given, strict=True) if ids is None]
        found = iter(self.tokenizer.first_ids(missing, longest))
        return [next(found) if ids is None else ids[:longest] for ids in given]


class WordPieceTokenizer:
    """A BERT tokenizer whose memory does not grow with the length of a text.

    Long texts are tokenised in segments, cut between words; WordPiece looks at one word at a time, so the tokens are the
    same. Only a run of over 65,536 characters without a space or punctuation is cut inside a word.
    """

    def __init__(self, path: Path) -> None:
        self._library = tokenizers.Tokenizer.from_file(str(path))
        # The file carries the settings its authors trained with: cut at 128 tokens, pad to 128.
        self._library.no_truncation()
        self._library.no_padding()

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise whole texts, in the order given; offsets are characters of the text, the accents and all."""
        pieces = [(text, start, end) for text in texts for start, end in segments(text, SEGMENT_CHARACTERS)]
        parts: list[Tokens] = []
        for first, last in spans([end - start for _, start, end in pieces], ENCODE_CHARACTERS):
            run = pieces[first:last]
            encodings = self._encodings(self._library.encode_batch, [text[start:end] for text, start, end in run])
            parts += [_tokens(encoding, start) for encoding, (_, start, _) in zip(encodings, run, strict=True)]
        return _joined(parts, [start for _, start, _ in pieces])

    def tokens_max(self, text: str) -> int:
        """At most this many tokens: a token is at least one character of the normalised text.

        Normalising makes of one character at most as many as it has bytes in UTF-8; of ASCII, one. (Hangul syllables fall
        into three letters; tried on all of Unicode 16.)
        """
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def first_ids(self, texts: Sequence[str], most: int) -> list[Ids]:
        """The first `most` token ids of each text, without special ones; a long text is read only as far as needed."""
        ids: list[Ids] = []
        for first, last in spans([min(len(text), SEGMENT_CHARACTERS) for text in texts], ENCODE_CHARACTERS):
            run = texts[first:last]
            short = [text if len(text) <= SEGMENT_CHARACTERS else "" for text in run]
            encodings = self._encodings(self._library.encode_batch_fast, short)
            ids += [np.array(encoding.ids[:most], dtype=np.int32) for encoding in encodings]
            for at, text in enumerate(run, first):
                if len(text) > SEGMENT_CHARACTERS:
                    ids[at] = self._first_ids_of_long(text, most)
        return ids

    def _first_ids_of_long(self, text: str, most: int) -> Ids:
        ids: list[int] = []
        for start, end in segments(text, SEGMENT_CHARACTERS):
            ids += self._encodings(self._library.encode_batch_fast, [text[start:end]])[0].ids
            if len(ids) >= most:
                break
        return np.array(ids[:most], dtype=np.int32)

    def _encodings(self, encode: Any, texts: Sequence[str]) -> Any:
        try:
            return encode(texts, add_special_tokens=False)
        except TypeError:
            # Half a surrogate pair, as broken JSON has it, is no text to the library. U+FFFD keeps the offsets right
            # and is dropped as a control character is.
            return encode([SURROGATES.sub("\ufffd", text) for text in texts], add_special_tokens=False)


def _tokens(encoding: Any, shift: int) -> Tokens:
    """The library's encoding as arrays; offsets counted from `shift`."""
    ids = np.array(encoding.ids, dtype=np.int32)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int32, count=2 * len(ids)).reshape(-1, 2)
    offsets += shift
    return Tokens(ids, offsets[:, 0].copy(), offsets[:, 1].copy())


def _joined(parts: Sequence[Tokens], starts: Sequence[int]) -> list[Tokens]:
    """The segments' tokens put together again: a segment that starts at 0 begins a text."""
    texts: list[list[Tokens]] = []
    for part, start in zip(parts, starts, strict=True):
        if start == 0:
            texts.append([])
        texts[-1].append(part)
    return [
        pieces[0] if len(pieces) == 1 else Tokens(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        for pieces in texts
    ]


def _info(uri: str, facts: Mapping[str, Any], folder: Path) -> ModelInfo:
    return ModelInfo(
        uri=uri,
        dimensions=facts["dimensions"],
        max_tokens=facts["max_tokens"],
        special_tokens=SPECIAL_TOKENS,
        languages=tuple(facts["languages"]),
        size_bytes=(folder / "model.bin").stat().st_size,
        licence=facts["licence"],
        description=facts["description"],
    )


def _processors() -> int:
    """Processors this process may use; fewer than the machine has in a container or under `taskset`."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
