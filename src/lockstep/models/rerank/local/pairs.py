"""A query and a text as the token ids that a cross-encoder reads, cut to what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from lockstep.models.local.cross_encoder import read_object
from lockstep.models.local.folder import ModelFolder
from lockstep.models.local.openvino_model import read_tokenizer
from lockstep.models.local.tokenizer import FileTokenizer
from lockstep.types import Ids

SECOND = 1 << 24
"""Added to the ids of tokens of the second segment, so that one array says both; no vocabulary has as many words."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a model wants around and between a query and a text; `SECOND` is added where it belongs."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    query_offset: int = 0
    text_offset: int = 0

    @property
    def total(self) -> int:
        """Tokens that are neither the query's nor the text's."""
        return len(self.before) + len(self.between) + len(self.after)

    def in_one_segment(self) -> Template:
        """The same for a model that is not told which tokens are whose."""
        before, between, after = (
            tuple(number % SECOND for number in part) for part in (self.before, self.between, self.after)
        )
        return Template(before, between, after)


class PairTokenizer:
    """A cross-encoder's own tokenizer, for pairs. Safe to call from several threads."""

    def __init__(self, folder: ModelFolder, max_tokens: int) -> None:
        """Read the folder's tokenizer.

        Args:
            folder: whose it is.
            max_tokens: most tokens of a pair, special ones included.

        Raises:
            ConfigError: it is damaged.
        """
        self._tokenizer = read_tokenizer(folder)
        assert folder.tokenizer is not None
        if folder.tokenizer.suffix == ".json":
            library = tokenizers.Tokenizer.from_str(folder.tokenizer.read_text(encoding="utf-8"))
            self._template = template_of(library)
        else:
            self._template = bert_template(self._tokenizer)
        if not has_segments(read_object(folder.tokenizer.parent / "tokenizer_config.json")):
            self._template = self._template.in_one_segment()
        self._room = max(0, max_tokens - self._template.total)
        self.pad = self._tokenizer.special(folder.pad_id).pad

    def ids(self, query: str, texts: Sequence[str]) -> list[Ids]:
        """The ids of the query with each text, special ones included: int32, shape (n,) each, n at most `max_tokens`."""
        own, *others = self._tokenizer.ids([query, *texts])
        return [self._joined(own, other) for other in others]

    def _joined(self, query: Ids, text: Ids) -> Ids:
        template = self._template
        first, second = kept(len(query), len(text), self._room)
        parts = (
            np.array(template.before, np.int32),
            query[:first] + np.int32(template.query_offset),
            np.array(template.between, np.int32),
            text[:second] + np.int32(template.text_offset),
            np.array(template.after, np.int32),
        )
        return np.concatenate(parts).astype(np.int32, copy=False)


def kept(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of a query and a text are kept, when both together may have `room`.

    The longer one is cut until it is no longer than the other; then both are, and share the room. So a short query stays
    whole. This is "longest first" as the tokenizers library has it, so that scores are those of sentence-transformers.
    """
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = max(short, room - short) if short <= room else short
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if first <= second else (long, short)


def has_segments(config: Mapping[str, Any]) -> bool:
    """Whether a model is told which tokens are the query's and which the text's, by its tokenizer_config.json.

    Transformers' tokenizer of no model's own gives no segments, whatever its file marks.
    """
    named = config.get("model_input_names")
    if isinstance(named, list):
        return "token_type_ids" in named
    return config.get("tokenizer_class") != "TokenizersBackend"


def template_of(library: Any) -> Template:
    """What a `tokenizers.Tokenizer` puts around and between two texts, found by letting it do so."""
    library.no_truncation()
    library.no_padding()
    bare = library.encode("a", add_special_tokens=False).ids
    full = library.encode("a", "a", add_special_tokens=True)
    ids, types, size = full.ids, full.type_ids, len(bare)
    first = next(at for at in range(len(ids)) if ids[at : at + size] == bare)
    second = next(at for at in range(first + size, len(ids)) if ids[at : at + size] == bare)
    marked = [number + SECOND * kind for number, kind in zip(ids, types, strict=True)]
    return Template(
        before=tuple(marked[:first]),
        between=tuple(marked[first + size : second]),
        after=tuple(marked[second + size :]),
        query_offset=SECOND * types[first],
        text_offset=SECOND * types[second],
    )


def bert_template(tokenizer: FileTokenizer) -> Template:
    """BERT's own: [CLS] query [SEP] text [SEP], the text and what follows it of the second segment."""
    special = tokenizer.special()
    after = tuple(number + SECOND for number in special.after)
    return Template(special.before, special.after, after, text_offset=SECOND)
