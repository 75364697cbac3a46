"""Chunking: four properties that hold for every text and every tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from lockstep.chunking import chunk_texts, chunker
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunk, Chunking, Text, Tokenizer, Tokens

FRAGMENTS = [
    "a ",
    "word ",
    "internationalisation ",
    ". ",
    "! ",
    "\n",
    "\r\n",
    "\n\n",
    "  ",
    "日本語",
    "。",
    "」",
    "ー",
    "カ",
]
FRAGMENTS += [
    "👩‍👩‍👧",
    "🇫🇷",
    "e\u0301",
    "\u200d",
    "\x00",
    "\x0b",
    "\x1c",
    "\u2028",
    "x" * 40,
    "\ufe0f",
    "a.b/c?d=",
    "ab",
    "c",
]
ANY_TEXT = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join),
    st.text(st.characters(codec=None), max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=40).map("".join),
)


class CharacterTokenizer:
    """One token for every character that is not blank."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        found = []
        for text in texts:
            starts = np.array([at for at, character in enumerate(text) if not character.isspace()], np.int32)
            ids = np.array([ord(text[at]) for at in starts], np.int32)
            found.append(Tokens(ids, starts, starts + np.int32(1)))
        return found

    def tokens_max(self, text: str) -> int:
        return len(text)


class Hub:
    """A tokenizer as models bring it. It cannot read lone surrogates, which extraction replaces."""

    def __init__(self, tokenizer: HubTokenizer, bytes_per_token: int) -> None:
        self.tokenizer, self.bytes_per_token = tokenizer, bytes_per_token

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        encoded = self.tokenizer.encode_batch([readable(text) for text in texts], add_special_tokens=False)
        found = []
        for each in encoded:
            offsets = np.array(each.offsets, np.int32).reshape(-1, 2)
            found.append(Tokens(np.array(each.ids, np.int32), offsets[:, 0], offsets[:, 1]))
        return found

    def tokens_max(self, text: str) -> int:
        return len(text) * self.bytes_per_token


def readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def word_pieces() -> Hub:
    """A small WordPiece: lower-cases, strips accents, drops control characters, knows few words."""
    words = ["[UNK]", "word", "inter", "##nation", "##al", "##isation", "日", "カ", "##カ", "ab", "##ab"]
    letters = "abcdefghijklmnopqrstuvwxyz.!?/=-"
    vocabulary = {
        word: number for number, word in enumerate([*words, *letters, *(f"##{letter}" for letter in letters)])
    }
    hub = HubTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    hub.normalizer = normalizers.BertNormalizer()
    hub.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Hub(hub, 1)


def byte_pairs() -> Hub:
    """A small byte-level BPE: a word with its leading space has other tokens, and an emoji has several."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("Ġ", "a"), ("Ġ", "w"), ("Ġw", "o"), ("Ġwo", "r"), ("Ġwor", "d"), ("x", "x"), ("Ġ", "xx")]
    vocabulary = {piece: number for number, piece in enumerate([*letters, *("".join(merge) for merge in merges)])}
    hub = HubTokenizer(models.BPE(vocabulary, merges))
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    hub.decoder = decoders.ByteLevel()
    return Hub(hub, 4)


TOKENIZERS: dict[str, Tokenizer] = {
    "words": WordTokenizer(),
    "characters": CharacterTokenizer(),
    "word pieces": word_pieces(),
    "byte pairs": byte_pairs(),
}


def chunks_of(text: str, max_tokens: int, overlap: int, tokenizer: Tokenizer) -> list[Chunk]:
    return chunk_texts([Text("t", text)], Chunking(overlap_tokens=overlap), max_tokens, tokenizer)[0]


def count(text: str, tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode([text])[0].ids)


@pytest.fixture(params=[1 << 20, 64], ids=["one window", "small windows"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are cut window by window; with a small window, short ones are too."""
    monkeypatch.setattr(chunker, "_WINDOW", request.param)


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_always_holds_of_chunks(name: str, data: st.DataObject) -> None:
    """Every chunk fits, offsets point into the text, chunks cover it, and overlap is never more than asked for.

    And tokens, where a chunk carries them, are those its text has alone.
    """
    tokenizer = TOKENIZERS[name]
    text = data.draw(ANY_TEXT)
    max_tokens = data.draw(st.integers(1, 12))
    overlap = data.draw(st.integers(0, max_tokens - 1))
    chunks = chunks_of(text, max_tokens, overlap, tokenizer)

    covered = np.zeros(len(text), bool)
    for number, chunk in enumerate(chunks):
        assert chunk.position == number
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        tokens = tokenizer.encode([chunk.text])[0].ids
        assert len(tokens) <= max_tokens or len(chunk.text) == 1
        assert chunk.tokens is None or chunk.tokens.tolist() == tokens.tolist()
        covered[chunk.start : chunk.end] = True
    assert all(character.isspace() for character, inside in zip(text, covered, strict=True) if not inside)
    for left, right in itertools.pairwise(chunks):
        assert left.start < right.start
        assert left.end < right.end
        assert count(text[right.start : left.end].strip(), tokenizer) <= overlap


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(ANY_TEXT, max_size=6), max_tokens=st.integers(1, 12))
def test_a_text_is_cut_alike_alone_and_among_others(texts: list[str], max_tokens: int) -> None:
    """Batching changes speed, never chunks."""
    rows = chunk_texts([Text("t", text) for text in texts], Chunking(), max_tokens, WordTokenizer())
    alone = [chunks_of(text, max_tokens, 0, WordTokenizer()) for text in texts]
    assert [[chunk[:5] for chunk in row] for row in rows] == [[chunk[:5] for chunk in row] for row in alone]
