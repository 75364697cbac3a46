"""How fast are texts cut, by each method, and beside the splitters that people take otherwise?

    python -m bench.chunking [--quick]

Every contender runs on one core and counts with the tokenizer of the built-in model, chunks of at most 254 tokens. Speed is
text by the processor's time, so that other work on the machine counts less. Others that are not installed are
left out, by name:

    pip install semantic-text-splitter langchain-text-splitters
"""

from __future__ import annotations

import functools
import html
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lockstep
from bench.harness import in_turns, save, serve_child
from lockstep.app import stdlib
from lockstep.chunking import chunk_texts
from lockstep.types import CHUNKING_METHODS, Chunking, Text

MAX_TOKENS = 254
ESSAY = 40_000
SHORT = 200
BUILTIN = Path(lockstep.__file__).parent / "models" / "builtin" / "minilm" / "tokenizer.json"
OTHERS = {
    "semantic-text-splitter": "semantic_text_splitter",
    "langchain-text-splitters": "langchain_text_splitters",
}
SETTINGS: dict[str, tuple[Chunking, str]] = {
    **{method: (Chunking(method=method), "") for method in CHUNKING_METHODS if method != "none"},
    "text, overlap of 32": (Chunking(overlap_tokens=32), ""),
    "text, prefix": (Chunking(), "From the library's documentation"),
    "markdown, headings": (Chunking(method="markdown", headings=True), ""),
}


def essays(characters: int) -> list[str]:
    """Long texts: the documentation of the standard library, joined."""
    text = "\n\n".join(str(document["text"]) for document in stdlib.documents())[:characters]
    return [text[start : start + ESSAY] for start in range(0, len(text), ESSAY)]


def shorts(characters: int) -> list[str]:
    """Texts that cannot have too many tokens, which their length shows."""
    found = [str(document["text"])[:SHORT] for document in stdlib.documents()]
    return found[: characters // SHORT]


def as_markdown(text: str) -> str:
    """A heading before every fifth paragraph."""
    paragraphs = text.split("\n\n")
    return "\n\n".join((f"## Part {at}\n\n" if at % 5 == 0 else "") + part for at, part in enumerate(paragraphs))


def as_html(text: str) -> str:
    """The same as a page."""
    paragraphs = enumerate(text.split("\n\n"))
    body = (f"<h2>Part {at}</h2>\n" * (at % 5 == 0) + f"<p>{html.escape(part)}</p>\n" for at, part in paragraphs)
    return f"<html><body>{''.join(body)}</body></html>"


def written_for(method: str, texts: Sequence[str]) -> list[str]:
    if method == "html":
        return [as_html(text) for text in texts]
    return [as_markdown(text) for text in texts] if method.startswith("markdown") else list(texts)


def on_one_core() -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measured(texts: Sequence[str], cut: Callable[[Sequence[str]], int], seconds: float) -> dict[str, Any]:
    """Megabytes (a million characters) per second of processor time, the median of runs; the first is not counted."""
    chunks = cut(texts)
    times: list[float] = []
    while sum(times) < seconds:
        started = time.process_time()
        cut(texts)
        times.append(time.process_time() - started)
    size = sum(map(len, texts)) / 1e6
    return {"mb_per_s": size / statistics.median(times), "chunks": chunks, "texts": len(texts), "mb": size}


def ours(_folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """One setting of Lockstep."""
    on_one_core()
    tokenizer = lockstep.model("local:minilm").tokenizer
    chunking, prefix = SETTINGS[arguments["setting"]]
    source = shorts if arguments["short"] else essays
    texts = written_for("" if arguments["short"] else chunking.method, source(arguments["characters"]))

    def cut(texts: Sequence[str]) -> int:
        given = [Text("text", text, prefix=prefix) for text in texts]
        rows = chunk_texts(given, chunking, MAX_TOKENS, tokenizer)
        assert all(isinstance(row, list) for row in rows)
        return sum(len(row) for row in rows if isinstance(row, list))

    return measured(texts, cut, arguments["seconds"])


def tokenizer_only(_folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """What tokenising alone takes: no cutting by tokens is faster."""
    on_one_core()
    tokenizer = lockstep.model("local:minilm").tokenizer
    cut = functools.partial(_encoded, tokenizer)
    return measured(essays(arguments["characters"]), cut, arguments["seconds"])


def _encoded(tokenizer: Any, texts: Sequence[str]) -> int:
    return len(tokenizer.encode(texts))


def hub_tokenizer() -> Any:
    """The built-in model's tokenizer as its library has it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(json.loads(BUILTIN.read_text(encoding="utf-8"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def semantic(_folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The crate text-splitter, by its Python package."""
    on_one_core()
    module: Any = importlib.import_module("semantic_text_splitter")
    kind = module.MarkdownSplitter if arguments["method"] == "markdown" else module.TextSplitter
    splitter = kind.from_huggingface_tokenizer(hub_tokenizer(), MAX_TOKENS)
    return others(splitter.chunks, arguments)


def langchain(_folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """LangChain's recursive splitter, counting tokens."""
    on_one_core()
    module: Any = importlib.import_module("langchain_text_splitters")
    tokenizer = hub_tokenizer()
    kind = module.MarkdownTextSplitter if arguments["method"] == "markdown" else module.RecursiveCharacterTextSplitter
    splitter = kind(
        chunk_size=MAX_TOKENS,
        chunk_overlap=0,
        length_function=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
    )
    return others(splitter.split_text, arguments)


def others(split: Callable[[str], list[str]], arguments: dict[str, Any]) -> dict[str, Any]:
    texts = written_for(arguments["method"], essays(arguments["characters"]))
    return measured(texts, lambda texts: sum(len(split(text)) for text in texts), arguments["seconds"])


CHILDREN = {
    "lockstep": ours,
    "tokenizer_only": tokenizer_only,
    "semantic-text-splitter": semantic,
    "langchain-text-splitters": langchain,
}


def settings(characters: int, seconds: float) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """What is measured: a name, its contenders, their arguments."""
    common = {"characters": characters, "seconds": seconds, "short": False}
    installed = [name for name, module in OTHERS.items() if importlib.util.find_spec(module)]
    yield "essays, tokenised only", ["tokenizer_only"], common
    for name, (chunking, _) in SETTINGS.items():
        beside = installed if name in ("text", "markdown") else []
        yield f"essays, {name}", ["lockstep", *beside], {**common, "setting": name, "method": chunking.method}
    for name in ("text", "text, prefix", "sentences", "paragraphs", "markdown", "lines", "markdown-lines", "html"):
        yield f"short texts, {name}", ["lockstep"], {**common, "setting": name, "short": True}


def main() -> None:
    if serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    results: dict[str, Any] = {}
    for name, contenders, arguments in settings(80_000 if quick else 800_000, 0.1 if quick else 1.0):
        results[name] = in_turns("bench.chunking", contenders, arguments, 1 if quick else 3)
    results["not installed"] = [name for name, module in OTHERS.items() if not importlib.util.find_spec(module)]
    save("chunking-quick" if quick else "chunking", results, tuple(OTHERS))


if __name__ == "__main__":
    main()
