"""`lockstep.toml`: read with all its faults at once, written so that it reads back the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.declared import Declared, escaped, read, to_toml
from lockstep.errors import ConfigError
from lockstep.models.remote.connection import Connection
from lockstep.recipe import DEMANDS, Task
from lockstep.types import CHUNKING_METHODS, FORMS, METRICS, Chunking, Form, IndexSettings

SECRET = "sk-proj-0123456789abcdef"

# Lines that end in CR LF, quotes in threes, escapes, control characters and what terminals hide: all that writers get wrong.
texts = st.text(max_size=40) | st.text("ab\r\n\t\"'\\#{}\x00\x7f\x85\u200b\u2028\u202e\ufeff\U0001f600", max_size=40)
filled = texts.filter(bool)
numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | numbers | floats | texts
filters = st.dictionaries(
    texts,
    st.recursive(
        values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@st.composite
def chunkings(draw: st.DrawFn) -> Chunking:
    """Any way to cut."""
    method = draw(st.sampled_from(CHUNKING_METHODS))
    max_tokens = draw(st.none() | st.integers(1, 1000))
    overlap = draw(st.integers(0, (max_tokens or 1000) - 1))
    headings = draw(st.booleans()) if method.startswith("markdown") else False
    return Chunking(
        method=method, max_tokens=max_tokens, overlap_tokens=overlap, context_prefix=draw(texts), headings=headings
    )


def making(draw: st.DrawFn) -> dict[str, Any]:
    """Where a task's texts come from."""
    way = draw(st.sampled_from(("fields", "files", "template", "script", "function", "vectors")))
    if way in ("fields", "files"):
        paths = draw(st.lists(st.sampled_from(("name", "address.city", "tags[]", "text")), min_size=1, unique=True))
        cut = {path: draw(chunkings()) for path in paths if draw(st.booleans())}
        return {way: tuple(paths), "field_chunking": cut}
    if way == "vectors":
        dimensions = draw(st.integers(1, 4096))
        return {"vectors": "vector", "dimensions": dimensions, "model": f"premade:{dimensions}"}
    return {way: draw(filled)}


@st.composite
def indexes(draw: st.DrawFn, form: Form) -> IndexSettings:
    """Any index of vectors in that form."""
    if form == "binary" or draw(st.booleans()):
        return IndexSettings()
    return IndexSettings(
        kind="hnsw",
        m=draw(st.just(16) | st.integers(4, 128)),
        ef_construction=draw(st.just(100) | st.integers(8, 2000)),
        ef_search=draw(st.just(300) | st.integers(8, 10_000)),
    )


@st.composite
def tasks(draw: st.DrawFn, name: str) -> Task:
    """Any task."""
    given: dict[str, Any] = {"model": draw(filled), **making(draw)}
    form = draw(st.sampled_from(FORMS))
    return Task(
        name=name,
        source=draw(texts),
        **given,
        where=draw(st.none() | filters),
        chunking=draw(chunkings()),
        query_chunking=draw(chunkings()),
        quantization=form,
        index=draw(indexes(form)),
        metric=draw(st.sampled_from(METRICS)),
        cache_days=draw(st.integers(0, 36_500)),
        query_cache_days=draw(st.just(14) | st.integers(0, 36_500)),
        batch_documents=draw(st.just(2048) | st.integers(1, 10_000)),
        concurrency=draw(st.just(4) | st.integers(1, 256)),
        max_cost_per_day=draw(st.none() | st.floats(0, 1e8) | st.integers(0, 100)),
        enabled=draw(st.booleans()),
    )


connections = st.builds(
    lambda kind, **given: Connection.create("eu", kind, **given),
    kind=st.just("openai"),
    base_url=st.none() | st.just("https://eu.example.com/v1"),
    api_key=st.none() | st.just("env:EU_KEY") | st.just('file:/a "b"/\\c\n'),
    requests_per_minute=st.none() | st.integers(1, 10_000),
    in_flight=st.none() | st.integers(1, 512),
    timeout_s=st.none() | st.floats(1, 3600) | st.integers(1, 3600),
    price_per_million_tokens=st.none() | st.floats(0, 1000),
    ca_file=st.none() | texts,
    organization=st.none() | texts,
)


def same(one: Declared, other: Declared) -> bool:
    """Whether two mean exactly the same: 1, 1.0 and true differ."""
    return [each.to_json() for each in one.connections.values()] == [
        each.to_json() for each in other.connections.values()
    ] and [each.to_json() for each in one.tasks.values()] == [each.to_json() for each in other.tasks.values()]


@settings(deadline=None, max_examples=100)
@given(connections, tasks("one"), tasks("two"))
def test_what_is_written_reads_back_the_same(connection: Connection, one: Task, two: Task) -> None:
    """`task show --toml` and `apply` are inverse, whatever characters the settings hold."""
    declared = Declared({"eu": connection}, {"one": one, "two": two})
    text = to_toml(declared)
    assert same(read(tomllib.loads(text)), declared)
    # What cannot be shown, or not by a terminal that only knows ASCII, is escaped, and means the same.
    assert not set(text) & {"\x7f", "\x85", "\u200b", "\u2028", "\u202e", "\ufeff"}
    plain = escaped(text, "[^\x00-\x7f]")
    assert plain.isascii()
    assert tomllib.loads(plain) == tomllib.loads(text)


def test_only_what_differs_from_the_default_is_written() -> None:
    """A file that a person reads says what is special, and the model, whose default is the environment's."""
    task = Task.create("shop", source="products", fields="name", cache_days=3, model="local:minilm")
    assert tomllib.loads(to_toml(Declared(tasks={"shop": task}))) == {
        "tasks": {"shop": {"source": "products", "fields": ["name"], "cache_days": 3, "model": "local:minilm"}}
    }


def test_a_script_is_written_in_lines() -> None:
    """A person edits it where it stands."""
    task = Task.create("a", source="t", script='let a = "b";\nembeddings.generate({a});\n')
    assert 'script = """\nlet a = \\"b\\";\nembeddings.generate({a});\n"""\n' in to_toml(Declared(tasks={"a": task}))


def test_every_setting_can_be_declared() -> None:
    """The file knows what `Task` and `Connection` know, a setting that comes tomorrow among them."""
    for name in DEMANDS:
        with pytest.raises(ConfigError) as caught:
            read({"tasks": {"a": {name: object()}}})
        assert f"tasks.a.{name}: it is of the type object, and must be" in str(caught.value)


def faults_of(text: str) -> list[str]:
    """The faults that reading finds, one each."""
    with pytest.raises(ConfigError) as caught:
        read(tomllib.loads(text))
    return [line.strip() for line in str(caught.value).split("\n")[1:]]


FAULTS = """
version = 1
[conections.x]
[connections.us]
kind = "openai"
organisation = "x"
in_flight = 0
timeout_s = true
[connections.az]
kind = "azure"
api_version = 2024-02-01
[connections.eu]
kind = "opnai"
[connections.none]
[tasks."Shop Search"]
source = "products"
feilds = ["name"]
[tasks.b]
fields = ["name", 3]
cache_days = true
concurrency = 1000
where = { day = { "$lt" = 2024-01-01 } }
chunking = { max_tokens = 0, methd = "text", overlap_tokens = 1.5 }
[tasks.c]
source = "products"
fields = "name"
cache_days = -1
script = "x"
template_file = "nothere.txt"
[tasks.c.field_chunking]
"a b" = { method = "md" }
[tasks.d]
source = "products"
name = "e"
fields = "name"
[tasks.e]
source = "products"
fields = "name"
cache_days = -1
field_chunking = { text = { max_tokens = 3 } }
"""
PLACES = [
    "version: there is no such table. Known: connections, tasks",
    'conections: there is no such table. Did you mean "connections"?',
    'connections.us.organisation: there is no such setting. Did you mean "organization"?',
    "connections.us.in_flight: in_flight is 0",
    "connections.us.timeout_s: it is true or false, and must be a number",
    "connections.az.api_version: it is a date or time",
    'connections.eu.kind: there is no such kind of connection. Did you mean "openai"?',
    "connections.none.kind: it is missing",
    'tasks."Shop Search": The task name',
    'tasks."Shop Search".feilds: there is no such setting. Did you mean "fields"?',
    "tasks.b.fields: it is a list of other than texts",
    "tasks.b.cache_days: it is true or false, and must be a whole number",
    "tasks.b.concurrency: concurrency is 1000",
    "tasks.b.where: dates are compared as texts",
    "tasks.b.chunking.max_tokens: max_tokens is 0",
    'tasks.b.chunking.methd: there is no such setting. Did you mean "method"?',
    "tasks.b.chunking.overlap_tokens: it is a number, and must be a whole number",
    "tasks.b.source: it is missing",
    "tasks.c.cache_days: cache_days is -1",
    "tasks.c.template_file: There is no file nothere.txt",
    'tasks.c.field_chunking."a b".method: There is no chunking method "md"',
    "tasks.d.name: there is no such setting. The name stands in the table's head",
    "tasks.e: There is no field of the task with a chunking of its own",
    "tasks.e.cache_days: cache_days is -1",
]


def test_all_faults_are_found_at_once_each_with_its_place() -> None:
    """A person mends a file in one go, from top to bottom."""
    found = faults_of(FAULTS)
    assert [line[: len(place)] for line, place in zip(found, PLACES, strict=True)] == PLACES


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{SECRET}"',
        f'search_api_key = "{SECRET}"',
        f'apikey = "{SECRET}"',
        f'base_url = "{SECRET}"',
        f'base_url = "https://user:{SECRET}@host/"',
        f'proxy = "http://host/?key={SECRET}"',
        f'requests_per_minute = "{SECRET}"',
        f'api_key = ["{SECRET}"]',
        f'api_key = {{ key = "{SECRET}" }}',
        f'api_key = "{SECRET}',
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    """A literal key reaches neither the database nor a message."""
    path = tmp_path / "lockstep.toml"
    path.write_text(f'[connections.eu]\nkind = "openai"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert SECRET[:12] not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[tasks.x]\nsource = "a\nfields=3', "line 2, column 12"),
        (b'[tasks.x]\nsource = """a\n\n', "at the end of the file, line 4"),
        (b"[tasks.x]\n[tasks.x]\n", "line 2, column 9"),
        (b'[tasks.x]\nsource = "\xff"\n', "not UTF-8 in line 2"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"1" * 5000, "no TOML"),
        (b"#" * 50_000_000, "larger than 1 MB"),
        (b"tasks = 3", "tasks: it is a whole number, and must be a table"),
        (b"[[tasks]]\n", "tasks: it is a list"),
        (b"[tasks]\nx = 1\n", "tasks.x: it is a whole number"),
        (b'[tasks.x]\nsource = "a"\nfields = "b"\nwhere = {' + b"a." * 2000 + b"a = 1}", "nested more than"),
        (b'[tasks.x]\nsource = "a"\nfields = "b"\nwhere = {a = nan}', "tasks.x.where: it has nan"),
        (b'[tasks.x]\nsource = "a"\nfields = "b"\nwhere = "[1]"', "the JSON is no object"),
        (b'[tasks.x]\nsource = "a"\nfields = "b"\nwhere = "{"', "the text is no JSON"),
        (b'[tasks.x]\nsource = "a"\nfields = "b"\nscript_file = "x\\u0000"', "tasks.x.script_file"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    """Line and column for what is no TOML, the place for the rest; never another exception."""
    path = tmp_path / "lockstep.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert said in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text("[]{}=\"'.,#\n\\ab1tasks-", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No file makes it raise anything but ConfigError."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    found: Declared | ConfigError
    try:
        found = read(path)
    except ConfigError as exc:
        found = exc
    assert str(path) in found.message if isinstance(found, ConfigError) else found.tasks == {}


def test_files_that_are_missing_or_are_folders_are_refused(tmp_path: Path) -> None:
    """With the way to get one."""
    with pytest.raises(ConfigError, match=r"There is no file .*--toml"):
        read(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="is not a file"):
        read(tmp_path)


def test_scripts_and_templates_may_lie_beside_the_file(tmp_path: Path) -> None:
    """Relative to the file, whatever the current folder is; lines end alike on every system."""
    (tmp_path / "embed.js").write_bytes(b"\xef\xbb\xbfa;\r\nb;\r\n")
    path = tmp_path / "lockstep.toml"
    path.write_text('[tasks.a]\nsource = "t"\nscript_file = "embed.js"\n', encoding="utf-8-sig")
    assert read(str(path)).tasks["a"].script == "a;\nb;\n"
    path.write_text('[tasks.a]\nsource = "t"\nscript_file = "embed.js"\nscript = "x"\n')
    with pytest.raises(ConfigError, match=r"tasks\.a\.script_file: script is given as well"):
        read(path)
    path.write_text('[tasks.a]\nsource = "t"\ntemplate_file = "sub/t.txt"\n')
    with pytest.raises(ConfigError, match=r"tasks\.a\.template_file: There is no file"):
        read(path)


def test_a_filter_with_null_is_json_in_a_text() -> None:
    """TOML has no null."""
    task = Task.create("a", source="t", fields="x", where={"gone": None, "n": 1})
    written = tomllib.loads(to_toml(Declared(tasks={"a": task})))
    assert written["tasks"]["a"]["where"] == '{"gone": null, "n": 1}'
    assert read(written).tasks["a"].where == {"gone": None, "n": 1}


def test_an_empty_file_declares_nothing(tmp_path: Path) -> None:
    """It is no error: `--remove` with it empties a database, after a question."""
    path = tmp_path / "a.toml"
    path.write_bytes(b"")
    found = read(path)
    assert (found.connections, found.tasks) == ({}, {})


def test_a_mapping_may_hold_what_python_has() -> None:
    """None is as if it were not given; a tuple is a list; what TOML could not hold is a fault."""
    found = read({"tasks": {"a": {"source": "t", "fields": ("x",), "template": None}}})
    assert found.tasks["a"].fields == ("x",)
    with pytest.raises(ConfigError, match="half a surrogate pair"):
        read({"tasks": {"a": {"source": "\ud800", "fields": "x"}}})
    with pytest.raises(ConfigError, match="its name is not a text"):
        read({"tasks": {1: {}}})
