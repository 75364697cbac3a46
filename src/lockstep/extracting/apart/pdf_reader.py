"""Reads the text of PDF files, in a process of its own: `serving.py` calls `make`.

A request is a file. An answer is "+" and the pages' texts, joined by form feeds, or "-" and a JSON object with `message`
and `hint`.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pypdf
from pypdf.errors import DependencyError, LimitReachedError, PyPdfError


class PdfFault(Exception):
    """Why a file has no text; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def make(limits: dict[str, Any]) -> Callable[[bytes], bytes]:
    """What answers requests, one after the other."""
    logging.getLogger("pypdf").disabled = True
    warnings.simplefilter("ignore")

    def answer(request: bytes) -> bytes:
        try:
            found = text_of_pdf(request, limits["pages_max"], limits["characters_max"])
        except PdfFault as exc:
            return b"-" + json.dumps({"message": exc.message, "hint": exc.hint}).encode("ascii")
        return b"+" + found.encode("utf-8", "replace")

    return answer


def text_of_pdf(content: bytes, pages_max: int, characters_max: int) -> str:
    """The pages' texts, joined by form feeds.

    Raises:
        PdfFault: it is encrypted, damaged, too long, or has no text.
    """
    try:
        pages = list(_pages(content, pages_max, characters_max))
    except PdfFault:
        raise
    except MemoryError:
        raise PdfFault("takes too much memory", "Split it.") from None
    except LimitReachedError as exc:
        raise PdfFault(f"unpacks to more than is allowed: {exc}", "Split it.") from exc
    except DependencyError as exc:
        raise PdfFault(
            f"is encrypted in a way that needs another package: {exc}", "Run: pip install cryptography"
        ) from exc
    except PyPdfError as exc:
        raise PdfFault(f"is damaged: {exc}") from exc
    except Exception as exc:
        raise PdfFault(f"is damaged: {type(exc).__name__}: {exc}") from exc
    if not any(page.strip() for page in pages):
        raise PdfFault("has no text in it; its pages may be images", "Run text recognition (OCR) over it first.")
    return "\f".join(pages)


def _pages(content: bytes, pages_max: int, characters_max: int) -> Any:
    reader = pypdf.PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise PdfFault("is encrypted, and needs a password", "Store it without one.")
    if len(reader.pages) > pages_max:
        raise PdfFault(f"has {len(reader.pages)} pages, {pages_max} are the most", "Split it.")
    size = 0
    for page in reader.pages:
        text = page.extract_text()
        size += len(text)
        if size > characters_max:
            raise PdfFault(f"has more than {characters_max} characters", "Split it.")
        yield text
