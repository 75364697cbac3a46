"""MongoDB's Extended JSON, as `mongoexport` writes it: a document per line, or an array; canonical, relaxed or older."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import ImportInvalid
from lockstep.importing import mongo_values as mongo
from lockstep.importing.base import Imported
from lockstep.importing.lines import read_lines, read_whole
from lockstep.importing.strict_json import name_of, parse


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the documents of a file; of one with a document per line, one is held at a time.

    Values that JSON lacks become those that `mongo_values` says.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it is no JSON, a value is not what its key says, or a document has no id; says where.
    """
    for value, origin in _array(path) if _is_array(path) else _lines(path):
        if not isinstance(value, dict):
            raise ImportInvalid(f"{origin}: {name_of(value)}, not an object.", "Write one document per line.")
        yield mongo.imported_document(_fields(value, origin), id_field, origin)


def _is_array(path: Path) -> bool:
    for line in read_lines(path):
        if not line.isspace():
            return line.lstrip().startswith("[")
    return False


def _array(path: Path) -> Iterator[tuple[Any, str]]:
    for number, value in enumerate(parse(read_whole(path), str(path), one_line=False), 1):
        yield value, f"{path} element {number}"


def _lines(path: Path) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(read_lines(path), 1):
        if line.isspace():
            continue
        origin = f"{path} line {number}"
        if line.strip() == "{":
            raise ImportInvalid(f"{origin}: a document over several lines.", "Export it without --pretty.")
        yield parse(line.rstrip("\r\n"), origin, one_line=True), origin


def _fields(value: dict[str, Any], origin: str) -> dict[str, Any]:
    try:
        return {key: _plain(inner, origin) for key, inner in value.items()}
    except RecursionError as exc:
        raise ImportInvalid(f"{origin}: nested too deeply.") from exc


def _plain(value: Any, origin: str) -> Any:
    if isinstance(value, list):
        return [_plain(inner, origin) for inner in value]
    if not isinstance(value, dict):
        return value
    read_as = _KINDS.get(frozenset(value)) if 0 < len(value) <= _KEYS_MAX else None
    if read_as is None:
        return {key: _plain(inner, origin) for key, inner in value.items()}
    try:
        return read_as(value)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, binascii.Error) as exc:
        name = next(iter(value))
        shown = repr(value[name])
        raise ImportInvalid(f'{origin}: "{name}" holds {shown[:60]}{"…" if len(shown) > 60 else ""}.') from exc


# Each takes the whole object; whatever of Python's errors it raises means that the object is not what its key says.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(_text(value))


def _date(value: dict[str, Any]) -> Any:
    inner = value["$date"]
    if isinstance(inner, dict):
        return mongo.date(_whole(inner["$numberLong"]))
    # Before version 2, a number of milliseconds.
    return mongo.date(mongo.milliseconds_of(inner) if isinstance(inner, str) else _whole(inner))


def _double(value: dict[str, Any]) -> float | None:
    inner = value["$numberDouble"]
    return mongo.number(float(inner if isinstance(inner, int | float) else _text(inner)))


def _binary(value: dict[str, Any]) -> Any:
    inner = value["$binary"]
    content, subtype = (inner, value["$type"]) if "$type" in value else (inner["base64"], inner["subType"])
    return mongo.binary(base64.b64decode(_text(content), validate=True), int(_text(subtype), 16))


def _uuid(value: dict[str, Any]) -> Any:
    return mongo.binary(bytes.fromhex(_text(value["$uuid"]).replace("-", "")), mongo.SUBTYPE_UUIDS[1])


def _regular_expression(value: dict[str, Any]) -> str:
    if "$regex" in value:
        return mongo.regular_expression(_text(value["$regex"]), _text(value["$options"]))
    inner = value["$regularExpression"]
    return mongo.regular_expression(_text(inner["pattern"]), _text(inner["options"]))


def _timestamp(value: dict[str, Any]) -> dict[str, int]:
    return mongo.timestamp(_whole(value["$timestamp"]["t"]), _whole(value["$timestamp"]["i"]))


_KINDS: dict[frozenset[str], Callable[[dict[str, Any]], Any]] = {
    frozenset({"$oid"}): lambda value: _text(value["$oid"]),
    frozenset({"$date"}): _date,
    frozenset({"$numberInt"}): lambda value: _whole(value["$numberInt"]),
    frozenset({"$numberLong"}): lambda value: _whole(value["$numberLong"]),
    frozenset({"$numberDouble"}): _double,
    frozenset({"$numberDecimal"}): lambda value: mongo.decimal(_text(value["$numberDecimal"])),
    frozenset({"$binary"}): _binary,
    frozenset({"$binary", "$type"}): _binary,
    frozenset({"$uuid"}): _uuid,
    frozenset({"$regularExpression"}): _regular_expression,
    frozenset({"$regex", "$options"}): _regular_expression,
    frozenset({"$timestamp"}): _timestamp,
    frozenset({"$symbol"}): lambda value: _text(value["$symbol"]),
    frozenset({"$code"}): lambda value: _text(value["$code"]),
    frozenset({"$code", "$scope"}): lambda value: _text(value["$code"]),
    frozenset({"$dbPointer"}): lambda value: {
        "$ref": value["$dbPointer"]["$ref"],
        "$id": value["$dbPointer"]["$id"]["$oid"],
    },
    frozenset({"$undefined"}): lambda _: None,
    frozenset({"$minKey"}): lambda _: mongo.MIN_KEY,
    frozenset({"$maxKey"}): lambda _: mongo.MAX_KEY,
}
_KEYS_MAX = max(map(len, _KINDS))
