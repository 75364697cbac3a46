"""The usual way: the texts of some fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.extracting.paths import ImageReader, Path, extract
from lockstep.types import Text


class FieldsExtractor:
    """Finds the texts under paths."""

    def __init__(self, paths: Sequence[Path], images: ImageReader | None = None) -> None:
        """Prepare.

        Args:
            paths: of the fields; texts come in this order.
            images: finds images among the values, for a model that takes them.
        """
        self._paths = tuple(paths)
        self._images = images
        self.reads: frozenset[str] | None = frozenset(path.keys[0] for path in paths)

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        return extract(data, self._paths, document_id, self._images)
