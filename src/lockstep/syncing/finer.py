"""What becomes of chunks before they are compared: those that a provider found too long are cut again, into halves, and
those again as long as it must be; for a model that wants to see them together, each learns of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection

from lockstep.chunking import chunk_texts
from lockstep.errors import DocumentUnreadable
from lockstep.storage import long_texts
from lockstep.storage.vectors import hash_text
from lockstep.syncing.job import Job
from lockstep.types import Chunk, Chunking, Text, Tokenizer


def finished(connection: Connection, job: Job, chunks: Mapping[Any, list[Chunk]]) -> dict[Any, list[Chunk]]:
    """The chunks of documents as they are stored; arguments as in `cut_finer`."""
    found = cut_finer(connection, job, chunks)
    if job.is_contextual:
        found = {key: in_context(some) for key, some in found.items()}
    return found


def in_context(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks of a document, each with what stands for all chunks of its text."""
    hashes: dict[str, Any] = {}
    for chunk in chunks:
        known = hashes.setdefault(chunk.path, blake2b(digest_size=16))
        known.update(hash_text(chunk.input))
    return [chunk._replace(context=hashes[chunk.path].digest()) for chunk in chunks]


def cut_finer(connection: Connection, job: Job, chunks: Mapping[Any, list[Chunk]]) -> dict[Any, list[Chunk]]:
    """The chunks of documents, without any that is known to be too long; nothing is looked up where none ever was.

    Args:
        connection: in a transaction.
        job: the task.
        chunks: by key.
    """
    found = dict(chunks)
    if not long_texts.any_there(connection, job.model_id):
        return found
    while too_long := too_long_among(connection, job, found.values()):
        for key, some in found.items():
            if any(chunk.input in too_long for chunk in some):
                found[key] = halved(some, too_long, job.chunking_of, job.model.tokenizer)
    return found


def too_long_among(connection: Connection, job: Job, chunks: Iterable[Sequence[Chunk]]) -> set[str]:
    """The texts that are known to be too long, and can be cut."""
    hashes = {hash_text(chunk.input): chunk for some in chunks for chunk in some if chunk.image is None}
    known = long_texts.among(connection, job.model_id, hashes)
    return {hashes[each].input for each in known if can_be_cut(hashes[each], job.model.tokenizer)}


def can_be_cut(chunk: Chunk, tokenizer: Tokenizer) -> bool:
    """Whether a chunk's text has more than one token."""
    return len(tokenizer.ids([chunk.text])[0]) > 1


def halved(
    chunks: Sequence[Chunk], too_long: set[str], chunking_of: Callable[[str], Chunking], tokenizer: Tokenizer
) -> list[Chunk]:
    """The chunks with those that are too long cut in two or three, numbered anew."""
    found: list[Chunk] = []
    positions: dict[str, int] = {}
    for chunk in chunks:
        for piece in halves(chunk, chunking_of(chunk.path), tokenizer) if chunk.input in too_long else (chunk,):
            position = positions.get(piece.path, 0)
            positions[piece.path] = position + 1
            found.append(piece._replace(position=position))
    return found


def halves(chunk: Chunk, chunking: Chunking, tokenizer: Tokenizer) -> list[Chunk]:
    """A chunk cut where its kind of text is best cut, each piece of about half its tokens."""
    most = -(-len(tokenizer.ids([chunk.text])[0]) // 2)
    # What is left of the markup in a chunk of HTML is its text.
    method = "text" if chunking.method in ("html", "none") else chunking.method
    finer = Chunking(method=method, overlap_tokens=min(chunking.overlap_tokens, most // 4))
    (pieces,) = chunk_texts([Text(chunk.path, chunk.text)], finer, most, tokenizer)
    assert not isinstance(pieces, DocumentUnreadable)
    return [
        piece._replace(start=piece.start + chunk.start, end=piece.end + chunk.start, prefix=chunk.prefix)
        for piece in pieces
    ]
