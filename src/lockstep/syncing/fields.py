"""Which columns and fields of a source does a task read, are they there, and how do they become texts?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path as Folder
from typing import Any

from sqlalchemy import Connection

from lockstep.errors import DocumentUnreadable, UnknownName
from lockstep.extracting import Extractor, Path, compile_path, extract
from lockstep.extracting.fields import FieldsExtractor
from lockstep.extracting.premade import PremadeExtractor
from lockstep.models.base import Model
from lockstep.models.images import find_image
from lockstep.recipe import Task
from lockstep.storage.base import Dialect, Source
from lockstep.storage.sources import DATA, SourceReader

SAMPLE = 1000
NAMES_SHOWN = 50

Functions = Mapping[str, Callable[[dict[str, Any]], Any]]
"""Python functions that make texts of documents, by the names that tasks call them."""


def extractor_of(task: Task, source: Source, model: Model | None, folder: Folder, functions: Functions) -> Extractor:
    """How a task's documents become texts.

    Args:
        task: the settings.
        source: what it embeds.
        model: whether images are wanted follows from it; None where nothing will be extracted.
        folder: where relative paths of files begin.
        functions: that the caller of `lockstep.open` gave.

    Raises:
        ConfigError: a template or script is wrong, or a function is not there.
    """
    if task.vectors is not None:
        dimensions = model.info.dimensions if model else task.dimensions
        return PremadeExtractor(path_in(source, task.vectors), dimensions)
    takes_images = model is not None and "image" in model.info.modalities
    images = partial(find_image, folder=folder) if takes_images else None
    fields = FieldsExtractor([path_in(source, path) for path in task.fields], images)
    return fields


def path_in(source: Source, text: str) -> Path:
    """A field's path; a table's column is taken by its whole name first, which may hold dots."""
    if source.kind == "table" and text in source.columns:
        return Path(text, (text,))
    return compile_path(text)


def columns_of(source: Source, task: Task, reads: frozenset[str] | None) -> tuple[str, ...]:
    """The columns of the source that a task reads, those that its filter looks at among them.

    Args:
        source: what it embeds.
        task: the settings.
        reads: what its extractor looks at.

    Raises:
        UnknownName: the table lacks one.
    """
    if source.kind == "collection":
        return (DATA,)
    if reads is None:
        return source.columns
    for column in sorted(reads - {*source.columns}):
        raise UnknownName(f'column in table "{source.name}" named', column, source.columns)
    looked_at = reads | filter_columns(task.where or {}, source)
    # In the order of the fields, which the triggers of older tasks have.
    first = [path_in(source, path).keys[0] for path in task.fields]
    return tuple(dict.fromkeys([*first, *(column for column in source.columns if column in looked_at)]))


def filter_columns(where: Any, source: Source) -> frozenset[str]:
    """The columns that a filter looks at."""
    if isinstance(where, Mapping):
        named = {name if name in source.columns else name.split(".")[0] for name in where if not name.startswith("$")}
        inner = [filter_columns(value, source) for name, value in where.items() if name.startswith("$")]
        return frozenset(named).union(*inner)
    if isinstance(where, list | tuple):
        return frozenset[str]().union(*(filter_columns(part, source) for part in where))
    return frozenset()


def json_columns_of(source: Source, task: Task, reads: frozenset[str] | None) -> frozenset[str]:
    """The columns of a table whose text is read as JSON: those that a path goes into, or that a program may."""
    if source.kind == "collection":
        return frozenset()
    if task.template is not None or task.script is not None or task.function is not None:
        return frozenset(source.columns if reads is None else reads)
    paths = [path_in(source, path) for path in (*task.fields, *task.files, *([task.vectors] if task.vectors else []))]
    inner = {path.keys[0] for path in paths if len(path.keys) > 1 or path.text.endswith("[]")}
    return frozenset(inner | ({task.vectors} if task.vectors else set()))


def check_fields(connection: Connection, dialect: Dialect, source: Source, task: Task) -> None:
    """Refuse a field that no document of a collection has, once it has documents.

    Raises:
        UnknownName: there is such a field; names the fields that there are.
    """
    if source.kind == "table":
        return
    reader = SourceReader(dialect, source, [DATA])
    wanted = (*task.fields, *task.files, *([task.vectors] if task.vectors else []))
    unseen = {path: compile_path(path) for path in wanted}
    names: set[str] = set()
    for rows in reader.all(connection, SAMPLE) if unseen else ():
        for row in rows:
            try:
                document = reader.data(row)
            except DocumentUnreadable:
                continue  # the sync will list it
            names.update(list(document)[:NAMES_SHOWN])
            unseen = {path: compiled for path, compiled in unseen.items() if not extract(document, (compiled,))}
        if not unseen:
            return
    if names:
        raise UnknownName(f'field in any document of "{source.name}" named', min(unseen), names)
