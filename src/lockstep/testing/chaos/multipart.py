"""Uploads: `multipart/form-data` taken apart."""

from __future__ import annotations

import re
from typing import NamedTuple

from lockstep.testing.chaos.http import Request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(r'[; ]name="([^"]*)"')
_FILENAME = re.compile(r'filename="([^"]*)"')


class Part(NamedTuple):
    """One field of a form."""

    filename: str
    """Empty where it is no file."""
    content: bytes


def form(request: Request) -> dict[str, Part]:
    """The fields of a request by name; empty where it is no form."""
    found = _BOUNDARY.search(request.headers.get("content-type", ""))
    if found is None:
        return {}
    parts: dict[str, Part] = {}
    for piece in (b"\r\n" + request.body).split(b"\r\n--" + found[1].encode())[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode("utf-8", "replace")
        name, filename = _NAME.search(text), _FILENAME.search(text)
        if name:
            parts[name[1]] = Part(filename[1] if filename else "", content)
    return parts
