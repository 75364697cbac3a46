"""Settings as a file: reads what `lockstep.toml` declares, with all its faults at once, and writes what is there."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date, time
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.recipe import DEFAULT_MODEL, DEMANDS, PREMADE, TEXTS_FROM, Task, check_name, chunking_from
from lockstep.types import Chunking

SIZE_MAX = 1_000_000
DEPTH_MAX = 40  # a filter may be 32 deep
FAULTS_SHOWN = 50
PLACE_DEPTH = 5  # tasks.NAME.field_chunking.FIELD.method

CONNECTIONS, TASKS = "connections", "tasks"
CHECKED_APART = ("source", "where", "chunking", "query_chunking", "field_chunking")
BESIDE = {name for name, demand in DEMANDS.items() if demand != "rebuild"} | {"where", "chunking"}
"""Settings without which a task is a task as well: the others can be looked at when these are wrong."""
FROM_FILES = {"template_file": "template", "script_file": "script"}
"""Settings that name a file, whose text is the value of another setting."""

# What does not reach a terminal as it is: it would move the cursor, reorder or hide. In TOML's strings all may be escaped.
HIDDEN = "[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """Connections and tasks by their names, each with all its settings."""

    connections: Mapping[str, Connection] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    origin: str = "The settings"
    """Where they were read, for messages."""


class Fault(NamedTuple):
    """What is wrong, and where."""

    place: Place
    problem: str

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {' '.join(self.problem.split())}"


def read(given: str | Path | Mapping[str, Any]) -> Declared:
    """What a file, or a mapping of the same form, declares.

    Args:
        given: path of a TOML file, or what it would hold; files that a mapping names are relative to the current folder.

    Raises:
        ConfigError: the file cannot be read or is no TOML, or has faults: all of them, one a line, each with its place.
    """
    if isinstance(given, Mapping):
        return Reader(Path(), "The mapping").read(given)
    path = Path(given)
    text = text_of(path, "Write one of what is there: lockstep task show DATABASE --toml > lockstep.toml")
    return Reader(path.parent, str(path)).read(parsed(text, path))


def text_of(path: Path, hint: str = "") -> str:
    """The text of a small file; lines end with a line feed, whatever they ended with.

    Raises:
        ConfigError: it is not there, is too large, or is no text.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file.")
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.", hint) from None
    except (OSError, ValueError) as exc:  # ValueError: a path with a NUL
        raise ConfigError(f"{path} cannot be read: {exc}.") from exc
    if len(data) > SIZE_MAX:
        raise ConfigError(f"{path} is larger than {SIZE_MAX // 1_000_000} MB.", "Settings are not; is it another file?")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path} is not UTF-8 in line {line}.", "Save it as UTF-8.") from exc


def parsed(text: str, path: Path) -> dict[str, Any]:
    """TOML as a mapping.

    Raises:
        ConfigError: it is none; names line and column.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        lines = text.count("\n") + 1
        problem = str(exc).replace("at end of document", f"at the end of the file, line {lines}")
        raise ConfigError(f"{path} is no TOML: {problem}.", "Nothing was changed.") from exc
    except RecursionError as exc:
        raise ConfigError(f"{path} is nested too deeply.", "Nothing was changed.") from exc
    except ValueError as exc:  # a number of thousands of digits
        raise ConfigError(f"{path} is no TOML: {exc}.", "Nothing was changed.") from exc


class Reader:
    """Reads one mapping, and gathers its faults. Values are never repeated where they may be keys."""

    def __init__(self, folder: Path, origin: str) -> None:
        self._folder = folder
        self._origin = origin
        self._faults: list[Fault] = []

    def read(self, given: Mapping[str, Any]) -> Declared:
        """All of it.

        Raises:
            ConfigError: with every fault.
        """
        known = self._known(given, (CONNECTIONS, TASKS), (), "table")
        connections = {name: self._connection(name, inner) for name, inner in self._tables(known, CONNECTIONS)}
        tasks = {name: self._task(name, inner) for name, inner in self._tables(known, TASKS)}
        if self._faults:
            raise ConfigError(in_lines(self._origin, [str(fault) for fault in in_order(self._faults, given)]))
        return Declared(
            {name: made for name, made in connections.items() if made},
            {name: made for name, made in tasks.items() if made},
            self._origin,
        )

    def _tables(self, given: Mapping[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables in a section, by their names."""
        found = given.get(section, {})
        if problem := type_problem(found, "a table"):
            self._fault((section,), problem)
            return
        for name, inner in found.items():
            problem = type_problem(inner, "a table") if isinstance(name, str) else "its name is not a text."
            if problem:
                self._fault((section, str(name)), problem)
            else:
                yield name, inner

    def _connection(self, name: str, given: dict[str, Any]) -> Connection | None:
        place = (CONNECTIONS, name)
        wanted = dict(CONNECTION_SETTINGS)
        kind = KINDS.get(given["kind"]) if isinstance(given.get("kind"), str) else None
        if "kind" not in given:
            self._fault(
                (*place, "kind"), f'it is missing. Say what the service speaks, for example "{next(iter(KINDS))}".'
            )
        elif isinstance(given["kind"], str) and kind is None:
            self._unknown((*place, "kind"), "kind of connection", given["kind"], KINDS)
        own = kind.settings if kind else {setting for each in KINDS.values() for setting in each.settings}
        wanted |= dict.fromkeys(own, OWN)
        settings = self._typed(given, wanted, place)
        settings |= {key: str(value).lower() for key, value in settings.items() if isinstance(value, bool)}
        if kind is None:
            return None
        settings.pop("kind")
        for setting in list(settings):
            try:
                Connection.create("x", given["kind"], **{setting: settings[setting]})
            except ConfigError as exc:
                self._fault((*place, setting), str(exc))
                del settings[setting]
        try:
            return Connection.create(name, given["kind"], **settings)
        except ConfigError as exc:
            self._fault(place, str(exc))
            return None

    def _task(self, name: str, given: dict[str, Any]) -> Task | None:
        place, before = (TASKS, name), len(self._faults)
        try:
            check_name(name)
        except ConfigError as exc:
            self._fault(place, str(exc))
        settings = self._typed(given, TASK_SETTINGS | dict.fromkeys(FROM_FILES, TEXT), place)
        if "source" not in given:
            self._fault((*place, "source"), 'it is missing. Name a collection or table, for example "products".')
        self._texts_of_files(settings, place)
        if "where" in settings:
            settings["where"] = self._filter(settings["where"], (*place, "where"))
        for setting in ("chunking", "query_chunking"):
            if setting in settings:
                settings[setting] = self._chunking(settings[setting], (*place, setting))
        if "field_chunking" in settings:
            settings["field_chunking"] = self._chunkings(settings["field_chunking"], (*place, "field_chunking"))
        self._alone(settings, place)
        return self._together(name, settings, self._faults[before:])

    def _together(self, name: str, settings: dict[str, Any], faults: Collection[Fault]) -> Task | None:
        """The task, where nothing is wrong; else find what is wrong with its settings together, as far as they are right."""
        broken = {fault.place[2] if len(fault.place) > 2 else "" for fault in faults}
        if not broken <= BESIDE:
            return None
        try:
            task = Task.create(name, **{key: value for key, value in settings.items() if key not in broken})
        except ConfigError as exc:
            self._fault((TASKS, name), str(exc))
            return None
        return None if broken else task

    def _texts_of_files(self, settings: dict[str, Any], place: Place) -> None:
        """Replace `script_file` by `script`, and its like."""
        for setting, other in FROM_FILES.items():
            if (name := settings.pop(setting, None)) is None:
                continue
            if other in settings:
                self._fault((*place, setting), f"{other} is given as well. Leave one.")
            try:
                settings[other] = text_of(self._folder / name)
            except ConfigError as exc:
                self._fault((*place, setting), str(exc))

    def _filter(self, where: Any, place: Place) -> Any:
        """A filter: a table, or a text that holds it as JSON, where null can be said."""
        if isinstance(where, str):
            try:
                where = json.loads(where)
            except (ValueError, RecursionError) as exc:
                self._fault(place, f"the text is no JSON: {exc}.")
                return None
            if not isinstance(where, dict):
                self._fault(place, 'the JSON is no object, such as {"price": {"$lt": 90}}.')
                return None
        if problem := value_problem(where):
            self._fault(place, problem)
        return where

    def _chunkings(self, given: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """The chunking of each field."""
        for name, inner in given.items():
            if problem := type_problem(inner, "a table"):
                self._fault((*place, name), problem)
        return {
            name: self._chunking(inner, (*place, name)) for name, inner in given.items() if isinstance(inner, Mapping)
        }

    def _chunking(self, given: Mapping[str, Any], place: Place) -> Chunking | None:
        before = len(self._faults)
        settings = self._typed(given, CHUNKING_SETTINGS, place)
        for setting, value in settings.items():
            try:
                chunking_from(({"method": "markdown"} if setting == "headings" else {}) | {setting: value})
            except ConfigError as exc:
                self._fault((*place, setting), str(exc))
        if len(self._faults) > before:
            return None
        try:
            return Chunking(**settings)
        except ConfigError as exc:
            self._fault(place, str(exc))
            return None

    def _alone(self, settings: Mapping[str, Any], place: Place) -> None:
        """Find what is wrong with each setting by itself: `Task` stops at the first."""
        for setting, value in settings.items():
            if setting in CHECKED_APART or value in ("", [], ()):
                continue  # what is empty is as if it were not given: together with the others, that may be right
            some_task = {"source": "s", "model": DEFAULT_MODEL} | companions(setting)
            try:
                Task.create("x", **some_task | {setting: value})
            except ConfigError as exc:
                self._fault((*place, setting), str(exc))

    def _typed(self, given: Mapping[str, Any], wanted: Mapping[str, str], place: Place) -> dict[str, Any]:
        """The settings that exist and have the right type; None is as if it were not given."""
        found = {}
        for setting, value in self._known(given, wanted, place, "setting").items():
            if value is None:
                continue
            if problem := type_problem(value, wanted[setting]):
                self._fault((*place, setting), problem)
            else:
                found[setting] = value
        return found

    def _known(self, given: Mapping[str, Any], known: Collection[str], place: Place, what: str) -> dict[str, Any]:
        """What has a name that exists."""
        for name in given:
            if name not in known:
                self._unknown((*place, str(name)), what, str(name), known)
        return {name: value for name, value in given.items() if name in known}

    def _unknown(self, place: Place, what: str, name: str, known: Collection[str]) -> None:
        hint = "The name stands in the table's head." if name == "name" else UnknownName(what, name, known).hint
        self._fault(place, f"there is no such {what}. {hint}")

    def _fault(self, place: Place, problem: str) -> None:
        self._faults.append(Fault(place, problem))


def companions(setting: str) -> dict[str, Any]:
    """What a task needs beside a setting for nothing else to be wrong with it."""
    if setting == "vectors":
        return {"dimensions": 1}
    if setting == "dimensions":
        return {"vectors": "v"}
    return {} if setting in (*TEXTS_FROM, "files") else {"fields": "f"}


# --- types -------------------------------------------------------------------------------------------------------------

TEXT = "a text"
OWN = "a text, true or false"
WORDS = {str: TEXT, bool: "true or false", int: "a whole number", float: "a number"}


def wanted_types(of: type[Any]) -> dict[str, str]:
    """What each setting of a dataclass takes, in words."""
    hints = get_type_hints(of)
    return {each.name: in_words(hints[each.name]) for each in fields(of) if each.name != "name"}


def in_words(hint: Any) -> str:
    """A type of a setting, in words that `type_problem` knows."""
    if isinstance(hint, UnionType):
        return in_words(next(inner for inner in get_args(hint) if inner is not NoneType))
    if get_origin(hint) is tuple:
        return "a text or a list of texts"
    return WORDS.get(hint) or (TEXT if all(isinstance(arg, str) for arg in get_args(hint) or [0]) else "a table")


CHUNKING_SETTINGS = wanted_types(Chunking)
TASK_SETTINGS = wanted_types(Task) | {"where": "a table, or a text that holds JSON", "index": "a text or a table"}
CONNECTION_SETTINGS = {name: words for name, words in wanted_types(Connection).items() if name != "settings"}


def type_problem(value: Any, wanted: str) -> str | None:
    """Why a value is not what is wanted; never the value."""
    found = found_in_words(value)
    fits = {
        TEXT: (TEXT,),
        OWN: (TEXT, "true or false"),
        "a number": ("a number", "a whole number"),
        "a text or a list of texts": (TEXT, "a list of texts"),
        "a table, or a text that holds JSON": (TEXT, "a table"),
        "a text or a table": (TEXT, "a table"),
    }
    if found in fits.get(wanted, (wanted,)):
        return None
    quotes = " Put it in quotes." if wanted in (TEXT, OWN) and found != "a table" and "list" not in found else ""
    return f"it is {found}, and must be {wanted}.{quotes}"


def found_in_words(value: Any) -> str:
    """What a value is."""
    if isinstance(value, list | tuple):
        return (
            "a list of texts" if all(found_in_words(item) == TEXT for item in value) else "a list of other than texts"
        )
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, date | time):
        return "a date or time"
    if isinstance(value, str) and not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
        return "a text with half a surrogate pair"
    return WORDS.get(type(value), f"of the type {type(value).__name__}")


def value_problem(value: Any, depth: int = 0) -> str | None:
    """Why a value cannot be part of a filter."""
    if depth > DEPTH_MAX:
        return f"it is nested more than {DEPTH_MAX} deep."
    if isinstance(value, date | time):
        return "dates are compared as texts: put them in quotes."
    if isinstance(value, float) and not math.isfinite(value):
        return f"it has {value}, which nothing can be compared with."
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            return "a name in it is not a text."
        value = list(value.values())
    elif value is None or found_in_words(value) in WORDS.values():
        return None
    if isinstance(value, list | tuple):
        return next((problem for inner in value if (problem := value_problem(inner, depth + 1))), None)
    return f"it has a value {found_in_words(value)}."


# --- messages ----------------------------------------------------------------------------------------------------------


def dotted(place: Place) -> str:
    """A place as it is written in TOML: `tasks.shop-search."odd name"`."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in place)


def in_order(faults: Collection[Fault], given: Mapping[str, Any]) -> list[Fault]:
    """Faults from the top of what was given to its bottom; in each table, what is missing comes last."""
    numbers = {place: number for number, place in enumerate(places(given))}
    return sorted(
        faults,
        key=lambda fault: [numbers.get(fault.place[:end], len(numbers)) for end in range(1, len(fault.place) + 1)],
    )


def places(given: Any, within: Place = ()) -> Iterator[Place]:
    """Every place in tables that may have faults."""
    if isinstance(given, Mapping) and len(within) < PLACE_DEPTH:
        for name, inner in given.items():
            place = (*within, str(name))
            yield place
            yield from places(inner, place)


def in_lines(origin: str, faults: Collection[str]) -> str:
    """A message of several lines."""
    head = f"{origin} has {len(faults)} fault{'s' if len(faults) > 1 else ''}; nothing was changed."
    rest = [f"… and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
    return "\n  ".join([head, *list(faults)[:FAULTS_SHOWN], *rest])


# --- writing -----------------------------------------------------------------------------------------------------------


def to_toml(declared: Declared) -> str:
    """TOML that `read` gives back as it was: settings that have their default are left out, but for the model.

    Source: https://toml.io/en/v1.0.0; every string is a basic one, where any character may stand as an escape.
    """
    import tomli_w

    tables = [{CONNECTIONS: {name: of_connection(each)}} for name, each in declared.connections.items()]
    tables += [{TASKS: {name: of_task(each)}} for name, each in declared.tasks.items()]
    # A line of a text that ends with CR LF would lose its CR, since TOML may change how lines end.
    texts = [tomli_w.dumps(table, multiline_strings="\\r\\n" not in tomli_w.dumps(table)) for table in tables]
    return escaped("\n".join(texts))


def escaped(toml: str, characters: str = HIDDEN) -> str:
    """TOML with these characters (a regular expression) as escapes; they stand only in strings and quoted names."""
    return re.sub(characters, lambda found: f"\\U{ord(found[0]):08X}", toml)


def of_connection(connection: Connection) -> dict[str, Any]:
    """The settings of a connection that differ from the defaults."""
    return {**differing(connection, {"name", "settings"}), **connection.settings}


def of_task(task: Task) -> dict[str, Any]:
    """The settings of a task that differ from the defaults; the model always, whose default is the environment's."""
    apart = {"name", "index", "chunking", "query_chunking", "field_chunking"}
    found = differing(task, apart) | {"model": task.model}
    if task.model == f"{PREMADE}:{task.dimensions}":
        del found["model"]
    if task.where is not None and has_null(task.where):
        found["where"] = json.dumps(task.where, ensure_ascii=False)  # TOML has no null
    if indexed := differing(task.index):
        found["index"] = indexed if len(indexed) > 1 else task.index.kind
    for name in ("chunking", "query_chunking"):
        if chunked := differing(getattr(task, name)):
            found[name] = chunked
    if task.field_chunking:
        found["field_chunking"] = {path: differing(how) for path, how in task.field_chunking.items()}
    return found


def differing(settings: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """The settings of a dataclass that differ from their defaults."""
    values = asdict(settings)
    return {
        each.name: values[each.name]
        for each in fields(settings)
        if each.name not in without and getattr(settings, each.name) != each.default
    }


def has_null(value: Any) -> bool:
    """Whether a filter asks for what is not there."""
    if isinstance(value, Mapping):
        return any(has_null(inner) for inner in value.values())
    return any(has_null(inner) for inner in value) if isinstance(value, list | tuple) else value is None
