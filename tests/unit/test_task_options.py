"""Options of the command line that say again what the settings may be."""

from __future__ import annotations

from lockstep.app.commands import task_options
from lockstep.types import CHUNKING_METHODS, FORMS, INDEX_KINDS, METRICS


def test_the_help_names_what_may_be_chosen() -> None:
    """All of it, in the same order."""
    assert ", ".join(CHUNKING_METHODS) == task_options.METHODS
    assert ", ".join(FORMS) == task_options.FORMS
    assert ", ".join(METRICS) == task_options.METRICS
    assert ", ".join(INDEX_KINDS) == task_options.INDEX_KINDS
