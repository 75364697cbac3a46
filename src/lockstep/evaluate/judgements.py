"""Reads judged queries: BEIR's queries.jsonl, and judgements as BEIR or as TREC writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import ImportInvalid, QueryError
from lockstep.importing.lines import read_lines
from lockstep.importing.strict_json import parse

Queries = Mapping[Any, str] | Sequence[str] | str | Path
"""Query id -> text; or texts alone, which are then numbered from 1; or the path of a file."""

Judgements = Mapping[Any, Mapping[Any, int]] | str | Path
"""Query id -> document id -> grade, or the path of a file."""

HEADS = ("query-id", "query_id", "qid", "query", "topic")
FORMS = 'Write "query-id", "corpus-id" and "score" separated by tabs (BEIR), or "query 0 document grade" (TREC).'


def read_queries(path: Path) -> dict[str, str]:
    """Texts by query id, of a file with an object `{"_id": …, "text": …}` on each line; `id` will do as well.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: a line has another form, an id has two texts, or there is none; says which.
    """
    found: dict[str, str] = {}
    for number, line in numbered(path):
        origin = f"{path.name} line {number}"
        query = parse(line, origin, one_line=True)
        query_id = query.get("_id", query.get("id")) if isinstance(query, dict) else None
        text = query.get("text") if isinstance(query, dict) else None
        if not isinstance(query_id, str | int) or not isinstance(text, str):
            raise ImportInvalid(f"{origin} is no query.", 'Write {"_id": "q1", "text": "what is asked"} on each line.')
        if found.setdefault(str(query_id), text) != text:
            raise ImportInvalid(f'{origin}: query "{query_id}" has another text further up.', "Keep one of the two.")
    if not found:
        raise ImportInvalid(
            f"{path.name} holds no queries.", 'Write {"_id": "q1", "text": "what is asked"} on each line.'
        )
    return found


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements: query-id, corpus-id and score with tabs, under a header or none; or `query 0 document grade`.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: a line has another form, a document has two grades, or there is none; says which.
    """
    found: dict[str, dict[str, int]] = {}
    trec: bool | None = None
    for number, line in numbered(path):
        if trec is None:
            trec = line.count("\t") != 2 and len(line.split()) == 4
            if not trec and is_header(line):
                continue
        origin = f"{path.name} line {number}"
        query_id, document_id, grade = judgement(line, origin, trec=trec)
        if found.setdefault(query_id, {}).setdefault(document_id, grade) != grade:
            raise ImportInvalid(
                f'{origin}: document "{document_id}" of query "{query_id}" has another grade further up.',
                "Keep one of the two.",
            )
    if not found:
        raise ImportInvalid(f"{path.name} holds no judgements.", FORMS)
    return found


def judgement(line: str, origin: str, *, trec: bool) -> tuple[str, str, int]:
    """Query id, document id and grade of a line.

    Raises:
        ImportInvalid: it has another form.
    """
    parts = line.split() if trec else line.split("\t")
    wanted = 4 if trec else 3
    try:
        if len(parts) == wanted:
            return parts[0], parts[-2], int(parts[-1])
    except ValueError as exc:
        raise ImportInvalid(f'{origin}: the grade is "{parts[-1]}", no whole number.', FORMS) from exc
    raise ImportInvalid(f"{origin}: {line[:80]!r} has {len(parts)} fields, not {wanted}.", FORMS)


def is_header(line: str) -> bool:
    """Whether a file's first line names its columns."""
    return line.split("\t")[0].strip().lower() in HEADS


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.isspace():
            yield number, line.rstrip("\r\n")


def given_queries(given: Queries) -> dict[str, str]:
    """Texts by id, of a file's path, a mapping or a list.

    Raises:
        QueryError: there is none, or one is no text.
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it has another form.
    """
    if isinstance(given, str | Path):
        return read_queries(Path(given))
    items = given.items() if isinstance(given, Mapping) else enumerate(given, 1)
    found = {str(query_id): text for query_id, text in items}
    if not found:
        raise QueryError("There are no queries.", "Give texts by their ids, or the path of a JSON Lines file.")
    for query_id, text in found.items():
        if not isinstance(text, str):
            raise QueryError(f'Query "{query_id}" is of type {type(text).__name__}.', "Give its text.")
    return found


def given_qrels(given: Judgements) -> dict[str, dict[str, int]]:
    """Grades by query and document id, of a file's path or a mapping.

    Raises:
        QueryError: there is none, or a grade is no whole number.
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it has another form.
    """
    if isinstance(given, str | Path):
        return read_qrels(Path(given))
    found = {str(query): {str(document): grade for document, grade in some.items()} for query, some in given.items()}
    if not any(found.values()):
        raise QueryError("There are no judgements.", 'Give them as {"query": {"document": 1}}, or the path of a file.')
    for query_id, grades in found.items():
        for document_id, grade in grades.items():
            if not isinstance(grade, int):
                raise QueryError(
                    f'The grade of document "{document_id}" of query "{query_id}" is {grade!r}, no whole number.'
                )
    return found
