"""The chunking stage: texts in, chunks out, each text tokenised at most once as a whole."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from lockstep.chunking.cutting import Cut, Limits, NoRoom, Source, cut, totals_of
from lockstep.chunking.methods import METHODS, Method, Reading
from lockstep.chunking.prefixes import HEADINGS_SHARE, Prefixes, written
from lockstep.chunking.structure import Places, places_in
from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.types import Chunk, Chunking, Text, Tokenizer, Tokens

_WINDOW = 1 << 20
"""Characters handed to the tokenizer in one call: what it makes of them takes a hundred times their size."""

_BLANK = re.compile(r"\s")


def limits_of(chunking: Chunking, max_tokens: int) -> Limits:
    """What a chunk may hold for a model that takes `max_tokens` tokens: the smaller of both.

    Raises:
        ConfigError: the overlap would fill a whole chunk.
    """
    most = max_tokens if chunking.max_tokens is None else min(chunking.max_tokens, max_tokens)
    if chunking.overlap_tokens >= most:
        raise ConfigError(
            f"overlap_tokens is {chunking.overlap_tokens}, and a chunk holds {most} tokens.",
            f"Give an overlap of {most - 1} or less.",
        )
    return Limits(most, chunking.overlap_tokens)


def chunk_texts(
    texts: Sequence[Text], chunking: Chunking, max_tokens: int, tokenizer: Tokenizer
) -> list[list[Chunk] | DocumentUnreadable]:
    """Cut texts into chunks that fit, each with its prefix.

    A text that cannot have too many tokens, by `tokenizer.tokens_max`, is not tokenised: it is one chunk whose `tokens`
    are None. Chunks with a prefix have none either; all others carry their tokens. A blank text has no chunk; blank
    edges belong to none. An image is one chunk, and so is a text that brings its vector along.

    Args:
        texts: the texts, any number of any length; a text's own `chunking` goes before the argument.
        chunking: how they are cut.
        max_tokens: what the model takes, its special tokens not counted; `chunking.max_tokens` may be less.
        tokenizer: the model's.

    Returns:
        Row i holds text i's chunks, in order, or why it cannot be cut: it is too long and must not be, its prefix
        leaves no room, or its own settings do not suit the model.

    Raises:
        ConfigError: `max_tokens` is less than 1, or not more than the overlap of `chunking`.
    """
    if max_tokens < 1:
        raise ConfigError(f"The model takes {max_tokens} tokens.", "Give 1 or more.")
    given = _Setting(chunking, METHODS[chunking.method], limits_of(chunking, max_tokens))
    own_setting = functools.lru_cache(1024)(functools.partial(_own_setting, max_tokens))
    prefix_cost = functools.lru_cache(1024)(functools.partial(_tokens_of, tokenizer))
    rows: list[list[Chunk] | DocumentUnreadable] = []
    jobs: list[_Job] = []
    for row, text in enumerate(texts):
        if text.image is not None or text.vector is not None:
            whole = Chunk(text.path, 0, text.text, 0, len(text.text), None, text.image, vector=text.vector)
            rows.append([whole])
            continue
        try:
            setting = given if text.chunking is None else own_setting(text.chunking)
            chunks = _uncounted(text, setting, tokenizer)
            if chunks is None:
                reading, prefixes = _read(text, setting, tokenizer, prefix_cost)
                chunks = _uncounted_parts(text.path, reading, prefixes, setting.limits, tokenizer)
            rows.append([] if chunks is None else chunks)
            if chunks is None:
                jobs += _jobs(row, text.path, setting, reading, prefixes, tokenizer)
        except DocumentUnreadable as exc:
            rows.append(exc)
    for job, cuts in _cut_all(jobs, tokenizer):
        found = rows[job.row]
        if isinstance(found, list):
            try:
                _add_chunks(found, texts[job.row].path, job, cuts)
            except DocumentUnreadable as exc:
                rows[job.row] = exc
    return rows


class _Setting(NamedTuple):
    """How a text is cut."""

    chunking: Chunking
    method: Method
    limits: Limits


class _Job(NamedTuple):
    """A part of a text that is cut by itself."""

    row: int
    path: str
    text: str
    """Without blank edges."""
    start: int
    """Where it begins in what the method reads."""
    setting: _Setting
    reading: Reading
    prefixes: Prefixes
    fits: bool
    """Whether it is known to fit, without tokenising it."""

    @property
    def is_long(self) -> bool:
        """Whether it is tokenised window by window."""
        return not self.fits and len(self.text) > _WINDOW


def _own_setting(max_tokens: int, chunking: Chunking) -> _Setting:
    """The setting that a text brings along: a wrong one is that document's fault alone."""
    try:
        return _Setting(chunking, METHODS[chunking.method], limits_of(chunking, max_tokens))
    except ConfigError as exc:
        raise DocumentUnreadable(exc.message, None, exc.hint) from exc


def _uncounted(text: Text, setting: _Setting, tokenizer: Tokenizer) -> list[Chunk] | None:
    """The one chunk of a text that is short enough as it stands, none of a blank one; None: not known so far."""
    stripped = text.text.strip()
    if not stripped:
        return []
    if not setting.method.one_if_short:
        return None
    limits, prefix = setting.limits, written(text.prefix) if text.prefix else ""
    if tokenizer.tokens_max(prefix + stripped) > limits.max_tokens:
        return None
    if prefix and tokenizer.tokens_max(prefix) >= limits.max_tokens - limits.overlap:
        return None
    start = 0 if len(stripped) == len(text.text) else len(text.text) - len(text.text.lstrip())
    return [Chunk(text.path, 0, stripped, start, start + len(stripped), None, None, None, prefix)]


def _read(
    text: Text, setting: _Setting, tokenizer: Tokenizer, prefix_cost: Callable[[str], int]
) -> tuple[Reading, Prefixes]:
    """A text as its method reads it, and what stands before its chunks."""
    limits = setting.limits
    fixed = written(text.prefix)
    cost = prefix_cost(fixed) if fixed else 0
    left = limits.max_tokens - cost
    if left <= limits.overlap:
        raise _no_room(text.path, cost, limits)
    reading = setting.method.read(text.text)
    most = min(limits.max_tokens // HEADINGS_SHARE, (left - limits.overlap) // 2) if setting.chunking.headings else 0
    return reading, Prefixes(fixed, cost, reading.structure.headings if most else (), most, tokenizer)


def _uncounted_parts(
    path: str, reading: Reading, prefixes: Prefixes, limits: Limits, tokenizer: Tokenizer
) -> list[Chunk] | None:
    """The chunks of a text, if every part of it is one without being counted."""
    if prefixes.any:
        return None
    pieces = [reading.text[start:end] for start, end in reading.parts]
    if any(tokenizer.tokens_max(piece) > limits.max_tokens for piece in pieces):
        return None
    placed = enumerate(zip(pieces, reading.parts, strict=True))
    return [Chunk(path, number, piece, start, end) for number, (piece, (start, end)) in placed]


def _jobs(
    row: int, path: str, setting: _Setting, reading: Reading, prefixes: Prefixes, tokenizer: Tokenizer
) -> list[_Job]:
    """The parts of a text."""
    jobs = []
    for start, end in reading.parts:
        part = reading.text[start:end]
        before = prefixes.text(prefixes.at(start)) if prefixes.any else ""
        fits = tokenizer.tokens_max(before + part) <= setting.limits.max_tokens
        jobs.append(_Job(row, path, part, start, setting, reading, prefixes, fits))
    return jobs


def _no_room(path: str, cost: int, limits: Limits) -> DocumentUnreadable:
    overlap = f" with an overlap of {limits.overlap}" if limits.overlap else ""
    return DocumentUnreadable(
        f'The context prefix of "{path}" has {cost} tokens, and a chunk holds {limits.max_tokens}{overlap}.',
        None,
        "Shorten the prefix, or allow chunks of more tokens.",
    )


def _tokens_of(tokenizer: Tokenizer, prefix: str) -> int:
    return len(tokenizer.encode([prefix.rstrip()])[0].ids)


def _cut_all(jobs: Sequence[_Job], tokenizer: Tokenizer) -> Iterator[tuple[_Job, Iterable[Cut]]]:
    """Every part with its pieces, in order; asking for those may raise DocumentUnreadable."""
    for batch in _batches(jobs):
        whole = [each.text for each in batch if not each.fits and not each.is_long]
        encoded = iter(tokenizer.encode(whole) if whole else ())
        for each in batch:
            if each.fits:
                yield each, (Cut(0, len(each.text), None, each.prefixes.at(each.start) if each.prefixes.any else -1),)
            elif each.setting.method.never_cut:
                yield each, _uncut(each, None if each.is_long else next(encoded), tokenizer)
            elif each.is_long:
                yield each, _cut_in_windows(each, tokenizer)
            else:
                yield each, _cut_window(each, next(encoded), tokenizer)


def _batches(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    """Parts that have about a window's characters together; one that is not tokenised at once counts as none."""
    batch: list[_Job] = []
    size = 0
    for job in jobs:
        batch.append(job)
        size += 0 if job.fits or job.is_long else len(job.text)
        if size >= _WINDOW:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _places(job: _Job, window: str, offset: int) -> Places:
    method = job.setting.method
    return places_in(window, offset, job.reading.structure, method.keep, method.overlap_whole)


def _cut_window(job: _Job, tokens: Tokens, tokenizer: Tokenizer) -> Iterator[Cut]:
    """Cut a part that is tokenised already."""
    places = functools.partial(_places, job, job.text, job.start)
    try:
        yield from cut(Source(job.text, tokens, places, job.prefixes, job.start), job.setting.limits, tokenizer)
    except NoRoom as exc:
        raise _no_room(job.path, job.prefixes.fixed_cost, job.setting.limits) from exc


def _cut_in_windows(job: _Job, tokenizer: Tokenizer) -> Iterator[Cut]:
    """Cut a part of any length with the memory that one window takes.

    The last three pieces of a window may have been cut by its edge: the next window begins with them.
    """
    text, limits = job.text, job.setting.limits
    start, reach, size = 0, 0, _WINDOW
    while start < len(text):
        window = text[start : start + size]
        shift = len(window) - len(window.lstrip())
        window = window.strip()
        is_last = start + size >= len(text)
        start += shift
        (tokens,) = tokenizer.encode([window])
        places = functools.partial(_places, job, window, job.start + start)
        source = Source(window, tokens, places, job.prefixes, job.start + start, max(reach - start, 0))
        try:
            cuts = cut(source, limits, tokenizer)
        except NoRoom as exc:
            raise _no_room(job.path, job.prefixes.fixed_cost, limits) from exc
        kept = cuts if is_last else cuts[:-3]
        for each in kept:
            yield each._replace(start=start + each.start, end=start + each.end)
        if is_last:
            return
        if kept:
            start, reach, size = start + cuts[-3].start, start + kept[-1].end, _WINDOW
        else:
            # One enormous word, or chunks as long as the window.
            size *= 2


def _uncut(job: _Job, tokens: Tokens | None, tokenizer: Tokenizer) -> Iterator[Cut]:
    """A part that must stay whole, if it fits."""
    limit = job.setting.limits.max_tokens
    total = job.prefixes.fixed_cost
    if tokens is None:
        # A text this long almost never fits: it is counted in pieces, and as a whole only if those say that it might.
        windows = list(_windows_of_words(job.text))
        total += sum(len(tokenizer.encode([window])[0].ids) for window in windows)
        if total - len(windows) <= limit:
            (tokens,) = tokenizer.encode([job.text])
    if tokens is not None:
        whole = Cut(0, len(job.text), tokens.ids)
        (total,) = totals_of(job.text, [whole], job.prefixes, tokenizer)
        if total <= limit:
            yield whole
            return
    prefixed = ", those of its context prefix among them," if job.prefixes.fixed else ""
    raise DocumentUnreadable(
        f'"{job.path}" has {total} tokens{prefixed} and must not be cut: a chunk holds {limit}.',
        None,
        'Use another chunking method than "none", or a model that takes longer texts.',
    )


def _windows_of_words(text: str) -> Iterator[str]:
    """A text in windows that end at white space."""
    start = 0
    while start < len(text):
        blank = _BLANK.search(text, start + _WINDOW)
        end = blank.start() if blank else len(text)
        yield text[start:end]
        start = end


def _add_chunks(chunks: list[Chunk], path: str, job: _Job, cuts: Iterable[Cut]) -> None:
    """Strip the pieces of a part, drop the blank ones, and number the rest after those that are there."""
    for each in cuts:
        piece = job.text[each.start : each.end]
        stripped = piece.strip()
        if stripped:
            start = job.start + each.start + len(piece) - len(piece.lstrip())
            prefix = job.prefixes.text(each.prefix) if job.prefixes.any else ""
            ids = None if prefix else each.ids
            chunks.append(Chunk(path, len(chunks), stripped, start, start + len(stripped), ids, prefix=prefix))
