"""Every error Lockstep raises, one class per thing the caller can do about it.

LockstepError                 carries .hint, one sentence that says what to do
├── ConfigError               a setting is missing or wrong
│   ├── UnknownName           no such task, model, field or adapter; lists the nearest
│   └── MissingExtra          an optional package is not installed; also ImportError
├── SourceError
│   ├── SourceUnavailable     a file or table cannot be read (missing, no key, a view)
│   ├── ImportInvalid         a file's content is wrong; says file and line; nothing was changed
│   └── DocumentUnreadable    one document cannot be turned into text; carries document_id
├── ProviderError             carries provider, model, status
│   ├── ProviderUnavailable   timeout, connection, 5xx: wait and retry
│   │   ├── RateLimited       wait retry_after_s and retry
│   │   └── CircuitOpen       it failed again and again: nothing is sent for a while
│   ├── ProviderRejected      the request is wrong: never retried
│   │   ├── AccessRefused     key, account, model or certificate: until a person acts, every request fails
│   │   ├── TextTooLong       more tokens than the model takes; carries text, tokens, limit
│   │   └── ImageUnreadable   no image, damaged, or too large
│   ├── BudgetSpent           a cap on cost was reached; carries until
│   ├── BatchPending          a batch of the task is still at its provider; wait for it or cancel it
│   └── BadEmbedding          wrong count, wrong dimensions, NaN, infinite or zero vectors
├── StoreError
│   ├── StoreLocked           another program holds the database; wait and retry
│   ├── StoreReadOnly         the database file or its folder cannot be written
│   ├── StoreFull             no room on the disk
│   ├── StoreCorrupt          not a database, or damaged
│   ├── StoreInterrupted      a statement was ended, as was asked for
│   └── StoreTooNew           made by a newer Lockstep: upgrade
└── QueryError                empty query, bad filter, top_k out of range
    └── SearchStopped         a search took longer than timeout_s, or was cancelled

TextsCut                      a warning: texts lost their ends, as was asked for; carries tokens
PlainHTTP                     a warning: a connection sends texts and its key in the clear
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class LockstepError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what happened, with the values.
        hint: what to do about it, one sentence; shown after the message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigError(LockstepError):
    """A setting is missing or wrong; nothing was changed."""


class UnknownName(ConfigError):
    """A name that nothing here answers to.

    Args:
        what: the kind of thing, such as "task".
        name: the name that was asked for.
        known: the names that exist; the nearest is suggested, or all are listed.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        if near:
            hint = f'Did you mean "{near[0]}"?'
        elif names:
            shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            hint = f"Known: {shown}."
        else:
            hint = f"There is no {what} yet."
        super().__init__(f'There is no {what} "{name}".', hint)
        self.name = name


class MissingExtra(ConfigError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package.", f"Run: pip install 'lockstep[{extra}]'")
        self.extra = extra


class SourceError(LockstepError):
    """What should be read cannot be read."""


class SourceUnavailable(SourceError):
    """A file or table is missing, or cannot be followed as it is."""


class ImportInvalid(SourceError):
    """A file's content is wrong; the collection is as it was before the import."""


class DocumentUnreadable(SourceError):
    """One document cannot be turned into text; the others go on."""

    def __init__(self, message: str, document_id: object, hint: str = "") -> None:
        super().__init__(message, hint)
        self.document_id = document_id


class ProviderError(LockstepError):
    """A model could not embed.

    `status` is the HTTP status that its service answered with; None where it did not come to that.
    """

    status: int | None = None

    def __init__(self, message: str, hint: str = "", *, provider: str = "", model: str = "") -> None:
        super().__init__(message, hint)
        self.provider = provider
        self.model = model


class ProviderUnavailable(ProviderError):
    """Timeout, lost connection or a fault on the other side: the same request may succeed later."""


class RateLimited(ProviderUnavailable):
    """Too many requests; may be repeated after `retry_after_s` seconds."""

    def __init__(
        self, message: str, hint: str = "", *, retry_after_s: float = 1.0, provider: str = "", model: str = ""
    ) -> None:
        super().__init__(message, hint, provider=provider, model=model)
        self.retry_after_s = retry_after_s


class CircuitOpen(ProviderUnavailable):
    """A provider failed again and again, and is left alone for a while: trying again at once is of no use."""


class ProviderRejected(ProviderError):
    """The model refuses the request as it is; repeating it does not help."""


class AccessRefused(ProviderRejected):
    """The provider refuses whatever it is asked: its key, account, model, address or certificate is not right."""


class TextTooLong(ProviderRejected):
    """A text has more tokens than the model takes.

    Args:
        message: what happened.
        hint: what to do about it.
        text: its place among the texts that were given.
        tokens: how many it has, the model's special ones and its prompt not counted; None where a provider only says
            that they are too many.
        limit: how many it may have; None likewise.
        model: URI of the model.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        text: int = 0,
        tokens: int | None = None,
        limit: int | None = None,
        model: str = "",
    ) -> None:
        super().__init__(message, hint, model=model)
        self.text = text
        self.tokens = tokens
        self.limit = limit

    @classmethod
    def counted(cls, text: int, tokens: int, limit: int, model: str) -> TextTooLong:
        """The error for a text whose tokens were counted here."""
        return cls(
            f'Text {text} has {tokens} tokens, and model "{model}" takes {limit}.',
            f'Cut it into chunks, as a task does, or give truncate="end" to drop its last {tokens - limit} tokens.',
            text=text,
            tokens=tokens,
            limit=limit,
            model=model,
        )


class ImageUnreadable(ProviderRejected):
    """What was given as an image is none that can be embedded."""


class TextsCut(UserWarning):
    """Texts were longer than the model takes and were embedded without their ends.

    Args:
        tokens: how many were cut off, by the text's place among those given.
        model: URI of the model.
    """

    def __init__(self, tokens: dict[int, int], model: str) -> None:
        first, count = next(iter(tokens.items()))
        super().__init__(
            f'{len(tokens)} text(s) are longer than model "{model}" takes: {sum(tokens.values())} tokens were cut off, '
            f"{count} of them from text {first}."
        )
        self.tokens = tokens


class PlainHTTP(UserWarning):
    """A connection leads to another machine without encryption."""


class BudgetSpent(ProviderError):
    """More would cost more than is allowed; nothing more was sent.

    `until` is when the cap is over by itself, in seconds since 1970; None when it is not.
    """

    def __init__(self, message: str, hint: str = "", *, until: float | None = None) -> None:
        super().__init__(message, hint)
        self.until = until


class BatchPending(ProviderError):
    """A batch of the task is still at its provider; nothing else is sent, so that nothing is paid for twice."""


class BadEmbedding(ProviderError):
    """A model answered with vectors that must not be stored.

    `rows` holds the positions of the bad vectors, and `vectors` the whole answer, so that the good ones need not be
    bought again; empty and None when the answer is unusable as a whole.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        rows: tuple[int, ...] = (),
        vectors: npt.NDArray[np.float32] | None = None,
        provider: str = "",
        model: str = "",
    ) -> None:
        super().__init__(message, hint, provider=provider, model=model)
        self.rows = rows
        self.vectors = vectors


class StoreError(LockstepError):
    """The database could not do what was asked."""


class StoreLocked(StoreError):
    """Another program has held the database for longer than we wait."""


class StoreReadOnly(StoreError):
    """The database file, or the folder it lies in, cannot be written."""


class StoreFull(StoreError):
    """There is no room left; what was committed before is intact."""


class StoreCorrupt(StoreError):
    """The file is not a database, or is damaged."""


class StoreInterrupted(StoreError):
    """A statement was ended before it was done, because whoever began it asked for that."""


class StoreTooNew(StoreError):
    """A newer Lockstep wrote this database."""


class QueryError(LockstepError):
    """A search that cannot be answered as it was asked."""


class SearchStopped(QueryError):
    """A search took longer than its `timeout_s`, or was cancelled; nothing was changed."""
