"""The bit index: a derived file that may be absent, damaged, old or another's, and answers the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lockstep.searching.index import HEADER_BYTES, TAIL_MIN, BitIndex, Part
from lockstep.searching.scan import nearest_by_bits
from lockstep.storage.embeddings import Page, page_of
from lockstep.storage.vectors import Space

DIMENSIONS = 20
SPACE = Space(1, DIMENSIONS)


class Store:
    """The embeddings of a database: ids that only grow."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = {n: rng.standard_normal(DIMENSIONS).astype(np.float32) for n in range(1, count + 1)}
        self.reads = 0

    def after(self, watermark: int) -> Iterator[Page]:
        page = [(n, v.tobytes()) for n, v in sorted(self.vectors.items()) if n > watermark]
        self.reads += len(page)
        for start in range(0, len(page), 1000):
            yield page_of(SPACE, page[start : start + 1000])

    @property
    def last(self) -> int:
        return max(self.vectors, default=0)


def look(index: BitIndex, store: Store, allowed: np.ndarray | None = None, k: int = 20) -> set[int]:
    parts = index.refresh(store.last, store.after)
    query = np.ones((1, DIMENSIONS), dtype=np.float32)
    return set(nearest_by_bits(query, parts, k, allowed).tolist())


def distances(store: Store, ids: set[int]) -> list[int]:
    return sorted(int((store.vectors[n] <= 0).sum()) for n in ids)


def best(store: Store, k: int = 20) -> list[int]:
    return sorted(int((vector <= 0).sum()) for vector in store.vectors.values())[:k]


@pytest.mark.parametrize("count", [0, 1, 20, TAIL_MIN, TAIL_MIN + 1, 3 * TAIL_MIN])
def test_the_nearest_are_found_whether_in_the_file_or_in_memory(tmp_path: Path, count: int) -> None:
    """By Hamming distance, exactly."""
    store = Store(count)
    index = BitIndex(tmp_path / "x" / "1.bits", "me", SPACE)
    assert distances(store, look(index, store)) == best(store)
    assert (tmp_path / "x" / "1.bits").exists() == (count > TAIL_MIN)


def test_what_was_written_later_is_taken_in_and_nothing_is_read_twice(tmp_path: Path) -> None:
    """The watermark: a search reads only what is new."""
    store = Store(2 * TAIL_MIN)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    store.reads = 0
    store.vectors[store.last + 1] = np.ones(DIMENSIONS, dtype=np.float32)
    assert store.last in look(index, store)
    assert store.reads == 1
    again = BitIndex(tmp_path / "1.bits", "me", SPACE)
    assert store.last in look(again, store)
    assert store.reads == 2


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x5a" + path.read_bytes()[-8:]),
    "a broken header": lambda path: path.write_bytes(b"{" * HEADER_BYTES + path.read_bytes()[HEADER_BYTES:]),
    "a header that is a list": lambda path: path.write_bytes(b"[]".ljust(HEADER_BYTES) + b"x" * 100),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    """Promise 6: it can be deleted at any time, and answers stay the same."""
    store = Store(TAIL_MIN + 500)
    path = tmp_path / "1.bits"
    expected = distances(store, look(BitIndex(path, "me", SPACE), store))
    DAMAGES[damage](path)
    assert distances(store, look(BitIndex(path, "me", SPACE), store)) == expected


def test_the_file_of_another_database_is_not_used(tmp_path: Path) -> None:
    """A copied folder, or a database put in place of another."""
    first, second = Store(TAIL_MIN + 500, seed=1), Store(TAIL_MIN + 500, seed=2)
    path = tmp_path / "1.bits"
    look(BitIndex(path, "first", SPACE), first)
    assert distances(second, look(BitIndex(path, "second", SPACE), second)) == best(second)


def test_a_database_that_went_back_is_noticed(tmp_path: Path) -> None:
    """An older copy was restored: its largest id is smaller than the watermark."""
    store = Store(TAIL_MIN + 500)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    older = Store(TAIL_MIN + 100, seed=5)
    assert distances(older, look(index, older)) == best(older)


def test_only_what_a_filter_lets_through_is_found(tmp_path: Path) -> None:
    """In the file and in memory."""
    store = Store(TAIL_MIN + 500)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    for _ in range(10):
        store.vectors[store.last + 1] = np.ones(DIMENSIONS, dtype=np.float32)
    allowed = np.array([2, 7, 4000, store.last - 1, store.last, store.last + 99])
    assert look(index, store, allowed) == {2, 7, 4000, store.last - 1, store.last}
    assert look(index, store, np.zeros(0, dtype=np.int64)) == set()


def test_no_parts_have_no_nearest() -> None:
    """An empty index answers with nothing, of the right type."""
    empty = Part(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.uint8))
    found = nearest_by_bits(np.ones((2, DIMENSIONS), dtype=np.float32), [empty], 5, None)
    assert found.dtype == np.int64
    assert len(found) == 0
