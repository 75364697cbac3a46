"""The faults in what is embedded: wrong vectors, and answers that are spoiled after they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lockstep.testing.chaos.http import Reply
from lockstep.testing.chaos.protocols.base import Made


def spoiled_vectors(name: str, made: Made, rows: Sequence[int]) -> Made:
    """What a fault of the vectors leaves of them.

    Args:
        name: the fault's.
        made: as it should be.
        rows: the texts that `nan` and `zero` strike.
    """
    vectors = made.vectors
    if name == "wrong_count":
        return replace(made, vectors=vectors[:-1], indices=made.indices[:-1])
    if name == "wrong_order":
        return replace(made, vectors=vectors[::-1], indices=made.indices[::-1])
    if name == "wrong_dimensions":
        return replace(made, vectors=vectors[:, :-1])
    vectors = vectors.copy()
    struck = [place for place, index in enumerate(made.indices) if index in rows]
    if name == "nan":
        vectors[struck, :1] = np.nan
    else:
        vectors[struck] = 0
    return replace(made, vectors=vectors)


def spoiled_reply(name: str, reply: Reply) -> Reply:
    """What a fault of the finished answer leaves of it."""
    if name == "truncated_json":
        return replace(reply, body=reply.body[: len(reply.body) // 2])
    if name == "malformed_json":
        return replace(reply, body=reply.body[:-1] + b",]")
    return reply


def html_page(status: int) -> Reply:
    """What a proxy answers when it does not reach the service."""
    body = (
        f"<html>\r\n<head><title>{status}</title></head>\r\n<body><center><h1>{status}</h1></center>\r\n</body></html>"
    )
    return Reply(status=status, body=body.encode(), content_type="text/html")
