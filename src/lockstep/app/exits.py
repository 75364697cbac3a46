"""Exit codes: one per class of error, so that a script can tell what happened."""

from __future__ import annotations

from lockstep.errors import (
    ConfigError,
    LockstepError,
    ProviderError,
    QueryError,
    SourceError,
    StoreError,
)

OK = 0
NOT_WELL = 1
"""It ran, and something is not all right: failed documents, problems found, a model that could not be reached."""
INTERRUPTED = 130

EXIT_CODES: dict[type[LockstepError], int] = {
    ConfigError: 2,
    QueryError: 2,
    SourceError: 3,
    ProviderError: 4,
    StoreError: 5,
}


def exit_code(error: LockstepError) -> int:
    """The code of the nearest class that has one."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    return NOT_WELL
