"""Models that are Python functions: whatever shape a user has, and whatever it does wrong."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.errors import BadEmbedding, ConfigError, ProviderRejected, RateLimited, UnknownName
from lockstep.models.base import Model, Provider
from lockstep.models.python_function import FunctionModel, open_function
from lockstep.models.uri import ModelURI
from lockstep.testing import hash_vectors

MODULE = """
from lockstep.testing import hash_vectors

def embed(texts):
    return hash_vectors(texts, 16).tolist()

def search(texts):
    return hash_vectors(["query " + text for text in texts], 16)

class Chain:
    def embed_documents(self, texts):
        return embed(texts)

    def embed_query(self, text):
        return search([text])[0].tolist()

class Holder:
    chain = Chain()

number = 7

async def later(texts):
    return embed(texts)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a user's module; what it leaves in `sys` is taken away."""
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "users_models.py").write_text(MODULE, encoding="utf-8")
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def opened(uri: str) -> FunctionModel:
    return open_function(ModelURI.parse(uri))


def plain(texts: list[str]) -> Any:
    return hash_vectors(texts, 8)


def test_a_function_of_a_module_embeds(folder: Path) -> None:
    """Documents and queries by the one; dimensions are found out."""
    model = opened("python:users_models:embed")
    assert isinstance(model, Provider)
    np.testing.assert_array_equal(model.embed(["a", "b"], "document"), hash_vectors(["a", "b"], 16))
    np.testing.assert_array_equal(model.embed(["a"], "query"), hash_vectors(["a"], 16))
    assert (model.info.dimensions, model.info.max_tokens, model.info.kinds_differ) == (16, 512, False)
    assert model.embed(["a"], "document").dtype == np.float32
    assert Model("python:users_models:embed", model).embed_documents(["a"]).shape == (1, 16)


def test_options_are_obeyed(folder: Path) -> None:
    """Another function for queries, dimensions that are told, a version."""
    model = opened("python:users_models:embed?dimensions=16&max_tokens=99&version=2&query=search")
    np.testing.assert_array_equal(model.embed(["a"], "query"), hash_vectors(["query a"], 16))
    np.testing.assert_array_equal(model.embed(["a"], "document"), hash_vectors(["a"], 16))
    assert (model.info.dimensions, model.info.max_tokens, model.info.kinds_differ) == (16, 99, True)
    elsewhere = opened("python:users_models:embed?query=users_models:search")
    np.testing.assert_array_equal(elsewhere.embed(["a"], "query"), hash_vectors(["query a"], 16))


def test_langchains_shape_embeds(folder: Path) -> None:
    """An object in a module, or inside another, with two methods."""
    model = opened("python:users_models:Holder.chain")
    np.testing.assert_array_equal(model.embed(["a", "b"], "document"), hash_vectors(["a", "b"], 16))
    np.testing.assert_allclose(model.embed(["a", "b"], "query"), hash_vectors(["query a", "query b"], 16))


def test_an_object_with_embed_embeds() -> None:
    """And so does one that can be called, and a generator."""

    class WithEmbed:
        def embed(self, texts: Sequence[str]) -> Any:
            yield from hash_vectors(texts, 8)

    class Calling:
        def __call__(self, texts: list[str]) -> Any:
            return hash_vectors(texts, 8)

    for given in (WithEmbed(), Calling(), plain):
        model = FunctionModel(given, "mine")
        np.testing.assert_array_equal(model.embed(["a", "b"], "document"), hash_vectors(["a", "b"], 8))


def test_the_identity_is_names_and_version() -> None:
    """What is inside a function cannot be seen; dimensions and limits do not change vectors."""
    assert FunctionModel(plain, "m:f").identity == "python:m:f"
    assert FunctionModel(plain, "m:f", 8, 99, version="2").identity == "python:m:f?version=2"
    both = FunctionModel(plain, "m:f", query_function=plain, query_name="g", version="2")
    assert both.identity == "python:m:f?query=g&version=2"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("python:users_models", "names no function"),
        ("python::f", "names no function"),
        ("python:no.such.module:f", r'There is no Python module "no\.such\.module"'),
        ("python:users_models:nothing", 'The module "users_models" has no "nothing"'),
        ("python:users_models:Holder.nothing", 'has no "Holder.nothing"'),
        ("python:users_models:number", "a int, which cannot be called"),
        ("python:users_models:Chain", "is a class"),
        ("python:users_models:later", "is asynchronous"),
        ("python:users_models:embed?query=nothing", 'has no "nothing"'),
        ("python:users_models:embed?dimensions=0", "whole number of 1 or more"),
        ("python:users_models:embed?threads=0", "whole number of 1 or more"),
        ("python:broken:f", r'The module "broken" cannot be imported: ZeroDivisionError: division'),
        ("python:needing:f", 'The module "needing" needs the module "no_such_package"'),
        ("python:misspelt:f", "cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_opened_says_why(folder: Path, uri: str, said: str) -> None:
    """A name that is wrong, a module that fails, a thing that is no function."""
    (folder / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (folder / "needing.py").write_text("import no_such_package\n", encoding="utf-8")
    (folder / "misspelt.py").write_text("def f(:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        opened(uri)


def test_an_unknown_option_is_refused(folder: Path) -> None:
    """With the nearest that exists."""
    with pytest.raises(UnknownName, match='Did you mean "version"'):
        opened("python:users_models:embed?versoin=2")


def test_a_functions_error_names_function_and_error() -> None:
    """Its own words are cut to a length that can be read."""

    def failing(texts: list[str]) -> Any:
        raise ValueError("no\nvectors " + "x" * 1000)

    with pytest.raises(ProviderRejected, match=r'The function "m:f" raised ValueError: no vectors x+') as caught:
        FunctionModel(failing, "m:f", 8).embed(["a"], "document")
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_generators_error_is_one_too() -> None:
    """It comes when the vectors are taken."""

    def failing(texts: list[str]) -> Any:
        yield [1.0]
        raise KeyError("b")

    with pytest.raises(ProviderRejected, match="KeyError"):
        FunctionModel(failing, "m:f", 1).embed(["a", "b"], "document")


def test_a_function_may_raise_what_providers_raise() -> None:
    """So it can say when to come again."""

    def limited(texts: list[str]) -> Any:
        raise RateLimited("slow down", retry_after_s=3)

    with pytest.raises(RateLimited) as caught:
        FunctionModel(limited, "m:f", 8).embed(["a"], "document")
    assert caught.value.retry_after_s == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([1.0, 2.0], r"shape \(2,\) for 2 text"),
        ([[1.0]], r"shape \(1, 1\) for 2 text"),
        ([[[1.0]], [[2.0]]], r"shape \(2, 1, 1\)"),
        ([[1.0], [1.0, 2.0]], "a list that is no matrix"),
        (None, r"shape \(\)"),
        ("ab", "a str that is no matrix"),
        ([["a"], ["b"]], "a list that is no matrix"),
        ({"a": 1}, "a dict that is no matrix"),
    ],
)
def test_what_is_no_matrix_is_refused(answer: object, said: str) -> None:
    """A vector for each text, all of one width."""
    with pytest.raises(BadEmbedding, match=said):
        FunctionModel(lambda texts: answer, "m:f", 1).embed(["a", "b"], "document")


def test_asynchronous_functions_are_refused_in_every_disguise() -> None:
    """When they are given where that can be seen, else when they answer; no coroutine is left behind."""

    async def later(texts: list[str]) -> Any:
        return [[1.0]]

    class Later:
        async def __call__(self, texts: list[str]) -> Any:
            return [[1.0]]

    class Chain:
        def embed_documents(self, texts: list[str]) -> Any:
            return [[1.0]]

        async def embed_query(self, text: str) -> Any:
            return [1.0]

    for given in (later, Later(), Chain()):
        with pytest.raises(ConfigError, match='"mine" is asynchronous'):
            FunctionModel(given, "mine")
    with pytest.raises(ConfigError, match="asynchronous"):
        FunctionModel(lambda texts: later(texts), "mine", 1).embed(["a"], "document")


def together(model: FunctionModel) -> None:
    """Call it from four threads at once."""
    threads = [threading.Thread(target=lambda: model.embed(["a"], "document")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_calls_run_at_once_than_are_allowed(threads: int) -> None:
    """One, unless the user says otherwise: most functions are not made for more."""
    running, most, lock = 0, 0, threading.Lock()

    def counted(texts: list[str]) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return hash_vectors(texts, 8)

    together(FunctionModel(counted, "m:f", 8, threads=threads))
    assert most == threads


def test_a_function_gets_a_list_of_its_own() -> None:
    """Whatever sequence comes in; what it does to its list harms nobody."""
    seen: list[type] = []

    def emptying(texts: list[str]) -> Any:
        seen.append(type(texts))
        found = hash_vectors(texts, 8)
        texts.clear()
        return found

    texts = ("a", "b")
    call: Callable[..., Any] = FunctionModel(emptying, "m:f", 8).embed
    assert call(texts, "document").shape == (2, 8)
    assert (seen, texts) == ([list], ("a", "b"))
