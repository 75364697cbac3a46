"""The house stays as it is drawn: imports point down, packages stay in their adapters, every file says what it is for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lockstep

ROOT = Path(lockstep.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# A room may import those below it, and itself.
FLOORS = [
    {"__main__"},
    {"app", "sqlite", "integrations"},
    {"database", "answers", "contents", "indexes", "collection", "cache"},
    {"advising"},
    {"follower", "searcher", "applying", "evaluate"},
    {"indexing"},
    {"tasks"},
    {"accounts", "declared", "queries"},
    {"syncing", "searching"},
    {"recipe"},
    {"storage", "models", "chunking", "extracting", "importing", "exporting", "testing"},
    {"vectors"},
    {"types", "named"},
    {"errors"},
]
# Rooms of one floor that need each other, with the reason.
NEIGHBOURS = {
    ("testing", "models"),  # a fake is a provider
    ("database", "collection"),  # the root hands collections out
    ("database", "cache"),  # and the cache
    ("database", "answers"),  # a part of it
    ("database", "contents"),  # another
    ("database", "indexes"),  # another
    ("models", "testing"),  # by name, in the table of providers
}
# Third-party packages, and the only places that import them.
HOMES = {
    "openvino": ["models/local/engine.py", "models/local/graph.py", "models/rerank/local/graph.py"],
    "tokenizers": ["models/local/tokenizer.py", "models/local/by_torch/", "models/rerank/local/pairs.py"],
    "torch": ["models/local/by_torch/"],
    "transformers": ["models/local/by_torch/"],
    "sentence_transformers": ["models/local/by_torch/", "models/rerank/local/by_torch.py"],
    "huggingface_hub": ["models/hub/"],
    "httpx": ["models/hub/", "models/remote/http.py"],
    "safetensors": ["models/local/folder.py", "models/local/by_torch/"],
    "PIL": ["models/images.py"],
    "regex": ["storage/regexp.py"],
    "faiss": ["searching/index/scan.py", "searching/index/graph.py"],
    "pyarrow": ["importing/parquet.py", "exporting/parquet.py"],
    "jinja2": ["extracting/sandbox.py"],
    "quickjs": ["extracting/apart/script_engine.py"],
    "pypdf": ["extracting/apart/pdf_reader.py"],
    "langchain_core": ["integrations/langchain.py"],
    "llama_index": ["integrations/llama_index.py", "integrations/llama_filters.py"],
    "bson": ["importing/bson_file.py", "exporting/bson_file.py"],
    "tomli_w": ["declared.py"],
    "typer": ["app/"],
    "click": ["app/"],
    "rich": ["app/"],
    "sqlalchemy": [
        "advising/",
        "storage/",
        "syncing/",
        "searching/",
        "evaluate/",
        "contents.py",
        "follower.py",
        "indexing.py",
        "searcher.py",
        "tasks.py",
    ],
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(module: str) -> str:
    return module.removesuffix(".py").split("/")[0]


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, wherever in it, but for those it only needs for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "lockstep":
                found |= {f"lockstep.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A file imports its own room and the floors beneath."""
    room = room_of(name_of(path))
    if room == "__init__":
        return
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = {room} | {below for rooms in FLOORS[floor + 1 :] for below in rooms}
    for module in imported(path):
        if module.startswith("lockstep."):
            other = module.split(".")[1]
            known = any(other in rooms for rooms in FLOORS)
            assert not known or other in allowed or (room, other) in NEIGHBOURS, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_package_is_imported_where_it_is_at_home(path: Path) -> None:
    """One adapter, one package: taking it out touches one file."""
    for module in imported(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or any(name_of(path).startswith(home) for home in homes), f"{name_of(path)}: {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    """A newcomer reads one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    assert len(text.splitlines()[0]) > 15


def test_no_module_is_a_giant() -> None:
    """One thing per file."""
    assert {name_of(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 700} == {}


def test_every_folder_is_in_the_architecture() -> None:
    """The map has every room."""
    text = (ROOT.parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    assert [folder for folder in folders if f"`{folder}/`" not in text] == []


HEAVY = {"torch", "openvino", "faiss", "tokenizers", "typer", "rich", "pyarrow", "httpx"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import lockstep", HEAVY | {"sqlalchemy", "numpy"}),
        ("import lockstep; lockstep.errors.QueryError", HEAVY | {"sqlalchemy", "numpy"}),
        ("import lockstep; lockstep.open('data.db').close()", HEAVY),
    ],
    ids=["imported", "errors", "opened"],
)
def test_what_needs_time_is_loaded_when_it_is_first_used(tmp_path: Path, code: str, heavy: set[str]) -> None:
    """`import lockstep` is quick, and so is a command that only looks into a database."""
    told = f"import sys, json; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert heavy.isdisjoint(name.split(".")[0] for name in json.loads(done.stdout))


def test_every_public_name_is_there() -> None:
    """`lockstep.__all__` is a promise."""
    for name in lockstep.__all__:
        assert getattr(lockstep, name) is not None
    with pytest.raises(AttributeError):
        lockstep.nothing  # noqa: B018
