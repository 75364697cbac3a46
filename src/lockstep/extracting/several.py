"""Several ways to get texts out of a document at once, such as fields and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.extracting.base import Extractor
from lockstep.types import Text


class SeveralExtractor:
    """The texts that each of some extractors finds, one after the other."""

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        """Put them together, in the order that their texts come in."""
        self._extractors = tuple(extractors)
        self.reads: frozenset[str] | None = frozenset()
        for each in extractors:
            self.reads = None if self.reads is None or each.reads is None else self.reads | each.reads

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        return [text for each in self._extractors for text in each.extract(data, document_id)]
