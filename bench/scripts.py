"""What a script, a template and plain fields cost per document: `python -m bench.scripts [--quick]`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import harness
from lockstep.extracting import Extractor, compile_path
from lockstep.extracting.fields import FieldsExtractor
from lockstep.extracting.function import FunctionExtractor
from lockstep.extracting.script import compile_script
from lockstep.extracting.template import TemplateExtractor

SCRIPT = """embeddings.generate({
   Name: this.Name,
   Description: text.splitParagraphs(this.Description, 512, 64).withContextPrefix(this.Name),
   Html: html.strip(this.Html, 256) });"""
TEMPLATE = "{{ Name }}\n{{ Description }}\n{% for tag in Tags %}{{ tag }} {% endfor %}{{ Html|striptags }}"


def document(number: int) -> dict[str, Any]:
    """About 500 characters."""
    return {
        "Name": f"Product {number}",
        "Description": f"A parka of kind {number}, warm and dry. " * 8,
        "Html": f"<p>Sizes of <b>{number}</b>: S, M and L.</p>" * 3,
        "Price": 12.5,
        "Tags": ["outdoor", "rain"],
    }


def function(found: dict[str, Any]) -> dict[str, str]:
    """What the script does."""
    return {"Name": found["Name"], "Description": found["Description"], "Html": found["Html"]}


EXTRACTORS: dict[str, Callable[[], Extractor]] = {
    "fields": lambda: FieldsExtractor([compile_path(name) for name in ("Name", "Description", "Html")]),
    "template": lambda: TemplateExtractor(TEMPLATE),
    "script": lambda: compile_script(SCRIPT),
    "function": lambda: FunctionExtractor(function, "bench"),
}


def child(kind: str) -> harness.Child:
    """Measures one of them, in one thread."""

    def measure(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
        del folder
        documents = [document(number) for number in range(arguments["documents"])]
        extractor = EXTRACTORS[kind]()
        extractor.extract(documents[0], 0)
        started = time.perf_counter()
        texts = sum(len(extractor.extract(each, number)) for number, each in enumerate(documents))
        seconds = time.perf_counter() - started
        return {
            "documents": len(documents),
            "characters_per_document": len(json.dumps(documents[0])),
            "texts": texts,
            "seconds": seconds,
            "documents_per_s": len(documents) / seconds,
        }

    return measure


CHILDREN = {kind: child(kind) for kind in EXTRACTORS}


def main() -> None:
    """Measure each in turns."""
    if harness.serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    arguments = {"documents": 500 if quick else 20_000}
    found = harness.in_turns("bench.scripts", list(CHILDREN), arguments, 1 if quick else 3)
    harness.save("scripts", found, ["quickjs", "jinja2"])


if __name__ == "__main__":
    main()
