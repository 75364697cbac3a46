"""Scripts: RavenDB's run as they are, nothing gets out of hand, and a run leaves nothing for the next."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from lockstep.errors import ConfigError, DocumentUnreadable, MissingExtra
from lockstep.extracting import ScriptLimits, compile_script
from lockstep.types import Chunking, Text

RAVEN = """embeddings.generate({
   Name: this.Name,                                            // default ChunkingOptions
   Description: text.splitParagraphs(this.Description, 512, 64).withContextPrefix(this.Name),
   Html: html.strip(this.Html, 256) });
"""
QUICK = ScriptLimits(seconds=0.2)
GENERATE = "\nembeddings.generate({ Name: this.Name });"


def texts(source: str, data: Mapping[str, Any] | None = None) -> list[Text]:
    return compile_script(source).extract(data or {"Name": "Parka"}, 7)


def written(source: str, data: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(text.path, text.text) for text in texts(source, data)]


def failure(source: str, limits: ScriptLimits) -> str:
    """What a document's error says; the next one must work."""
    extractor = compile_script(f"if (this.Name) {{ {source}\n}} embeddings.generate({{ Done: 'yes' }})", limits)
    with pytest.raises(DocumentUnreadable) as raised:
        extractor.extract({"Name": "Parka"}, 7)
    assert raised.value.document_id == 7
    assert [text.path for text in extractor.extract({}, 8)] == ["Done"]
    return str(raised.value)


def test_the_script_of_the_reference_runs_as_it_is() -> None:
    """A user of RavenDB copies a script, and it does the same."""
    document = {"Name": "Parka", "Description": "Warm.\n\nDry.", "Html": "<p>S, M</p>", "Other": 1}
    extractor = compile_script(RAVEN)
    assert extractor.extract(document, 1) == [
        Text("Name", "Parka"),
        Text(
            "Description",
            "Warm.\n\nDry.",
            chunking=Chunking(method="paragraphs", max_tokens=512, overlap_tokens=64),
            prefix="Parka",
        ),
        Text("Html", "<p>S, M</p>", chunking=Chunking(method="html", max_tokens=256)),
    ]
    assert extractor.reads == {"Name", "Description", "Html"}


@pytest.mark.parametrize(
    ("call", "method"),
    [
        ("text.split(this.Name, 9)", "text"),
        ("text.splitLines(this.Name, 9)", "lines"),
        ("text.splitParagraphs(this.Name, 9)", "paragraphs"),
        ("text.splitParagraphs([this.Name], 9, 3)", "paragraphs"),
        ("markdown.splitLines(this.Name, 9)", "markdown-lines"),
        ("markdown.splitParagraphs(this.Name, 9, 3)", "markdown"),
        ("html.strip(this.Name, 9)", "html"),
    ],
)
def test_a_helper_says_how_its_text_is_cut(call: str, method: str) -> None:
    """Cutting is done where all cutting is done; the script only says how."""
    (text,) = texts(f"embeddings.generate({{ Name: {call} }})")
    assert text.chunking
    assert (text.chunking.method, text.chunking.max_tokens, text.text) == (method, 9, "Parka")
    assert text.chunking.overlap_tokens == (3 if ", 3)" in call else 0)
    assert text.path == ("Name[0]" if "[" in call else "Name")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ("{ a: 'x', b: null, c: undefined }", [("a", "x")]),
        ("{ a: ['x', null, 'y'] }", [("a[0]", "x"), ("a[2]", "y")]),
        ("{ a: ['x', text.split(['y', 'z'], 5)] }", [("a[0]", "x"), ("a[1]", "y"), ("a[2]", "z")]),
        ("{ a: 12, b: 1.5, c: true, d: 10n }", [("a", "12"), ("b", "1.5"), ("c", "true"), ("d", "10")]),
        ("{ a: { x: [1, 'ü'] }, b: [[1]] }", [("a", '{"x":[1,"ü"]}'), ("b[0]", "[1]")]),
        ("{ a: new Date(0), b: text.split(null, 5) }", [("a", "1970-01-01T00:00:00.000Z")]),
        ("{ a: 'x\\u0000y\\ud800' }", [("a", "x y\ufffd")]),
        ("{ a: '' }", [("a", "")]),
        ("{}", []),
    ],
)
def test_values_become_texts_as_everywhere(values: str, found: list[tuple[str, str]]) -> None:
    """What is null is left out; numbers, dates and objects are written out."""
    assert written(f"embeddings.generate({values})") == found


def test_several_calls_are_merged() -> None:
    """A later call adds to the same name, also from a loop."""
    assert written("embeddings.generate({a: 'x', b: '1'}); embeddings.generate({a: ['y', 'z']})") == [
        ("a[0]", "x"),
        ("a[1]", "y"),
        ("a[2]", "z"),
        ("b", "1"),
    ]
    loop = "for (const tag of this.tags) embeddings.generate({ Tag: tag })"
    assert written(loop, {"tags": ["p", "q"]}) == [("Tag[0]", "p"), ("Tag[1]", "q")]


def test_the_nearest_prefix_wins() -> None:
    """On a value, on a list, on a chunked value, and on all that is generated."""
    source = """embeddings.generate({
        a: 'x', b: 'y'.withContextPrefix('B'), c: ['z'].withContextPrefix('C'), d: text.split('w', 5).withContextPrefix('D')
    }).withContextPrefix('all'); embeddings.generate({ e: 'v' })"""
    assert [(text.path, text.prefix) for text in texts(source)] == [
        ("a", "all"),
        ("b", "B"),
        ("c[0]", "C"),
        ("d", "D"),
        ("e", ""),
    ]


def test_a_script_may_say_nothing_of_a_document() -> None:
    """A condition that lets no document through is no error."""
    assert texts("if (this.public) embeddings.generate({ Name: this.Name })") == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("var a = 1;", "nowhere calls embeddings.generate"),
        ("// embeddings.generate({})\nvar a = 1", "nowhere calls embeddings.generate"),
        ("embeddings.generate({\n a: 1 +\n* 2 })", "line 3"),
        ("embeddings.generate({}", "cannot be compiled"),
        ("}); (function () { embeddings.generate({})", "cannot be compiled"),
        ("embeddings.generate({}) /*", "cannot be compiled"),
        ("embeddings.generate({a: '\x00'})", "NUL"),
        ("embeddings.generate({});" + " " * 100_000, "characters"),
        (3, "type int"),
    ],
)
def test_a_wrong_script_is_refused_at_once(source: Any, says: str) -> None:
    """Before any document is touched, with the line."""
    with pytest.raises(ConfigError, match=says):
        compile_script(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("\n\nthrow new Error('boom')", "failed in line 3: Error: boom"),
        ("\nnull.x", "failed in line 2: TypeError: cannot read property 'x' of null"),
        ("\n[1].map(one => one.y.z)", "failed in line 2: TypeError"),
        ("throw 5", "5"),
        ("throw { message: 'mine' }", "mine"),
        ("throw null", "The script"),
        ("nothing.here()", "'nothing' is not defined"),
        ("\ntext.split(this.Name)", "line 2: TypeError: text.split takes 2 arguments, not 1"),
        ("text.splitLines(this.Name, 5, 1)", "takes 2 arguments, not 3"),
        ("text.splitParagraphs('a', 5, 5)", "would fill a chunk"),
        ("html.strip(5, 5)", "was given number"),
        ("text.split(['a', {}], 5)", "was given object in it"),
        ("text.split('a', '5')", "must be a whole number"),
        ("text.split('a', 1.5)", "not 1.5"),
        ("text.split('a', 0)", "1 or more"),
        ("text.split('a', 5).withContextPrefix('')", "not an empty text"),
        ("'a'.withContextPrefix(3)", "not number"),
        ("embeddings.generate({}).withContextPrefix(undefined)", "not undefined"),
        ("embeddings.generate('a')", "takes one object"),
        ("embeddings.generate()", "takes one object"),
        ("embeddings.generate(text.split('a', 5))", "takes one object"),
        ("embeddings.generate({ a: 0 / 0 })", "a is NaN"),
        ("embeddings.generate({ a: this.Name.trim })", "a is a function"),
        ("embeddings.generate({ '': 'a' })", "a name has"),
        ("var a = {}; a.a = a; embeddings.generate({ a })", "circular"),
        ("for (;;) embeddings.generate({ a: 'x' })", "more than 100000 texts"),
        ("var x = 'x'.repeat(1e6); for (;;) embeddings.generate({ x })", "more than 8000000 characters"),
        ("text = 'a'", 'write "var text"'),
        ("Math.random()", "same document"),
        ("new Date()", "same document"),
        ("Date()", "same document"),
        ("Date.now()", "same document"),
        ("eval('1')", "eval"),
        ("new Function('return 1')()", "EvalError"),
        ("(async function () {}).constructor('1')", "EvalError"),
        ("(async () => { await 1 })()", "asynchronous"),
        ("Promise.resolve().then(() => 1)", "asynchronous"),
        ("require('fs')", "'require' is not defined"),
        ("std.exit(1)", "'std' is not defined"),
        ("load('products/1')", "'load' is not defined"),
    ],
)
def test_a_document_that_makes_a_script_fail_is_named_with_the_line(source: str, says: str) -> None:
    """The user reads what their script did wrong, and the next document is embedded."""
    assert says in failure(source, ScriptLimits(seconds=5))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("for (;;);", "took more than 0.2 s"),
        ("try { for (;;); } catch (e) { } finally { }", "took more than 0.2 s"),
        ("/(a+)+$/.test('a'.repeat(50) + 'b')", "took more than 0.2 s"),
        ("Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)", "took more than 0.2 s"),
        ("async function f() { for (;;); }\nfor (;;) f()", "took more than 0.2 s"),
        ("var a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", "bytes of memory"),
        ("var a = 'x'; for (;;) a += a", "The script"),
        ("new ArrayBuffer(2 ** 31 - 1)", "bytes of memory"),
        ("new Array(2 ** 32 - 1).fill(1)", "The script"),
        ("(function f() { return f() + 1; })()", "calls itself too often"),
        ("function f() { return [1].map(f) } f()", "calls itself too often"),
        ("var a = []; for (var i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a)", "The script"),
        ("new RegExp('('.repeat(20000) + ')'.repeat(20000))", "The script"),
    ],
)
def test_what_has_no_end_is_ended(source: str, says: str) -> None:
    """Time, memory and stack are bounded, also where the engine itself does not ask for the time."""
    assert says in failure(source, QUICK)


def test_in_threads_the_stack_and_the_time_are_bounded_too() -> None:
    """A worker's thread has a smaller stack, and processors are shared; neither matters."""
    extractor = compile_script(
        "if (this.deep) (function f() { f() })(); if (this.long) for (;;); embeddings.generate({ N: this.n })", QUICK
    )

    def one(number: int) -> Any:
        data = {"n": number, "deep": number % 7 == 0, "long": number % 50 == 1}
        try:
            return [text.text for text in extractor.extract(data, number)]
        except DocumentUnreadable as exc:
            return exc.document_id

    threading.stack_size(256 << 10)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(one, range(200)))
    finally:
        threading.stack_size(0)
    assert found == [n if n % 7 == 0 or n % 50 == 1 else [str(n)] for n in range(200)]


@pytest.mark.parametrize(
    "leak",
    [
        "seen = (typeof seen === 'undefined' ? 0 : seen) + 1; return seen",
        "globalThis.seen = (globalThis.seen || 0) + 1; return globalThis.seen",
        "(function () { this.seen = (this.seen || 0) + 1 })(); return globalThis.seen",
        "Array.prototype.seen = (Array.prototype.seen || 0) + 1; return [].seen || 1",
        "Object.prototype.seen = 1 + (({}).seen || 0); return ({}).seen || 1",
        "embeddings.seen = (embeddings.seen || 0) + 1; return embeddings.seen || 1",
        "text.split.seen = (text.split.seen || 0) + 1; return text.split.seen || 1",
        "arguments.callee.seen = (arguments.callee.seen || 0) + 1; return arguments.callee.seen || 1",
        "var i = [].values().__proto__; i.seen = (i.seen || 0) + 1; return i.seen || 1",
        "var g = (function* () {}).__proto__; g.seen = (g.seen || 0) + 1; return g.seen || 1",
        "var g = globalThis; if (!Object.isExtensible(g)) return 2; Object.preventExtensions(g); return 1",
        "if ('seen' in globalThis) return 2; Object.setPrototypeOf(globalThis, { seen: 1 }); return 1",
        "if ('seen' in globalThis) return 2; Object.defineProperty(globalThis, 'seen', { value: 1 }); return 1",
        "var s = Symbol.for('seen'); globalThis[s] = (globalThis[s] || 0) + 1; return globalThis[s]",
        "var t = (x => x)`a`; try { t.seen = 1 } catch (e) { } return t.seen || 1",
        "Math.seen = (Math.seen || 0) + 1; return Math.seen || 1",
        "Date.seen = (Date.seen || 0) + 1; return Date.seen || 1",
        "var r = /a/g; r.test('aa'); return r.lastIndex",
    ],
)
def test_a_run_leaves_nothing_for_the_next(leak: str) -> None:
    """Texts are a function of the document and the script, whatever was embedded before."""
    extractor = compile_script(f"function run() {{ {leak} }}\nembeddings.generate({{ Count: run() }})")
    assert [[text.text for text in extractor.extract({}, n)] for n in range(3)] == [["1"]] * 3


def test_sloppy_scripts_and_objects_work_as_they_do_elsewhere() -> None:
    """What is frozen is out of the way of everyday JavaScript."""
    source = """
        total = 0; for (i = 0; i < 3; i++) total += i;
        var counts = {}; counts['constructor'] = 1; counts.toString = function () { return 'mine' };
        function Shape(name) { this.name = name; }  Shape.prototype.toString = function () { return 'Shape ' + this.name; };
        class Problem extends Error { constructor(m) { super(m); this.name = 'Problem'; } }
        var said; try { throw new Problem('p') } catch (e) { said = `${e}` }
        function text2() { return typeof this === 'object' }
        var text = 'shadowed';
        embeddings.generate({
            a: total, b: String(counts) + counts.constructor, c: `${new Shape('s')}`, d: said, e: text,
            f: new Date('2020-02-03').toISOString(), g: /(\\w+) (\\w+)/.exec('x y')[2], h: [...new Set([3, 3, 1])].sort().join(),
            i: Object.entries(this).map(([k, v]) => k + '=' + v).join(';'), j: text2(), k: new Date(2020, 0, 1).toISOString(),
        })"""
    assert dict(written(source)) == {
        "a": "3",
        "b": "mine1",
        "c": "Shape s",
        "d": "Problem: p",
        "e": "shadowed",
        "f": "2020-02-03T00:00:00.000Z",
        "g": "y",
        "h": "1,3",
        "i": "Name=Parka",
        "j": "true",
        "k": "2020-01-01T00:00:00.000Z",
    }


def test_documents_of_any_kind_can_be_handed_over() -> None:
    """Dates and decimals are texts, bytes too, and what JSON does not know is null."""
    document = {
        "when": datetime(2024, 1, 2, tzinfo=UTC),
        "price": Decimal("1.50"),
        "raw": b"bytes",
        "nan": float("nan"),
        "inner": [float("inf"), 1.5],
        "__proto__": "own",
        "half": "\ud800",
        "nul": "\x00",
    }
    source = """embeddings.generate({ when: this.when, price: this.price, raw: this.raw, nan: this.nan, inner: this.inner,
        proto: this['__proto__'], half: this.half, nul: this.nul })"""
    assert dict(written(source, document)) == {
        "when": "2024-01-02T00:00:00+00:00",
        "price": "1.50",
        "raw": "bytes",
        "inner[1]": "1.5",
        "proto": "own",
        "half": "\ufffd",
        "nul": " ",
    }


def test_a_document_that_is_too_large_or_too_deep_is_refused() -> None:
    """Before and behind the engine's door."""
    extractor = compile_script(GENERATE)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DocumentUnreadable, match="handed to the script"):
        extractor.extract({"Name": deep}, 1)
    with pytest.raises(DocumentUnreadable, match="16000000"):
        extractor.extract({"Name": "x" * 16_000_001}, 2)
    with pytest.raises(DocumentUnreadable, match="handed to the script"):
        extractor.extract({("a", "key"): 1}, 3)  # type: ignore[dict-item]
    assert extractor.extract({"Name": "x"}, 4) == [Text("Name", "x")]


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("this.Name", {"Name"}),
        ("this . Name + this?.Größe", {"Name", "Größe"}),
        ("this['Name']", None),
        ("Object.keys(this)", None),
        ("this.hasOwnProperty('Name')", None),
        ("this.constructor", None),
        ("this.Na\\u006de", None),
        ("this.Nai\u0308ve", None),
        ("/* this */ this.Name", None),
        ("1", set()),
    ],
)
def test_only_changes_of_fields_that_a_script_reads_are_followed(source: str, reads: set[str] | None) -> None:
    """Too many rather than too few: where it is not plain which fields are read, it may be any."""
    assert compile_script(f"var a = () => {source}; embeddings.generate({{}})").reads == reads


def test_an_engine_that_was_killed_is_replaced() -> None:
    """By the system, say, for want of memory: the next document is embedded."""
    extractor = compile_script(GENERATE)
    (process,) = extractor._pool._idle
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert extractor.extract({"Name": "x"}, 1) == [Text("Name", "x")]


def test_closing_ends_the_processes_and_they_start_again() -> None:
    """Nothing is left behind, and nothing is lost."""
    extractor = compile_script(GENERATE)
    (process,) = extractor._pool._idle
    extractor.close()
    assert process.returncode == 0
    assert extractor.extract({"Name": "x"}, 1) == [Text("Name", "x")]
    (process,) = extractor._pool._idle
    del extractor
    assert process.returncode == 0


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are an extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'lockstep\[scripts\]'"):
        compile_script(GENERATE)
