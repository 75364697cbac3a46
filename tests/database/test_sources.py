"""Every way to get texts out of documents, through a task: followed, chunked, embedded, and listed where it fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import ConfigError, UnknownName
from lockstep.testing import HashModel

RAVEN = """
embeddings.generate({
   Name: this.Name,
   Description: text.splitParagraphs(this.Description, 16, 4).withContextPrefix(this.Name),
   Html: html.strip(this.Html, 256) });
"""
DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": "a",
        "Name": "Parka",
        "Description": "\n\n".join(f"Paragraph {n} says that it is warm." for n in range(6)),
        "Html": "<h1>Head</h1><script>no</script><p>one &amp; two</p>",
        "tags": ["x", "y"],
        "price": 7.5,
    },
    {"id": "b", "Name": "Tent", "Description": None, "tags": [], "price": 90},
]


@pytest.fixture
def model() -> HashModel:
    """Counts what it is asked."""
    return HashModel(dimensions=16)


@pytest.fixture
def db(path: Path, model: HashModel) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={"test:model": model}, functions={"mine": mine}) as database:
        database.collection("c").upsert(DOCUMENTS)
        yield database


def mine(document: dict[str, Any]) -> dict[str, Any]:
    return {"title": document["Name"].upper(), "tags": document["tags"]}


def texts_of(db: lockstep.Database) -> dict[tuple[Any, str, int], str]:
    return {(e.id, e.path, e.position): e.text for e in db.embeddings("task")}


def embed(db: lockstep.Database, source: str = "c", **settings: Any) -> dict[tuple[Any, str, int], str]:
    db.add_task("task", source, model="test:model", **settings)
    db.sync()
    assert db.check() == []
    return texts_of(db)


def test_a_template_makes_one_text_of_a_document(db: lockstep.Database) -> None:
    """With conditions and loops, values as texts have them, and nothing for what is missing."""
    template = (
        "{{ Name }} costs {{ price }}{% if tags %} ({% for t in tags %}{{ t }};{% endfor %}){% endif %}{{ none }}"
    )
    assert embed(db, template=template) == {
        ("a", "template", 0): "Parka costs 7.5 (x;y;)",
        ("b", "template", 0): "Tent costs 90",
    }


def test_a_script_of_ravendb_runs_as_it_is(db: lockstep.Database) -> None:
    """Its chunks fit, prefix included; the prefix goes to the model, and is no part of the text."""
    found = embed(db, script=RAVEN)
    assert {text for (key, path, _), text in found.items() if path == "Name"} == {"Parka", "Tent"}
    assert found["a", "Html", 0].split() == ["Head", "one", "&", "two"]
    pieces = [text for (_, path, _), text in found.items() if path == "Description"]
    assert len(pieces) >= 6
    assert all(text.startswith("Paragraph") or text.endswith(".") for text in pieces)
    assert not any("Parka" in text for text in pieces)


def test_a_prefix_is_embedded_with_the_text(path: Path) -> None:
    """And when it changes, the texts are embedded anew, though they are the same."""
    asked: list[str] = []

    class Listening(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            asked.extend(texts)
            return super().embed(texts, kind, tokens)

    with lockstep.open(path, models={"test:model": Listening(dimensions=16)}) as db:
        db.collection("c").upsert([{"id": "a", "Name": "Parka", "text": "It is warm."}])
        embed(db, fields={"text": {"context_prefix": "{{ Name }}:"}})
        assert asked == ["Parka: It is warm."]
        assert texts_of(db) == {("a", "text", 0): "It is warm."}
        db.collection("c").upsert([{"id": "a", "Name": "Anorak", "text": "It is warm."}])
        report = db.sync()
        assert (report.embedded, asked[1:]) == (1, ["Anorak: It is warm."])
        assert db.check() == []


def test_a_column_that_only_a_prefix_reads_is_followed(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """By a trigger of its own."""
    writer.execute("INSERT INTO t VALUES (1, 'warm', 5)")
    embed(db, "t", fields={"name": {"context_prefix": "{{ price }}"}})
    writer.execute("UPDATE t SET price = 6")
    assert db.sync().embedded == 1


def test_a_function_makes_texts(db: lockstep.Database) -> None:
    """One that the caller gave, by its name."""
    assert embed(db, function="mine") == {
        ("a", "title", 0): "PARKA",
        ("a", "tags[0]", 0): "x",
        ("a", "tags[1]", 0): "y",
        ("b", "title", 0): "TENT",
    }


def test_each_field_is_cut_in_its_own_way(db: lockstep.Database) -> None:
    """A mapping says how."""
    found = embed(
        db, fields={"Name": None, "Description": {"method": "paragraphs", "max_tokens": 10}, "Html": {"method": "html"}}
    )
    pieces = [text for (_, path, _), text in found.items() if path == "Description"]
    assert pieces == [f"Paragraph {n} says that it is warm." for n in range(6)]
    assert found["a", "Html", 0].split() == ["Head", "one", "&", "two"]
    assert found["b", "Name", 0] == "Tent"


def test_files_are_read_below_the_databases_folder(db: lockstep.Database, path: Path) -> None:
    """Beside ordinary fields; one that is missing, or lies elsewhere, is a listed document."""
    (path.parent / "manual.md").write_text("# Care\n\nWash it cold.", encoding="utf-8")
    (path.parent / "page.html").write_text("<p>Dry it <b>flat</b>.</p>", encoding="utf-8")
    db.collection("f").upsert(
        [
            {"id": "md", "title": "Care", "file": "manual.md"},
            {"id": "html", "title": "Drying", "file": "page.html"},
            {"id": "missing", "title": "None", "file": "nowhere.pdf"},
            {"id": "outside", "title": "Bad", "file": "../../etc/passwd"},
        ]
    )
    found = embed(db, "f", fields=["title"], files=["file"])
    assert found == {
        ("md", "title", 0): "Care",
        ("md", "file", 0): "# Care\n\nWash it cold.",
        ("html", "title", 0): "Drying",
        ("html", "file", 0): "Dry it flat.",
    }
    assert {error.id for error in db.errors("task")} == {"missing", "outside"}


FAILING: list[tuple[dict[str, Any], str]] = [
    (
        {"script": "embeddings.generate({a: this.Name});\nif (this.Name == 'Tent') throw new Error('no tents')"},
        "line 2",
    ),
    ({"script": "embeddings.generate({a: this.Name});\nwhile (this.Name == 'Tent') {}"}, "took more than"),
    (
        {"script": "const f = () => f();\nif (this.Name == 'Tent') f();\nembeddings.generate({a: 1})"},
        "calls itself too often",
    ),
    ({"template": "{{ Name }}\n{{ 1 / (price - 90) }}"}, "line 2"),
    ({"fields": {"Name": {"context_prefix": "{{ 1 / (price - 90) }}"}}}, "division"),
    ({"fields": {"Name": {"method": "none"}, "Description": {"method": "none", "max_tokens": 3}}}, "3"),
]


@pytest.mark.parametrize(
    ("settings", "says"), FAILING, ids=[next(iter(s)) + f" {n}" for n, (s, _) in enumerate(FAILING)]
)
def test_a_document_that_fails_is_listed_and_holds_up_nobody(
    db: lockstep.Database, settings: dict[str, Any], says: str
) -> None:
    """With the line where that is known; and is tried again when it changes."""
    found = embed(db, **settings)
    (error,) = db.errors("task")
    assert says in error.error
    other = {"a": "b", "b": "a"}[error.id]
    assert {key for key, _, _ in found} == {other}
    document = next(document for document in DOCUMENTS if document["id"] == error.id)
    db.collection("c").upsert([document | {"Name": "Other", "price": 1, "Description": "short"}])
    assert db.sync().complete
    assert db.errors("task") == []


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"template": "{{ Name"}, ConfigError, "line 1"),
        ({"template": "constant"}, ConfigError, "no field"),
        ({"script": "\nembeddings.generate({a: 1 + })"}, ConfigError, "line 2"),
        ({"script": "this.Name"}, ConfigError, "embeddings.generate"),
        ({"function": "nowhere.at:all"}, ConfigError, "nowhere"),
        ({"function": "mien"}, ConfigError, "mien"),
        ({"fields": {"Name": {"context_prefix": "{% if %}"}}}, ConfigError, "line 1"),
        ({"fields": ["Name"], "chunking": {"method": "markdwon"}}, UnknownName, "markdown"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    db: lockstep.Database, settings: dict[str, Any], kind: type[Exception], says: str
) -> None:
    """By `add_task`, with what is wrong."""
    with pytest.raises(kind, match=says):
        db.add_task("task", "c", model="test:model", **settings)
    assert db.tasks() == []


@pytest.mark.parametrize(
    "settings",
    [{"template": "{{ nam }}: {{ descripton }}"}, {"script": "embeddings.generate({a: this.nam})"}],
    ids=["template", "script"],
)
def test_a_program_that_looks_at_nothing_that_is_there_is_refused(
    db: lockstep.Database, settings: dict[str, Any]
) -> None:
    """A typo is not a task without texts; a name among others may be missing everywhere."""
    with pytest.raises(UnknownName, match="Description"):
        db.add_task("task", "c", model="test:model", **settings)
    found = embed(db, template="{{ Name }}{{ brand }}")
    assert found["a", "template", 0] == "Parka"


def test_text_in_a_column_is_json_only_where_it_holds_an_object_or_a_list(
    db: lockstep.Database, writer: sqlite3.Connection
) -> None:
    """A number, or what looks like one, is printed as it is written."""
    writer.execute("CREATE TABLE j (id INTEGER PRIMARY KEY, code TEXT, address TEXT, tags TEXT)")
    writer.execute("""INSERT INTO j VALUES (1, '1e5', '{"city": "Bern"}', '["x", "y"]')""")
    template = "{{ code }} {{ address.city }} {% for tag in tags %}{{ tag }};{% endfor %}"
    assert embed(db, "j", template=template)[1, "template", 0] == "1e5 Bern x;y;"


def test_a_prefix_looks_into_json_columns(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """As a template does."""
    writer.execute("CREATE TABLE j (id INTEGER PRIMARY KEY, text TEXT, address TEXT)")
    writer.execute("""INSERT INTO j VALUES (1, 'rain', '{"city": "Bern"}')""")
    db.add_task("task", "j", {"text": {"context_prefix": "{{ address.city }}"}}, model="test:model")
    (document,) = db.preview("task").documents
    assert document.chunks[0].prefix == "Bern "
