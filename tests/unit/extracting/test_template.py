"""Templates: what is missing prints nothing, what is printed is printed as everywhere, and nothing gets out of hand."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting import Prefixes, TemplateExtractor, compile_template
from lockstep.types import Chunking, Text

DOCUMENT: dict[str, Any] = {
    "name": "Parka",
    "price": 12.0,
    "ok": True,
    "none": None,
    "tags": ["a", None, "b", 3, True],
    "address": {"city": "Bonn", "zip": None, "items": [1, 2], "_id": 7},
    "when": date(2024, 1, 2),
    "html": "<p>x &amp; <b>y</b><!-- c --></p>",
    "two words": "tw",
    "range": "R",
    "big": "x" * 1000,
}


def rendered(source: str, data: Mapping[str, Any] = DOCUMENT) -> str:
    return compile_template(source).render(data, 7)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("constant }} text", "constant }} text"),
        ("{{ name }}: {{ price }}, {{ ok }}, {{ when }}", "Parka: 12.0, true, 2024-01-02"),
        ("{{ address }}", '{"city":"Bonn","zip":null,"items":[1,2],"_id":7}'),
        ("[{{ none }}{{ nope }}{{ nope.a.b }}{{ address.zip.x }}{{ tags[9] }}]", "[]"),
        ("{% for t in tags %}{{ loop.index }}{{ t }};{% endfor %}", "1a;2;3b;43;5true;"),
        ("{% for t in nope %}x{% else %}none{% endfor %}", "none"),
        ("{% for t in none %}x{% else %}none{% endfor %}", "none"),
        ("{% if none is none %}1{% endif %}{% if nope is defined %}2{% endif %}{% if 'a' in tags %}3{% endif %}", "13"),
        ("{{ tags|join(', ') }}", "a, b, 3, true"),
        ("{{ 'a' ~ none ~ ok ~ price ~ [1] }}", "atrue12.0[1]"),
        ("{{ address.items }}{{ address._id }}", "[1,2]7"),
        ("{% for k, v in address|items %}{{ k }}={{ v }};{% endfor %}", "city=Bonn;zip=;items=[1,2];_id=7;"),
        ("{{ none|default('d') }}{{ nope|d('e') }}{{ name|upper|truncate(3) }}", "dePARKA"),
        ("{{ html|striptags }}|{{ 'a < b'|striptags }}|{{ '<!-- x'|striptags }}", "x & y|a < b|"),
        ("{{ name|replace('a', 'o') }}{{ name|e }}{{ '<'|e }}{{ 2.345|round(2) }}", "PorkoParka&lt;2.35"),
        ("{{ '%.2f EUR' % price }} {{ '%s!'|format(name) }}", "12.00 EUR Parka!"),
        ("{{ tags|map('upper')|list }}{{ name|tojson }}{{ nope|tojson }}", '["A","","B","3","TRUE"]"Parka"null'),
        ("{{ this['two words'] }}{{ this.name }}", "twParka"),
        ("{% set n = namespace(s=0) %}{% for i in range(4) %}{% set n.s = n.s + i %}{% endfor %}{{ n.s }}", "6"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(name) }}{{ m(none) }}", "<Parka><>"),
        ("{% for x in [[1, [2]], 3] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
        ("{{ name.upper() }}{{ when.isoformat() }}{{ address.get('city') }}", "PARKA2024-01-02Bonn"),
        ("{{ address.keys() }}{{ range(3) }}", '["city","zip","items","_id"][0,1,2]'),
        ("{# nothing #}", ""),
    ],
)
def test_a_template_is_rendered(source: str, text: str) -> None:
    """As Jinja2 does, but for what a document lacks and how values are printed."""
    assert rendered(source) == text


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ name", "line 1"),
        ("\n\n{% if %}", "line 3"),
        ("\n{{ name|nofilter }}", "line 2: No filter named 'nofilter'"),
        ("{{ tags|random }}", "No filter named 'random'"),
        ("{% include 'x' %}", "include"),
        ("{% extends 'x' %}", "extends"),
        ("{% import 'x' as x %}", "import"),
        ("{% block a %}{% endblock %}", "block"),
        ("{% autoescape true %}{% endautoescape %}", "no meaning here"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be compiled"),
        ("{{ " + "9" * 6000 + " }}", "cannot be compiled"),
        ("{{ a }}" + "x" * 100_000, "characters"),
    ],
)
def test_a_wrong_template_is_refused_at_once(source: str, says: str) -> None:
    """With the line, before any document is touched."""
    with pytest.raises(ConfigError, match=says):
        compile_template(source)


DOUBLE = "{% set n = namespace(a=START, b=START) %}{% for i in range(60) %}{% set n.a = STEP %}{% set n.b = STEP %}{% endfor %}"


def doubled(start: str, step: str, use: str) -> str:
    return DOUBLE.replace("START", start).replace("STEP", step) + use


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ name.__class__ }}", "__class__"),
        ("{{ name['__class__'] }}", "__class__"),
        ("{{ name|attr('__class__') }}", "__class__"),
        ("{{ [name]|map(attribute='__class__')|list }}", "__class__"),
        ("{{ name|join(attribute='__class__') }}", "__class__"),
        ("{{ namespace.__init__.__globals__ }}", "__init__"),
        ("\n\n{{ name.center(5) }}", 'line 3: "center" cannot be called'),
        ("{{ '{:1000000000}'.format(1) }}", '"format" cannot be called'),
        ("{{ tags.append(1) }}", "append"),
        ("{{ when.strftime('%Y') }}", "strftime"),
        ("{{ lipsum() }}", '"lipsum" cannot be called'),
        ("{{ name() }}", "cannot be called"),
        ("{{ range }}", "cannot be printed"),
        ("{% macro m() %}{% endmacro %}{{ m }}", "cannot be printed"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("\n{{ price + name }}", "line 2: unsupported operand"),
        ("{{ 'x' * 10**9 }}", "product"),
        ("{{ [1] * 10**9 }}", "product"),
        ("{{ 2 ** 1000000000 }}", "bits"),
        ("{{ (2 ** 9000) * (2 ** 9000) }}", "bits"),
        ("{% for a in range(10**9) %}x{% endfor %}", "range"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "too many steps"),
        ("{% for a in range(50000) %}{{ big }}{% endfor %}", "prints more than"),
        ("{% set x %}{% for i in range(90000) %}{{ big }}{% endfor %}{% endset %}", "prints more than"),
        ("{% macro m() %}{% for i in range(9999) %}" + "y" * 9000 + "{% endfor %}{% endmacro %}{{ m() }}", "steps"),
        ("{% for i in range(50000) %}" + "y" * 900 + "{% endfor %}", "makes a text of more than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply, or calls itself"),
        (
            "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
            "steps|more than 1 s",
        ),
        (doubled("'x'", "n.a ~ n.a", "{{ n.a }}"), "more than 8000000"),
        (doubled("'x'", "n.a + n.a", "{{ n.a }}"), "more than 8000000"),
        (doubled("[1]", "[n.a, n.a]", "{{ n.a }}"), "more than 8000000"),
        (doubled("[1]", "[n.a, n.a]", "{{ n.a|join }}"), "more than 8000000"),
        (doubled("[1]", "[n.a, n.a]", "{{ n.a == n.b }}"), "more than 8000000"),
        (doubled("[1]", "[n.a, n.a]", "{{ n.a is eq n.b }}"), "more than 8000000"),
        (doubled("[1]", "[n.a, n.a]", "{{ [n.b, n.a]|sort }}"), "more than 8000000"),
        (doubled("[1]", "{'a': n.a, 'b': n.a}", "{{ n.a|tojson }}"), "more than 8000000"),
        ("{{ '%1000000000d' % 1 }}", "width"),
        ("{{ '%.1000000000f' % 1.5 }}", "width"),
        ("{{ '%*d'|format(1000000000, 1) }}", "width"),
        ("{{ ('%s' * 10000) % big }}", "makes more than|not enough"),
        ("{{ 'x'|center(10**9) }}", "more than 8000000"),
        ("{{ big|indent(10**8) }}", "Indenting"),
        ("{{ ('a' * 1000000)|replace('a', big) }}", "more than 8000000"),
        ("{{ ['a'] * 10000|int }}{{ (['a'] * 90000)|join(big) }}", "more than 8000000|steps"),
        ("{{ 1.5|round(10**9, 'ceil') }}", "100 digits"),
    ],
)
def test_what_a_template_must_not_do_is_an_error_with_its_line(source: str, says: str) -> None:
    """The document is named, and nothing takes more time or memory than is allowed."""
    with pytest.raises(DocumentUnreadable, match=says) as raised:
        rendered(source)
    assert raised.value.document_id == 7
    assert " in line " in str(raised.value) or "makes a text" in str(raised.value)
    assert "0x" not in str(raised.value)


def test_tags_are_stripped_in_time_that_grows_with_the_text() -> None:
    """A hostile document costs no more than any of its length."""
    for hostile in ("<!---->" * 1_000_000, "<" * 7_000_000, "<!--" * 1_700_000, "&#x" * 2_000_000):
        assert len(rendered("{{ a|striptags }}", {"a": hostile})) <= len(hostile)


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("{{ name }}{% for t in tags %}{{ t.x }}{% endfor %}{{ range(3) }}", {"name", "tags"}),
        ("{% set x = name %}{{ x }}", {"name"}),
        ("{{ this.a }}{{ this['two words'] }}{{ b }}", {"a", "two words", "b"}),
        ("{{ this }}", None),
        ("{{ this[name] }}", None),
        ("{{ this.items() }}", None),
        ("constant", set()),
    ],
)
def test_only_changes_of_fields_that_a_template_names_are_followed(source: str, reads: set[str] | None) -> None:
    """A change of another column makes nothing be embedded anew."""
    assert compile_template(source).reads == reads


def test_an_extractor_gives_one_text_and_none_for_a_blank_one() -> None:
    """The path says that a template made it."""
    extractor = TemplateExtractor("{{ name }} {{ nope }}\n")
    assert extractor.extract({"name": "a\x00\ud800"}, 1) == [Text("template", "a \ufffd ")]
    assert extractor.extract({"name": " \t"}, 1) == []
    with pytest.raises(ConfigError, match="names no field"):
        TemplateExtractor("constant")


def test_threads_share_a_template() -> None:
    """Each rendering has a budget of its own."""
    extractor = TemplateExtractor("{% for i in range(n) %}{{ i }}{% endfor %}")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: extractor.extract({"n": n % 50 + 1}, n), range(400)))
    assert [text.text for (text,) in found] == ["".join(map(str, range(n % 50 + 1))) for n in range(400)]


def test_prefixes_are_written_for_each_document() -> None:
    """A script's own prefix stays; each field's chunking has its own template."""
    plain, titled = Chunking(context_prefix="Shop:"), Chunking(context_prefix="{{ title }}:")
    prefixes = Prefixes(lambda path: titled if path == "body" else plain, [plain, titled])
    texts = [
        Text("name", "a"),
        Text("body", "b"),
        Text("own", "c", prefix="own"),
        Text("cut", "d", chunking=Chunking()),
    ]
    found = prefixes.write(texts, {"title": "T"}, 1)
    assert [text.prefix for text in found] == ["Shop:", "T:", "own", ""]
    assert prefixes.reads == {"title"}
    wrong = Chunking(context_prefix="{{ 1 / n }}")
    with pytest.raises(DocumentUnreadable) as raised:
        Prefixes(lambda _: wrong, [wrong]).write(texts, {"n": 0}, 9)
    assert raised.value.document_id == 9


def test_where_there_are_no_prefixes_texts_pass_as_they_are() -> None:
    """They cost nothing then."""
    texts = [Text("name", "a")]
    assert Prefixes(lambda _: Chunking(), [Chunking()]).write(texts, {}, 1) is texts
    with pytest.raises(ConfigError, match="line 1"):
        Prefixes(lambda _: Chunking(), [Chunking(context_prefix="{{")])
