"""Which columns and fields of a source does a task read, are they there, and how do they become texts?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path as Folder
from typing import Any

from sqlalchemy import Connection

from lockstep.errors import DocumentUnreadable, UnknownName
from lockstep.extracting import (
    Extractor,
    FieldsExtractor,
    FilesExtractor,
    FunctionExtractor,
    Path,
    Prefixes,
    ScriptExtractor,
    SeveralExtractor,
    TemplateExtractor,
    compile_path,
    compile_script,
    extract,
    load_function,
)
from lockstep.extracting.prefixed import PrefixedExtractor
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


class Extractors:
    """Makes and keeps what turns the documents of tasks into texts: scripts run in processes that are worth keeping."""

    def __init__(self, folder: Folder, functions: Functions) -> None:
        """Prepare.

        Args:
            folder: where the relative paths of files begin.
            functions: that the caller of `lockstep.open` gave.
        """
        self._folder = folder
        self._functions = functions
        self._scripts: dict[str, ScriptExtractor] = {}
        self._lock = threading.Lock()

    def of(self, task: Task, source: Source, model: Model | None) -> Extractor:
        """How a task's documents become texts.

        Args:
            task: the settings.
            source: what it embeds.
            model: whether images are wanted follows from it; None where nothing will be extracted.

        Raises:
            ConfigError: a template or script is wrong, or a function is not there.
            MissingExtra: a script or file needs a package that is not installed.
        """
        extractor = self._without_prefixes(task, source, model)
        if not any(each.context_prefix for each in (task.chunking, *task.field_chunking.values())):
            return extractor
        return PrefixedExtractor(extractor, prefixes_of(task))

    def close(self) -> None:
        """End the processes of scripts."""
        with self._lock:
            for script in self._scripts.values():
                script.close()
            self._scripts.clear()

    def _without_prefixes(self, task: Task, source: Source, model: Model | None) -> Extractor:
        if task.template is not None:
            return TemplateExtractor(task.template)
        if task.script is not None:
            return self._script(task.script)
        if task.function is not None:
            return FunctionExtractor(self._functions.get(task.function) or load_function(task.function), task.function)
        if task.vectors is not None:
            dimensions = model.info.dimensions if model else task.dimensions
            return PremadeExtractor(path_in(source, task.vectors), dimensions)
        takes_images = model is not None and "image" in model.info.modalities
        images = partial(find_image, folder=self._folder) if takes_images else None
        fields = FieldsExtractor([path_in(source, path) for path in task.fields], images)
        if not task.files:
            return fields
        files = [path_in(source, path) for path in task.files]
        return SeveralExtractor([fields, FilesExtractor(files, self._folder, task.field_chunking, task.chunking)])

    def _script(self, source: str) -> ScriptExtractor:
        with self._lock:
            if source not in self._scripts:
                self._scripts[source] = compile_script(source)
            return self._scripts[source]


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
    # What a script looks for may be missing: it is a name in JavaScript, not always of a field.
    for column in sorted(reads - {*source.columns}) if task.script is None else ():
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
    in_prefixes = prefixes_of(task).reads
    inner |= {*source.columns} if in_prefixes is None else in_prefixes
    return frozenset(inner | ({task.vectors} if task.vectors else set()))


def prefixes_of(task: Task) -> Prefixes:
    """The context prefixes of a task's texts.

    Raises:
        ConfigError: one of them is no template.
    """
    return Prefixes(task.chunking_at, [task.chunking, *task.field_chunking.values()])


def check_fields(
    connection: Connection, dialect: Dialect, source: Source, task: Task, reads: frozenset[str] | None
) -> None:
    """Refuse a field that no document of a collection has, once it has documents; of those that a template or script looks
    at, some may be missing everywhere, but not all.

    Args:
        connection: in a transaction.
        dialect: of the database.
        source: what is embedded.
        task: the settings.
        reads: what its extractor looks at.

    Raises:
        UnknownName: there is such a field; names the fields that there are.
    """
    if source.kind == "table":
        return
    reader = SourceReader(dialect, source, [DATA])
    wanted = (*task.fields, *task.files, *([task.vectors] if task.vectors else []))
    of_program = reads or frozenset() if not wanted else frozenset()
    unseen = {path: compile_path(path) for path in wanted} or {name: Path(name, (name,)) for name in of_program}
    names: set[str] = set()
    for rows in reader.all(connection, SAMPLE) if unseen else ():
        for row in rows:
            try:
                document = reader.data(row)
            except DocumentUnreadable:
                continue  # the sync will list it
            names.update(list(document)[:NAMES_SHOWN])
            missing = {path: compiled for path, compiled in unseen.items() if not extract(document, (compiled,))}
            unseen = {} if of_program and len(missing) < len(of_program) else missing
        if not unseen:
            return
    if names:
        raise UnknownName(f'field in any document of "{source.name}" named', min(unseen), names)
