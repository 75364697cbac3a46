"""Histories of texts in any script: the keyword index finds the chunks that have the words, and no others."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.worded import Worded

EXAMPLES = int(os.environ.get("LOCKSTEP_FUZZ_EXAMPLES", "40"))
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="LOCKSTEP_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
FOLDED = {
    "rain": "rain", "Rain": "rain", "RAINY": "rainy", "Äpfel": "apfel", "apfel": "apfel", "Straße": "straße",
    "مكتبة": "مكتبة", "مَكتبة": "مكتبة", "NEAR": "near", "and": "and", "x1": "x1", "हिन्दी": "हिन्दी",
}  # fmt: skip
"""Words with blanks around them, and what each is without case and accent."""
RUNS = ["日本", "日本語", "本語", "語", "猫", "データベース", "東京都", "京都", "한국어", "国語"]
# Whatever else is in a text has none of the letters above.
NOISE = st.text(st.characters(min_codepoint=0x10000, max_codepoint=0x1FFFF), max_size=4) | st.sampled_from(
    ["", "🥺", "\ufffd", "\ue000", '"', "* -", "ö\u0301", "\u200b", "Ω"]
)
TEXT = st.lists(st.sampled_from([*FOLDED, *RUNS]) | NOISE, max_size=6).map(tuple)
STEP = st.tuples(st.lists(st.integers(0, 30), max_size=4), st.lists(TEXT, max_size=4))
QUERIES = [
    *FOLDED,
    "rain*",
    "äpf*",
    '"日本語"',
    "日本",
    "語",
    "日",
    "京都",
    '"rain and"',
    "猫 apfel",
    '"データベース"',
    "한국",
]


def has(parts: tuple[str, ...], query: str) -> bool:
    """Whether a text has any word of a query, by plain Python."""
    words = [FOLDED[part] for part in parts if part in FOLDED]
    if query == '"rain and"':
        rest = [FOLDED.get(part, part) for part in parts if part.strip(' "*-\u200b\ue000🥺\ufffd')]
        return ("rain", "and") in pairwise(rest)
    if query.endswith("*"):
        return any(word.startswith({"rain*": "rain", "äpf*": "apf"}[query]) for word in words)
    if query in FOLDED:
        return FOLDED[query] in words
    return any(
        word in words if word in FOLDED else any(word in part for part in parts if part in RUNS)
        for word in query.replace('"', "").split()
    )


@PROFILE
@given(steps=st.lists(STEP, min_size=1, max_size=8))
def test_the_index_follows_every_history(steps: list[tuple[list[int], list[tuple[str, ...]]]]) -> None:
    """Inserted, deleted and replaced, in one transaction each: exactly the chunks with the words are found."""
    with tempfile.TemporaryDirectory() as folder:
        worded = Worded(Path(folder) / "t.db")
        model: dict[int, tuple[str, ...]] = {}
        for chosen, texts in steps:
            outdated = sorted({sorted(model)[number % len(model)] for number in chosen}) if model else []
            ids = worded.replace(outdated, [" ".join(parts) for parts in texts])
            for number in outdated:
                del model[number]
            model.update(zip(ids, texts, strict=True))
        for query in QUERIES:
            expected = {number for number, parts in model.items() if has(parts, query)}
            assert worded.found(query) == expected, query
            some = {number for number in model if number % 2}
            assert worded.found(query, some) == expected & some
        assert worded.disagreement() is None
        worded.close()
