"""HNSW beside the bits: found, damaged, replaced, behind, filtered, deleted from; and answers stay right."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.errors import ConfigError, StoreError, UnknownName
from lockstep.models.outcome import Stopped
from lockstep.searching.index import IndexUse, VectorIndex, graph, graph_in_place, graph_path, memory, vector_index
from lockstep.searching.index.files import Busy, replacing
from lockstep.searching.index.graph import build_hnsw
from lockstep.searching.index.graph_file import TRAILER_BYTES, GraphHeader, Unusable, line_of, read_header
from lockstep.searching.index.memory import memory_needed
from lockstep.storage.vectors import Space
from lockstep.types import Form, IndexSettings
from support.stored_vectors import Store, clustered

DIMENSIONS = 96
SPACE = Space(1, DIMENSIONS)
COUNT = 3000
HNSW = IndexSettings(kind="hnsw")


def build(folder: Path, store: Store, identity: str = "me", **more: Any) -> GraphHeader:
    folder.mkdir(exist_ok=True)
    path = graph_path(folder, 1)
    return build_hnsw(path, identity, store.space, store.after(0), len(store.vectors), store.last, threads=1, **more)


def index_of(folder: Path, store: Store, identity: str = "me") -> VectorIndex:
    return VectorIndex(folder, 1, identity, store.space)


def look(index: VectorIndex, store: Store, query: np.ndarray, k: int = 50, allowed: Any = None) -> list[int]:
    """The ten best, after rescoring."""
    found = index.nearest(query[None], k, allowed, store.written, HNSW)
    assert found.dtype == np.int64
    assert (np.diff(found) > 0).all()
    return store.rescored(found, query, 10)


def recall(index: VectorIndex, store: Store, allowed: Any = None) -> float:
    """Of the ten best by all vectors, the share found."""
    queries = clustered(20, store.space.dimensions, seed=7)
    found = [
        len({*look(index, store, query, allowed=allowed)} & {*(exact := store.exact(query, 10, allowed))}) / len(exact)
        for query in queries
    ]
    return float(np.mean(found))


@pytest.fixture
def store() -> Store:
    return Store(SPACE, clustered(COUNT, DIMENSIONS))


@pytest.mark.parametrize("form", ["float32", "float16", "int8"])
def test_the_nearest_are_found_in_every_form(tmp_path: Path, form: Form) -> None:
    """Against exact search, with what is stored."""
    store = Store(Space(1, DIMENSIONS, form), clustered(COUNT, DIMENSIONS))
    header = build(tmp_path, store)
    index = index_of(tmp_path, store)
    assert recall(index, store) > 0.98
    assert (header.count, header.watermark) == (COUNT, COUNT)
    assert index.describe() == IndexUse("hnsw", COUNT, 0, graph_path(tmp_path, 1).stat().st_size, "")
    assert index.used == "hnsw"


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1999])
def test_few_vectors_are_found_all(tmp_path: Path, count: int) -> None:
    """Fewer than are asked for, and fewer than there are witnesses."""
    store = Store(SPACE, clustered(count, DIMENSIONS))
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    query = clustered(1, DIMENSIONS, seed=8)[0]
    assert look(index, store, query) == store.exact(query, 10)
    assert index.used == "hnsw"


def test_several_queries_find_what_is_near_to_any(tmp_path: Path, store: Store) -> None:
    """At most so many for each."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    queries = clustered(3, DIMENSIONS, seed=3)
    found = index.nearest(queries, 20, None, store.written)
    assert len(found) <= 60
    assert {store.exact(query, 1)[0] for query in queries} <= {*found.tolist()}


def test_lengths_of_vectors_and_queries_do_not_matter(tmp_path: Path, store: Store) -> None:
    """It is the angle that counts."""
    rng = np.random.default_rng(0)
    longer = Store(SPACE, clustered(COUNT, DIMENSIONS) * rng.uniform(0.01, 100, (COUNT, 1)).astype(np.float32))
    build(tmp_path, longer)
    query = clustered(1, DIMENSIONS, seed=4)[0] * 1000
    assert look(index_of(tmp_path, longer), longer, query) == store.exact(query, 10)


def test_later_inserts_updates_and_deletes_count_at_once(tmp_path: Path, store: Store) -> None:
    """The graph has what was there when it was built; the bits have the rest, and the database says what is gone."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    query = clustered(1, DIMENSIONS, seed=5)[0]
    best = look(index, store, query)
    store.delete(best[0], best[1])
    (new,) = store.add(query[None])
    assert look(index, store, query)[:9] == [new, *best[2:]][:9]
    assert index.describe().bits == 1
    assert recall(index, store) > 0.98


def test_what_is_gone_takes_no_places_when_it_is_known(tmp_path: Path, store: Store) -> None:
    """All that is near was deleted: the next search finds what is a little farther, in the graph."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    query = clustered(1, DIMENSIONS, seed=5)[0]
    for gone in (store.exact(query, 100), store.exact(query, 200)[100:]):
        store.delete(*gone)
        found = index.nearest(query[None], 50, None, store.written)
        index.discard(np.setdiff1d(found, store.ids))
    for _ in range(4):
        found = index.nearest(query[None], 50, None, store.written)
        index.discard(np.setdiff1d(found, store.ids))
    assert look(index, store, query, 200) == store.exact(query, 10)
    assert index.used == "hnsw"
    allowed = store.ids[::2]
    assert look(index, store, query, 200, allowed) == store.exact(query, 10, allowed)


def test_without_saying_what_is_gone_the_bits_serve_until_the_graph_is_built_anew(tmp_path: Path, store: Store) -> None:
    """`discard()` forgets all."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    assert recall(index, store) > 0.98
    index.discard()
    assert recall(index, store) > 0.98
    assert (index.used, index.describe().graph_problem) == ("bits", "too much of it is deleted")
    build(tmp_path, store)
    assert recall(index, store) > 0.98
    assert index.used == "hnsw"


@pytest.mark.parametrize("step", [2, 10, 100, COUNT])
def test_filters_let_only_theirs_through(tmp_path: Path, store: Store, step: int) -> None:
    """Half of all, a tenth, a hundredth, one; what came after the graph included."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    store.add(clustered(200, DIMENSIONS, seed=6))
    allowed = store.ids[::step]
    assert recall(index, store, allowed) > 0.98
    found = index.nearest(clustered(1, DIMENSIONS, seed=5), 50, allowed, store.written)
    assert {*found.tolist()} <= {*allowed.tolist()}
    assert len(index.nearest(clustered(1, DIMENSIONS), 50, allowed[:0], store.written)) == 0


def test_a_filter_that_lets_nothing_near_through_is_answered_by_bits(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all may be found, the half that is far away: the graph would find too few of them."""
    monkeypatch.setattr(vector_index, "SCANNED_PER_VIEW", 1)
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    query = clustered(1, DIMENSIONS, seed=5)[0]
    far = np.sort(store.exact(query, COUNT)[COUNT // 2 :])
    # The sign bits find it among more: 96 of them are few.
    assert look(index, store, query, 400, far) == store.exact(query, 10, far)
    for step in (1, 2, 5):
        assert recall(index, store, store.ids[::step]) > 0.98


def flipped(path: Path, at: int) -> None:
    """The file, replaced by one with another byte there."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.unlink()
    path.write_bytes(data)


def other_line(path: Path, **changed: Any) -> None:
    """The file with a last line that is whole, and says something else."""
    values = {name: getattr(read_header(path), name) for name in GraphHeader.__slots__} | changed
    path.write_bytes(path.read_bytes()[:-TRAILER_BYTES] + line_of(GraphHeader(**values)))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: path.unlink(), "none yet"),
    "empty": (lambda path: path.write_bytes(b""), "too short"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "last line"),
    "truncated in the middle": (lambda path: path.write_bytes(path.read_bytes()[:50_000]), "last line"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "last line"),
    "a piece is missing": (lambda path: path.write_bytes(path.read_bytes()[8:]), "bytes, not"),
    "the first byte": (lambda path: flipped(path, 0), "checksum"),
    "a byte of the graph": (lambda path: flipped(path, 100_000), "checksum"),
    "a byte of the ids": (lambda path: flipped(path, -TRAILER_BYTES - 1000), "checksum"),
    "a byte of the line": (lambda path: flipped(path, -TRAILER_BYTES + 60), "last line"),
    "the last byte": (lambda path: flipped(path, -1), "last line"),
    "another format": (lambda path: other_line(path, format=2), "format 2"),
    "another database": (lambda path: other_line(path, identity="you"), "another database"),
    "other dimensions": (lambda path: other_line(path, dimensions=95), "another database"),
}


@pytest.mark.parametrize("is_open", [False, True], ids=["before", "while open"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_graph_is_not_used_and_bits_serve(tmp_path: Path, store: Store, damage: str, is_open: bool) -> None:
    """Whatever is wrong with it, and whenever it became so; the reason is said, and a new one is used."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    if is_open:
        assert recall(index, store) > 0.98
        assert index.used == "hnsw"
    spoil, reason = DAMAGES[damage]
    spoil(graph_path(tmp_path, 1))
    assert recall(index, store) > 0.98
    assert index.used == "bits"
    assert reason in index.describe().graph_problem
    if damage == "a folder":
        graph_path(tmp_path, 1).rmdir()
    build(tmp_path, store)
    assert recall(index, store) > 0.98
    assert index.used == "hnsw"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_any_flipped_bit_and_any_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int, cut: bool
) -> None:
    """A graph that is not what it was could crash the process."""
    folder = tmp_path_factory.mktemp("x")
    store = Store(SPACE, clustered(100, DIMENSIONS))
    build(folder, store)
    path = graph_path(folder, 1)
    data = bytearray(path.read_bytes())
    at = int(share * len(data))
    data[at] ^= 1 << bit
    path.write_bytes(data[:at] if cut else data)
    with pytest.raises(Unusable):
        graph.open_graph(path, "me", DIMENSIONS)


def test_a_large_file_is_checked_beside_the_searches(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits serve meanwhile; then the graph does, and while a newer one is checked, the one before."""
    monkeypatch.setattr(graph_in_place, "AT_ONCE_BYTES", 0)
    go_on, opened = threading.Event(), graph_in_place.open_graph

    def slowly(*given: Any) -> Any:
        go_on.wait(10)
        return opened(*given)

    monkeypatch.setattr(graph_in_place, "open_graph", slowly)
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    assert recall(index, store) > 0.98
    assert (index.used, index.describe().graph_problem) == ("bits", "it is being checked")
    go_on.set()
    index.settle()
    assert recall(index, store) > 0.98
    assert index.describe().bits == 0
    go_on.clear()
    store.add(clustered(100, DIMENSIONS, seed=2))
    build(tmp_path, store)
    assert recall(index, store) > 0.98
    assert (index.used, index.describe().bits) == ("hnsw", 100)
    go_on.set()
    index.settle()
    assert recall(index, store) > 0.98
    assert (index.used, index.describe().bits) == ("hnsw", 0)


def test_a_graph_that_is_ahead_of_the_search_waits(tmp_path: Path, store: Store) -> None:
    """A search may have begun before the graph was built: what it cannot see it does not find."""
    earlier = Store(SPACE)
    earlier.vectors, earlier.last = dict(store.vectors), store.last
    store.add(clustered(10, DIMENSIONS, seed=2))
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    assert recall(index, earlier) > 0.98
    assert (index.used, index.describe().graph_problem) == ("bits", "it is newer than the search")
    assert recall(index, store) > 0.98
    assert index.used == "hnsw"


def test_a_database_that_went_back_does_not_use_the_graph_of_what_was(tmp_path: Path, store: Store) -> None:
    """It has grown since, and its ids stand for other vectors."""
    build(tmp_path, store)
    other = Store(SPACE, clustered(COUNT + 100, DIMENSIONS, seed=12))
    index = index_of(tmp_path, other)
    assert recall(index, other) > 0.98
    assert (index.used, index.describe().graph_problem) == ("bits", "it is of another state of the database")


def test_bits_serve_a_task_that_asks_for_them(tmp_path: Path, store: Store) -> None:
    """Though a graph is there."""
    build(tmp_path, store)
    index = index_of(tmp_path, store)
    index.nearest(clustered(1, DIMENSIONS), 10, None, store.written, IndexSettings())
    assert index.used == "bits"


def test_a_graph_is_built_once_at_a_time_and_a_killed_builder_leaves_nothing(tmp_path: Path, store: Store) -> None:
    """The second is told; a process that is killed in the middle loses its claim, and its leftovers are overwritten."""
    path = graph_path(tmp_path, 1)
    with pytest.raises(Busy), replacing(path):
        build(tmp_path, store)
    path.unlink(missing_ok=True)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -9
    assert [each.name for each in tmp_path.iterdir()] == ["1.hnsw.new"]
    index = index_of(tmp_path, store)
    assert recall(index, store) > 0.98
    assert index.used == "bits"
    build(tmp_path, store)
    assert [each.name for each in tmp_path.iterdir()] == ["1.hnsw"]
    assert recall(index, store) > 0.98
    assert index.used == "hnsw"


KILLED = """
import os, sys
from pathlib import Path
from lockstep.searching.index.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half of a graph")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_another_process_builds_and_this_one_takes_over(tmp_path: Path, store: Store) -> None:
    """The next search uses the file that was put in place."""
    index = index_of(tmp_path, store)
    assert recall(index, store) > 0.98
    assert index.used == "bits"
    subprocess.run([sys.executable, "-c", BUILDER, str(tmp_path)], check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert recall(index, store) > 0.98
    assert index.used == "hnsw"


BUILDER = """
import sys
from pathlib import Path
from unit.test_graph_index import COUNT, DIMENSIONS, SPACE, Store, build, clustered
build(Path(sys.argv[1]), Store(SPACE, clustered(COUNT, DIMENSIONS)))
"""


def test_a_build_that_is_stopped_or_fails_leaves_what_was_there(tmp_path: Path, store: Store) -> None:
    """Stopped between pages, or by an error of the disk."""
    before = build(tmp_path, store)
    stop, told = threading.Event(), []

    def progress(done: int) -> None:
        told.append(done)
        if done == 2000:
            stop.set()

    with pytest.raises(Stopped):
        build(tmp_path, store, progress=progress, stop=stop)
    assert told == [1000, 2000]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        build(tmp_path, store, progress=full)
    assert read_header(graph_path(tmp_path, 1)) == before
    assert [each.name for each in tmp_path.iterdir()] == ["1.hnsw"]


def test_a_full_disk_is_noticed_while_faiss_writes(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own writer passes over some errors; ours does not."""

    def write(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graph.Summed, "write", write)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path, store)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_into_memory_is_refused_before_it_is_taken(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed, and what there is."""
    monkeypatch.setattr(graph, "memory_available", lambda: 100 << 20)
    with pytest.raises(StoreError, match=r"takes up to 128 MiB of memory to build, and 100 MiB are free"):
        build(tmp_path, store)
    assert list(tmp_path.iterdir()) == []
    assert memory_needed(1_000_000, 384, 16) < 720 << 20


def test_memory_is_bounded_by_the_machine_and_by_every_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of them; what files take in the cache is given back when it is needed."""
    groups = tmp_path / "groups"
    (groups / "a" / "b").mkdir(parents=True)
    for name, text in {
        "info": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n",
        "group": "0::/a/b\n",
        "groups/a/memory.max": "4000000\n",
        "groups/a/memory.current": "3000000\n",
        "groups/a/memory.stat": "anon 7\ninactive_file 500000\n",
        "groups/a/b/memory.max": "max\n",
        "groups/a/b/memory.current": "5\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "info")
    monkeypatch.setattr(memory, "GROUP_OF_PROCESS", tmp_path / "group")
    monkeypatch.setattr(memory, "CGROUPS", groups)
    assert memory.memory_available() == 1_500_000
    (groups / "a" / "memory.max").write_text("max")
    assert memory.memory_available() == 5000 * 1024
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    assert memory.memory_available() is None


def test_nothing_has_no_graph(tmp_path: Path) -> None:
    """Said, and no file."""
    with pytest.raises(StoreError, match="no embeddings"):
        build(tmp_path, Store(SPACE))
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_index_are_checked() -> None:
    """Kind and numbers, and that they belong together."""
    assert IndexSettings() == IndexSettings(kind="bits")
    with pytest.raises(UnknownName):
        IndexSettings(kind="hsnw")  # type: ignore[arg-type]
    for wrong in ({"m": 3}, {"m": 16.0}, {"ef_construction": True}, {"ef_search": 10_001}):
        with pytest.raises(ConfigError, match="whole number"):
            IndexSettings(kind="hnsw", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='for an index of the kind "hnsw"'):
        IndexSettings(m=32)


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "delete", "build", "search", "search", "filter", "reopen", "spoil", "say"]),
        st.integers(0, 1 << 30),
    ),
    min_size=5,
    max_size=25,
)


@settings(deadline=None, max_examples=40)
@given(steps)
def test_any_history_finds_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]
) -> None:
    """With as many candidates as there ever were embeddings, a search is exact, whatever happened before."""
    folder, store = tmp_path_factory.mktemp("x"), Store(SPACE, clustered(30, DIMENSIONS))
    index = index_of(folder, store)
    for what, number in history:
        rng = np.random.default_rng(number)
        if what == "add":
            store.add(clustered(1 + number % 30, DIMENSIONS, seed=number))
        elif what == "delete" and len(store.vectors) > 12:
            store.delete(*rng.choice(store.ids, min(10, len(store.vectors) - 11), replace=False).tolist())
        elif what == "build":
            build(folder, store)
        elif what == "reopen":
            index.settle()
            index = index_of(folder, store)
        elif what == "spoil" and graph_path(folder, 1).exists():
            flipped(graph_path(folder, 1), number % graph_path(folder, 1).stat().st_size)
        else:
            allowed = store.ids[:: 1 + number % 3] if what == "filter" else None
            query = clustered(1, DIMENSIONS, seed=number)[0]
            found = index.nearest(query[None], store.last, allowed, store.written, HNSW)
            assert store.rescored(found, query, 10) == store.exact(query, 10, allowed)
            if what == "say":
                index.discard(np.setdiff1d(found, store.ids))
    index.settle()
