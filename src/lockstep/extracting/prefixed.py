"""Texts with the context prefixes that their chunking asks for, rendered for each document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.extracting.base import Extractor
from lockstep.extracting.template import Prefixes
from lockstep.types import Text


class PrefixedExtractor:
    """The texts of another extractor, each with its prefix."""

    def __init__(self, extractor: Extractor, prefixes: Prefixes) -> None:
        """Put them together; fields that only a prefix reads are followed, too."""
        self._extractor = extractor
        self._prefixes = prefixes
        both = (extractor.reads, prefixes.reads)
        self.reads = None if both[0] is None or both[1] is None else both[0] | both[1]

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        return self._prefixes.write(self._extractor.extract(data, document_id), data, document_id)
