"""Every error has an exit code, said in one table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lockstep import errors
from lockstep.app.exits import EXIT_CODES, exit_code
from lockstep.errors import LockstepError


def family(kind: type[LockstepError]) -> Iterator[type[LockstepError]]:
    for child in kind.__subclasses__():
        yield child
        yield from family(child)


EVERY_ERROR = sorted(set(family(LockstepError)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.__name__)
def test_every_error_has_an_exit_code(kind: type[LockstepError]) -> None:
    """A new class of error must not leave scripts with a code that says nothing."""
    assert any(known in EXIT_CODES for known in kind.__mro__), f"{kind.__name__} is missing in EXIT_CODES"
    assert exit_code(kind.__new__(kind)) > 1


def test_codes_of_the_families_are_those_documented() -> None:
    """Scripts depend on these numbers: they do not change."""
    codes = {kind.__name__: code for kind, code in EXIT_CODES.items()}
    assert codes == {"ConfigError": 2, "QueryError": 2, "SourceError": 3, "ProviderError": 4, "StoreError": 5}


def test_all_errors_are_in_the_module_that_draws_the_tree() -> None:
    """The tree in the docstring of `lockstep.errors` is all there is."""
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in EVERY_ERROR if kind.__name__ not in drawn] == []
