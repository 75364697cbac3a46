"""What must change for a document: a pure comparison of the chunks it should have with those it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lockstep.storage.embeddings import StoredChunk
from lockstep.types import Chunk


class DocumentPlan(NamedTuple):
    """The way from what is stored to what should be."""

    key: Any
    add: list[Chunk]
    outdated: list[int]
    """Ids of embeddings to delete."""
    is_gone: bool = False
    """The document is no longer in its source."""

    @property
    def is_unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return not self.add and not self.outdated


def plan_document(
    key: Any,
    chunks: Sequence[Chunk],
    stored: Sequence[StoredChunk],
    *,
    is_gone: bool = False,
    is_contextual: bool = False,
) -> DocumentPlan:
    """Keep the chunks that are right, add those that are missing, delete the rest.

    Args:
        key: the document.
        chunks: what it should have, without two that are equal in path and position.
        stored: what it has.
        is_gone: it was deleted; `chunks` is empty.
        is_contextual: a chunk's vector depends on those around it, so that one that differs makes all outdated.
    """
    if not stored:
        return DocumentPlan(key, list(chunks), [], is_gone)
    have = {row[2:8]: row.id for row in stored}  # path, position, start, end, text, prefix
    add = [c for c in chunks if have.pop((c[0], c[1], c[3], c[4], c[2], c.prefix), None) is None]
    kept = len(chunks) - len(add)
    outdated = list(have.values())
    # Rows that say the same twice collapse in `have`; then none is trusted and all are written anew.
    if kept + len(outdated) != len(stored) or (is_contextual and (add or outdated)):
        return DocumentPlan(key, list(chunks), [row.id for row in stored], is_gone)
    return DocumentPlan(key, add, outdated, is_gone)
