"""How the index's own tokenizer sees a character: a letter, and which one without case and accent, or a gap.

Its tables are others than Python's, and other in each version of SQLite. So it is asked, once for each character that
comes along, and what is highlighted and counted here is what was found there.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from functools import lru_cache

from lockstep.storage.keywords import TOKENIZER

LETTER, GAP = "w", " "
FRAME = "x"  # a letter before and after: some marks are part of a word only within it


class Folding:
    """What is known of characters that are not ASCII."""

    def __init__(self) -> None:
        """Make a tokenizer to ask.

        Raises:
            sqlite3.OperationalError: this SQLite has no FTS5.
        """
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        tokenizer = TOKENIZER.replace("'", "''")
        self._connection.execute(f"CREATE VIRTUAL TABLE asked USING fts5(text, content='', tokenize='{tokenizer}')")
        self._connection.execute("CREATE VIRTUAL TABLE told USING fts5vocab(asked, instance)")
        ascii_characters = [chr(number) for number in range(128)]
        self._kinds = {ord(each): LETTER if each.isalnum() else GAP for each in ascii_characters}
        self._folds = {ord(each): each.lower() for each in ascii_characters}

    def kinds(self, text: str) -> str:
        """A text of the same length: `LETTER` where a character is part of a word, `GAP` where it is not."""
        self._learn(text)
        return text.translate(self._kinds)

    def fold(self, word: str) -> str:
        """A word as it is in the index."""
        if word.isascii():
            return word.lower()
        self._learn(word)
        return word.translate(self._folds)

    def _learn(self, text: str) -> None:
        unknown = {number for character in set(text) if (number := ord(character)) not in self._kinds}
        if unknown:
            with self._lock:
                self._ask(unknown)

    def _ask(self, unknown: Iterable[int]) -> None:
        ask = self._connection.execute
        # A half of a surrogate pair is no text for SQLite, and no part of a word.
        known = [number for number in unknown if not 0xD800 <= number <= 0xDFFF]
        framed = ((number, f"{FRAME}{chr(number)}{FRAME}") for number in known)
        self._connection.executemany("INSERT INTO asked (rowid, text) VALUES (?, ?)", framed)
        told: dict[int, str] = dict(ask("SELECT doc, term FROM told WHERE offset = 0").fetchall())
        ask("INSERT INTO asked (asked) VALUES ('delete-all')")
        folds = {number: told[number][1:-1] if told[number] != FRAME else None for number in known}
        self._folds.update({number: fold or "" for number, fold in folds.items()})
        self._folds.update({number: "" for number in unknown if number not in folds})
        # Last: whoever finds a character here does not ask for it.
        self._kinds.update({number: GAP if folds.get(number) is None else LETTER for number in unknown})


@lru_cache(maxsize=1)
def folding() -> Folding:
    """The one that all share."""
    return Folding()
