"""Records what the original fp32 model answers, for the tests of `local:minilm`: texts and their vectors.

pip install torch sentence-transformers
python tools/record_minilm_reference.py FOLDER     (all-MiniLM-L6-v2 as sentence-transformers keeps it)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

TARGET = Path(__file__).parents[1] / "tests/data"

TEXTS = [
    "",
    "rain",
    "warm and dry",
    "How do I reset my password?",
    "The quick brown fox jumps over the lazy dog.",
    "It pours.",
    "Tax law",
    "A parka keeps you warm in the coldest winter; its hood is lined with fur.",
    "Invoices are due within thirty days of receipt. Late payments bear interest at the statutory rate.",
    "The mitochondrion is the powerhouse of the cell: it turns nutrients into adenosine triphosphate.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "SELECT name, COUNT(*) FROM orders WHERE total > 100 GROUP BY name HAVING COUNT(*) >= 3;",
    '{"id": 17, "tags": ["new", "sale"], "price": {"$lt": 90}}',
    "https://example.org/a/very/long/path?with=parameters&and=more#fragment",
    "3.14159 2.71828 1.41421 0.57721 1.61803",
    "Élégant café à Montréal, déjà vu: naïve façade, crème brûlée",
    "Straße, Größe, Übermut und Äpfel",
    "Москва встречает гостей тёплым вечером",
    "東京は日本の首都です。",
    "서울은 대한민국의 수도이다",
    "القاهرة مدينة كبيرة",
    "नमस्ते दुनिया",
    "I love it 😀🎉👍🏽 so much!",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "e\u0301 and \u00e9 are the same letter; \ufb01 is a ligature; \u2167 is eight",
    "tabs\tand\nnew lines\r\nand\u00a0hard spaces\u3000and\u200bnone",
    "[CLS] this text [MASK] names special tokens [SEP]",
    "Pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism floccinaucinihilipilification",
    "x" * 150 + " is a word too long for the vocabulary",
    "!!! ??? ... --- *** ((())) [[[]]] {{{}}} <<<>>>",
    "Long ago, in a valley between two mountains, there lived a clockmaker who could hear the time. " * 4,
    "The committee met on Tuesday to discuss the budget, the roof of the library, and the missing bicycles. " * 9,
    "Ships that pass in the night, and speak each other in passing, only a signal shown and a distant voice. " * 40,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the model's folder or name")
    model = SentenceTransformer(parser.parse_args().folder, device="cpu")
    model.max_seq_length = 256
    # One at a time, so that no padding takes part.
    vectors = np.vstack([model.encode(text, normalize_embeddings=True) for text in TEXTS])
    TARGET.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TARGET / "minilm_reference.npz", vectors=vectors.astype(np.float32))
    (TARGET / "minilm_reference.json").write_text(
        json.dumps(TEXTS, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"{len(TEXTS)} texts, vectors {vectors.shape}")


if __name__ == "__main__":
    main()
