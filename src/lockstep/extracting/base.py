"""What every way to get texts out of a document offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lockstep.types import Text


class Extractor(Protocol):
    """Finds the texts of documents. Safe to use from several threads at once."""

    @property
    def reads(self) -> frozenset[str] | None:
        """Names at the top of a document that it may look at, whose changes are followed; None for any."""
        ...

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """The texts of a document, in order.

        Raises:
            DocumentUnreadable: it has none that can be read; says why, and where.
        """
        ...
