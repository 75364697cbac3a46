"""What came of embedding many texts: the vectors there are, the errors there were, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lockstep.errors import AccessRefused, BatchPending, BudgetSpent, ConfigError, LockstepError, ProviderUnavailable
from lockstep.types import Usage, Vectors


class Stopped(Exception):
    """Somebody asked to stop; nothing is wrong."""


INTERRUPTIONS = (ProviderUnavailable, AccessRefused, BudgetSpent, BatchPending, ConfigError, Stopped)
"""What ends a job: it is no single text's fault, and the other texts would meet it as well."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What came of a list of texts; every text is in `rows`, in `errors`, or was not come to."""

    rows: npt.NDArray[np.intp]
    """Positions of the texts that have a vector, shape (k,)."""
    vectors: Vectors
    """float32, shape (k, dimensions): row i for text `rows[i]`."""
    errors: dict[int, LockstepError] = field(default_factory=dict)
    """Position of each text that could not be embedded, and why."""
    interruption: Exception | None = None
    """One of `INTERRUPTIONS`: why it ended before the last text."""
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[npt.NDArray[np.intp], Vectors]],
        errors: dict[int, LockstepError] | None = None,
        interruption: Exception | None = None,
        usage: Usage = Usage(),  # noqa: B008 - it is frozen
    ) -> Embedded:
        """Put together (rows, vectors) that came part by part; without any, the vectors have the width 0."""
        if len(parts) == 1:
            rows, vectors = parts[0]
        else:
            rows = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, np.intp)
            vectors = np.concatenate([found for _, found in parts]) if parts else np.zeros((0, 0), np.float32)
        return cls(rows, vectors, errors or {}, interruption, usage)

    @classmethod
    def together(cls, found: Sequence[Embedded]) -> Embedded:
        """What came of several lists of texts whose positions do not overlap."""
        # A real reason, rather than that of those that were stopped because of it.
        interruptions = [each.interruption for each in found if each.interruption]
        interruptions.sort(key=lambda each: isinstance(each, Stopped))
        return cls.of(
            [(each.rows, each.vectors) for each in found if len(each.rows)],
            {row: error for each in found for row, error in each.errors.items()},
            interruptions[0] if interruptions else None,
            sum((each.usage for each in found), Usage()),
        )
