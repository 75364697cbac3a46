"""The bit index: a derived file that may be absent, damaged, old or another's, and answers the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.searching.index.bits import TAIL_MIN, BitIndex
from lockstep.searching.index.bits_file import HEADER_BYTES
from lockstep.searching.index.files import Busy, replacing
from lockstep.searching.index.parts import WITNESSES, Part, places
from lockstep.searching.index.scan import nearest_by_bits
from lockstep.storage.vectors import Space
from lockstep.vectors.similarity import sign_bits
from support.stored_vectors import Store as StoredVectors
from support.stored_vectors import clustered

DIMENSIONS = 20
SPACE = Space(1, DIMENSIONS)


class Store(StoredVectors):
    """Random vectors."""

    def __init__(self, count: int, seed: int = 0) -> None:
        super().__init__(SPACE, np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32))


def look(index: BitIndex, store: StoredVectors, allowed: np.ndarray | None = None, k: int = 20) -> set[int]:
    parts = index.refresh(store.last, store.after)
    index.settle()
    query = np.ones((1, DIMENSIONS), dtype=np.float32)
    return set(nearest_by_bits(query, parts, k, allowed).tolist())


def distances(store: StoredVectors, ids: set[int]) -> list[int]:
    return sorted(int((store.vectors[n] <= 0).sum()) for n in ids)


def best(store: StoredVectors, k: int = 20) -> list[int]:
    return sorted(int((vector <= 0).sum()) for vector in store.vectors.values())[:k]


@pytest.mark.parametrize("count", [0, 1, 20, TAIL_MIN, TAIL_MIN + 1, 3 * TAIL_MIN])
def test_the_nearest_are_found_whether_in_the_file_or_in_memory(tmp_path: Path, count: int) -> None:
    """By Hamming distance, exactly."""
    store = Store(count)
    index = BitIndex(tmp_path / "x" / "1.bits", "me", SPACE)
    assert distances(store, look(index, store)) == best(store)
    assert (tmp_path / "x" / "1.bits").exists() == (count > TAIL_MIN)


def test_what_was_written_later_is_taken_in_and_nothing_is_read_twice(tmp_path: Path) -> None:
    """The watermark: a search reads only what is new, and of a file that it meets some witnesses."""
    store = Store(2 * TAIL_MIN)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    store.reads = 0
    store.add(np.ones((1, DIMENSIONS), dtype=np.float32))
    assert store.last in look(index, store)
    assert store.reads == 1
    again = BitIndex(tmp_path / "1.bits", "me", SPACE)
    assert store.last in look(again, store)
    assert store.reads == 2 + WITNESSES + 1


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


def test_a_database_that_went_back_and_has_grown_since_is_noticed(tmp_path: Path) -> None:
    """Its ids are those that the file knows, and stand for other vectors."""
    look(BitIndex(tmp_path / "1.bits", "me", SPACE), Store(TAIL_MIN + 100))
    other = Store(TAIL_MIN + 500, seed=5)
    assert distances(other, look(BitIndex(tmp_path / "1.bits", "me", SPACE), other)) == best(other)


def test_a_search_that_began_earlier_does_not_cost_the_index_what_it_knows(tmp_path: Path) -> None:
    """Two snapshots: the older one sees no more than it has, and nothing is read anew for either."""
    store = Store(TAIL_MIN + 500)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    earlier = StoredVectors(SPACE)
    earlier.vectors, earlier.last = dict(store.vectors), store.last
    store.add(np.ones((3, DIMENSIONS), dtype=np.float32))
    assert {store.last, store.last - 2} <= look(index, store)
    earlier.reads = store.reads = 0
    assert distances(earlier, look(index, earlier)) == best(earlier)
    assert earlier.reads <= WITNESSES
    assert {store.last, store.last - 2} <= look(index, store)
    assert store.reads == 0


def test_a_file_that_another_process_made_is_taken_over(tmp_path: Path) -> None:
    """Within the next search, when it knows as much; what came after it stays known."""
    store = Store(TAIL_MIN + 500)
    one, other = (BitIndex(tmp_path / "1.bits", "me", SPACE) for _ in range(2))
    look(one, store)
    look(other, store)
    store.add(Store(TAIL_MIN + 10, seed=4).vectors[1][None].repeat(TAIL_MIN + 10, axis=0))
    look(other, store)
    store.add(np.ones((1, DIMENSIONS), dtype=np.float32))
    store.reads = 0
    assert store.last in look(one, store)
    assert store.reads == WITNESSES + 2
    assert one.bytes_mapped == (8 + 3) * (2 * TAIL_MIN + 510)


def test_what_is_gone_is_forgotten_and_stays_forgotten(tmp_path: Path) -> None:
    """Deleted embeddings take no places among the candidates once somebody has said so."""
    store = Store(TAIL_MIN + 500)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    found = look(index, store)
    store.delete(*found)
    assert look(index, store) == found
    index.discard(np.array(sorted(found)))
    store.reads = 0
    assert distances(store, look(index, store)) == best(store)
    assert store.reads == 0
    index.discard()
    assert distances(store, look(index, store)) == best(store)


def test_a_new_file_is_written_beside_the_searches(tmp_path: Path) -> None:
    """A search does not wait for it; and what is written meanwhile, or forgotten, counts."""
    store = Store(TAIL_MIN + 500)
    path = tmp_path / "1.bits"
    with replacing(path):  # so that the index cannot write its own
        index = BitIndex(path, "me", SPACE)
        assert distances(store, look(index, store)) == best(store)
        store.add(np.ones((1, DIMENSIONS), dtype=np.float32))
        assert store.last in look(index, store)
    assert not path.read_bytes()
    assert store.last in look(index, store)


def test_two_builders_do_not_write_at_once(tmp_path: Path) -> None:
    """The second is told; a file that a killed one left is taken over, and a failure leaves what was there."""
    path = tmp_path / "file"
    (tmp_path / "file.new").write_bytes(b"left by one that was killed")
    with replacing(path) as file:
        file.write(b"one")
        with pytest.raises(Busy), replacing(path):
            pass
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(bytes([1 // 0]))
    assert path.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_threads_that_search_and_write_at_once_find_everything(tmp_path: Path) -> None:
    """What a thread has seen written, it finds."""
    store, lost = Store(TAIL_MIN - 100), []
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    lock = threading.Lock()

    def work(number: int) -> None:
        for _ in range(30):
            with lock:
                (mine,) = store.add(np.ones((1, DIMENSIONS), dtype=np.float32) * number)
                seen = StoredVectors(SPACE)
                seen.vectors, seen.last = dict(store.vectors), store.last
            if mine not in look(index, seen, k=500):
                lost.append(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []


def test_only_what_a_filter_lets_through_is_found(tmp_path: Path) -> None:
    """In the file and in memory."""
    store = Store(TAIL_MIN + 500)
    index = BitIndex(tmp_path / "1.bits", "me", SPACE)
    look(index, store)
    store.add(np.ones((10, DIMENSIONS), dtype=np.float32))
    allowed = np.array([2, 7, 4000, store.last - 1, store.last, store.last + 99])
    assert look(index, store, allowed) == {2, 7, 4000, store.last - 1, store.last}
    assert look(index, store, np.zeros(0, dtype=np.int64)) == set()


def test_no_parts_have_no_nearest() -> None:
    """An empty index answers with nothing, of the right type."""
    empty = Part(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.uint8))
    found = nearest_by_bits(np.ones((2, DIMENSIONS), dtype=np.float32), [empty], 5, None)
    assert found.dtype == np.int64
    assert len(found) == 0


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 60), max_size=30).map(sorted)
    | st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda of: list(range(of[0], of[0] + of[1]))),
    st.sets(st.integers(0, 60), max_size=30).map(sorted),
)
def test_places_are_where_ids_stand(ids: list[int], wanted: list[int]) -> None:
    """With and without gaps between the ids."""
    found = places(np.array(ids, dtype=np.int64), np.array(wanted, dtype=np.int64))
    assert [ids[at] for at in found] == sorted(set(ids) & set(wanted))


def test_the_second_look_finds_what_signs_alone_do_not() -> None:
    """Candidates hold more of the ten nearest than as many by Hamming distance alone."""
    vectors = clustered(6000, 128, clusters=4)
    queries = clustered(20, 128, seed=1, clusters=4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    true = np.argsort(-(queries @ unit.T), axis=1)[:, :10]
    codes = sign_bits(vectors)
    part = Part(np.arange(len(vectors), dtype=np.int64), codes)
    distance = np.unpackbits(sign_bits(queries)[:, None] ^ codes, axis=2).sum(axis=2)
    by_signs = [len(np.intersect1d(np.argsort(row)[:100], best)) for row, best in zip(distance, true, strict=True)]
    found = [
        len(np.intersect1d(nearest_by_bits(query[None], [part], 100, None), best))
        for query, best in zip(queries, true, strict=True)
    ]
    assert sum(found) > 190 > sum(by_signs) + 5
