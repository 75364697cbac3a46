"""What must change for a document, as a comparison of values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lockstep.storage.embeddings import StoredChunk
from lockstep.syncing.plan import plan_document
from lockstep.types import Chunk

CHUNK = st.builds(
    lambda path, position, text: Chunk(path, position, text, 0, len(text)),
    st.sampled_from(["a", "b"]),
    st.integers(0, 3),
    st.sampled_from(["x", "y", "zz"]),
)
CHUNKS = st.lists(CHUNK, max_size=6, unique_by=lambda chunk: (chunk.path, chunk.position))


def stored(chunks: list[Chunk]) -> list[StoredChunk]:
    return [
        StoredChunk(number, "key", c.path, c.position, c.start, c.end, c.text, c.prefix, 100 + number)
        for number, c in enumerate(chunks, 1)
    ]


@given(old=CHUNKS, new=CHUNKS)
def test_following_the_plan_leads_to_what_should_be(old: list[Chunk], new: list[Chunk]) -> None:
    """Stored minus outdated plus added is the new document, and nothing is written that was right."""
    have = stored(old)
    plan = plan_document("key", new, have)
    left = [row.chunk for row in have if row.id not in plan.outdated]
    assert sorted(left + plan.add) == sorted(new)
    assert not set(left) & set(plan.add)
    assert plan.is_unchanged == (sorted(old) == sorted(new))


@given(chunks=CHUNKS)
def test_a_document_that_is_gone_loses_everything(chunks: list[Chunk]) -> None:
    """All its rows are outdated."""
    plan = plan_document("key", [], stored(chunks), is_gone=True)
    assert plan.outdated == [row.id for row in stored(chunks)]
    assert plan.is_gone


def test_rows_that_stand_twice_are_written_anew() -> None:
    """Damage is not kept."""
    chunk = Chunk("a", 0, "x", 0, 1)
    plan = plan_document("key", [chunk], stored([chunk, chunk]))
    assert plan.outdated == [1, 2]
    assert plan.add == [chunk]
