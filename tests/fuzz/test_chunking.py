"""Chunking: what holds for every text, every method, every prefix and every tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HubTokenizer

from lockstep.chunking import chunk_texts, chunker, strip_html
from lockstep.chunking.boundaries import Rank, text_boundaries
from lockstep.chunking.markdown import markdown_structure
from lockstep.errors import DocumentUnreadable
from lockstep.models.tokens import WordTokenizer
from lockstep.types import CHUNKING_METHODS, Chunk, Chunking, ChunkingMethod, Text, Tokenizer, Tokens

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
FRAGMENTS += [
    "👍🏽",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "שלום ",
    "مرحبا بالعالم",
    "각",
    "\u1112\u1161\u11ab",
    "\u202e",
]
MARKUP = [
    "# One\n",
    "\n## Two two\n",
    "\n###",
    "Under\n---\n",
    "\n```\n",
    "\n~~~~ x\n",
    "\n````\n",
    "- ",
    "\n1. ",
    "\n  * ",
    "> ",
]
MARKUP += [
    "\n| a | b |\n|---|:-:|\n",
    "| c d | e |\n",
    "\n    code\n",
    "\t",
    "---\n",
    "\n<!-- x\n",
    "-->\n",
    "\n<div>\n",
]
MARKUP += [
    "<p>",
    "</p>",
    "<h1>",
    "</h1>",
    "<h2 a='>'>",
    "</h2>",
    "<br>",
    "<pre>",
    "</pre>",
    "<table>",
    "<tr>",
    "<td>",
    "</table>",
]
MARKUP += [
    "<li>",
    "&amp;",
    "&#0;",
    "&#x1f600;",
    "&nbsp;",
    "<",
    "<script>",
    "</script>",
    "<template>",
    "</template>",
    "<b",
]
ANY_TEXT = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join),
    st.text(st.characters(codec=None), max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=40).map("".join),
    st.lists(st.one_of(st.sampled_from(MARKUP), st.sampled_from(FRAGMENTS)), max_size=60).map("".join),
)
PREFIXES = st.one_of(st.just(""), st.sampled_from(["A guide", "x ", "日本", "e", "ab\n", " "]), st.text(max_size=4))


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


def byte_pairs_over_lines() -> Hub:
    """As the vocabularies of newer language models: a sign and the line breaks after it may be one token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        (".", "Ċ"),
        (".Ċ", "Ċ"),
        ("Ċ", "Ċ"),
        ("Ġ", "a"),
        ("a", "b"),
        ("Ġ", "Ġ"),
        ("`", "`"),
        ("``", "`"),
        ("```", "Ċ"),
    ]
    vocabulary = {piece: number for number, piece in enumerate([*letters, *("".join(merge) for merge in merges)])}
    hub = HubTokenizer(models.BPE(vocabulary, merges))
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(words), "isolated")
    hub.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return Hub(hub, 4)


def sentence_pieces() -> Hub:
    """A small Unigram model, whose words begin with the blank before them."""
    pieces = ["<unk>", "▁", "▁word", "▁a", "inter", "nation", "al", "日本", "ab", "e", ".", "x", "xx", "▁e"]
    hub = HubTokenizer(models.Unigram([(piece, -1.0 - number) for number, piece in enumerate(pieces)], 0, False))
    hub.normalizer = normalizers.NFKC()
    hub.pre_tokenizer = pre_tokenizers.Metaspace()
    return Hub(hub, 20)


TOKENIZERS: dict[str, Tokenizer] = {
    "words": WordTokenizer(),
    "characters": CharacterTokenizer(),
    "word pieces": word_pieces(),
    "byte pairs": byte_pairs(),
    "byte pairs over lines": byte_pairs_over_lines(),
    "sentence pieces": sentence_pieces(),
}


def chunks_of(text: str, max_tokens: int, overlap: int, tokenizer: Tokenizer) -> list[Chunk]:
    (row,) = chunk_texts([Text("t", text)], Chunking(overlap_tokens=overlap), max_tokens, tokenizer)
    assert isinstance(row, list)
    return row


def count(text: str, tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode([text])[0].ids)


@pytest.fixture(params=[1 << 20, 64], ids=["one window", "small windows"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are cut window by window; with a small window, short ones are too."""
    monkeypatch.setattr(chunker, "_WINDOW", request.param)


METHOD = st.sampled_from(CHUNKING_METHODS)


@st.composite
def settings_of(draw: st.DrawFn) -> Chunking:
    method = draw(METHOD)
    max_tokens = draw(st.one_of(st.integers(1, 12), st.integers(13, 60)))
    headings = method.startswith("markdown") and draw(st.booleans())
    return Chunking(
        method=method, max_tokens=max_tokens, overlap_tokens=draw(st.integers(0, max_tokens - 1)), headings=headings
    )


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT, chunking=settings_of(), prefix=PREFIXES)
def test_what_always_holds_of_chunks(name: str, text: str, chunking: Chunking, prefix: str) -> None:
    """Every chunk fits with its prefix, offsets point into the text, chunks cover it, overlap is never more than asked for.

    And tokens, where a chunk carries them, are those its text has alone. A text that cannot be cut so is an error, and
    for no other reason than its prefix, or that it must not be cut.
    """
    tokenizer, most = TOKENIZERS[name], chunking.max_tokens
    assert most is not None
    (chunks,) = chunk_texts([Text("t", text, None, None, prefix)], chunking, 1000, tokenizer)
    extracted = strip_html(text)[0] if chunking.method == "html" else text
    fixed = prefix.rstrip() + " " if prefix.strip() else ""
    if isinstance(chunks, DocumentUnreadable):
        assert fixed or (chunking.method == "none" and count(text.strip(), tokenizer) > most)
        return

    covered = np.zeros(len(extracted), bool)
    for number, chunk in enumerate(chunks):
        assert chunk.position == number
        assert chunk.text == extracted[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.prefix.startswith(fixed)
        assert chunk.prefix == fixed or chunking.headings
        assert count(chunk.input, tokenizer) <= most or (len(chunk.text) == 1 and not chunk.prefix)
        assert chunk.tokens is None or not chunk.prefix
        assert chunk.tokens is None or chunk.tokens.tolist() == tokenizer.encode([chunk.text])[0].ids.tolist()
        covered[chunk.start : chunk.end] = True
    assert all(character.isspace() for character, inside in zip(extracted, covered, strict=True) if not inside)
    for left, right in itertools.pairwise(chunks):
        assert left.start < right.start
        assert left.end < right.end
        assert count(extracted[right.start : left.end].strip(), tokenizer) <= chunking.overlap_tokens


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.tuples(ANY_TEXT, st.none() | settings_of(), PREFIXES), max_size=6), method=METHOD)
def test_a_text_is_cut_alike_alone_and_among_others(
    texts: list[tuple[str, Chunking | None, str]], method: ChunkingMethod
) -> None:
    """Batching changes speed, never chunks; and a text that cannot be cut holds up no other."""
    given_texts = [Text("t", text, None, own, prefix) for text, own, prefix in texts]
    chunking = Chunking(method=method, overlap_tokens=2)
    rows = chunk_texts(given_texts, chunking, 30, WordTokenizer())
    for text, row in zip(given_texts, rows, strict=True):
        (alone,) = chunk_texts([text], chunking, 30, WordTokenizer())
        assert seen(row) == seen(alone)


def seen(row: list[Chunk] | DocumentUnreadable) -> object:
    return str(row) if isinstance(row, DocumentUnreadable) else [(*chunk[:5], chunk.prefix) for chunk in row]


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from(["one ", "two. ", "Three! ", "\n", "\n\n", "x. Y ", "four"]), max_size=60).map(
        "".join
    ),
    max_tokens=st.integers(3, 20),
    method=st.sampled_from(["paragraphs", "sentences"]),
)
def test_what_fits_is_not_torn(text: str, max_tokens: int, method: ChunkingMethod) -> None:
    """A paragraph, or a sentence, is in two chunks only if it is longer than a chunk by itself."""
    tokenizer = WordTokenizer()
    (chunks,) = chunk_texts([Text("t", text)], Chunking(method=method), max_tokens, tokenizer)
    assert isinstance(chunks, list)
    positions, ranks = text_boundaries(text.strip())
    edge = Rank.PARAGRAPH if method == "paragraphs" else Rank.SENTENCE
    shift = len(text) - len(text.lstrip())
    edges = [shift, *(positions[ranks >= edge] + shift).tolist(), shift + len(text.strip())]
    for start, end in itertools.pairwise(edges):
        if count(text[start:end], tokenizer) <= max_tokens:
            assert not any(start < chunk.end < end for chunk in chunks), (text[start:end], [c.text for c in chunks])


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.one_of(st.sampled_from(MARKUP), st.sampled_from(FRAGMENTS)), max_size=80).map("".join))
def test_the_structure_of_stripped_html_points_into_it(text: str) -> None:
    """What is left of a page has known blocks: ascending, inside it, each beginning with a character to be seen."""
    stripped, structure = strip_html(text)
    starts = structure.starts.tolist()
    assert starts == sorted(set(starts))
    assert all(not stripped[start].isspace() for start in starts)
    for layer in structure.whole:
        flat = layer.reshape(-1).tolist()
        assert flat == sorted(flat)
        assert all(0 <= at <= len(stripped) for at in flat)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.one_of(st.sampled_from(MARKUP), st.sampled_from(FRAGMENTS)), max_size=80).map("".join))
def test_blocks_of_markdown_are_in_order(text: str) -> None:
    """Blocks ascend and begin with a character to be seen, and what is kept whole does not overlap."""
    structure = markdown_structure(text)
    starts = structure.starts.tolist()
    assert starts == sorted(set(starts))
    assert all(not text[start].isspace() for start in starts)
    assert [heading.start for heading in structure.headings] == sorted(heading.start for heading in structure.headings)
    for layer in structure.whole:
        flat = layer.reshape(-1).tolist()
        assert flat == sorted(flat)
