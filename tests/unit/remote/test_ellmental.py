"""eLLMental's environment, taken as it is."""

from __future__ import annotations

import pytest

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.ellmental import (
    DOCUMENT_INSTRUCTION,
    QUERY_INSTRUCTION,
    environment_connection,
    environment_model,
)
from lockstep.models.uri import ModelURI

VARIABLES = (
    "EMBEDDING_GENERATOR",
    "BATCH_SIZE",
    "OPENAI_TYPE",
    "OPENAI_API_KEY",
    "OPENAI_MODEL",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_VERSION",
    "AZURE_OPENAI_USE_ACTIVE_DIRECTORY",
    "EMBEDDINGS_GENERATION_URL",
    "EMBEDDINGS_GENERATION_KEY",
    "SPACES_URL",
    "SPACES_KEY",
)
OPENAI = {"EMBEDDING_GENERATOR": "OPENAI", "OPENAI_MODEL": "text-embedding-ada-002", "OPENAI_API_KEY": "sk-secret"}
AZURE = {
    **OPENAI,
    "OPENAI_TYPE": "azure",
    "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/",
    "AZURE_OPENAI_VERSION": "2023-05-15",
}
SPACE = {"EMBEDDING_GENERATOR": "SPACES_TEXT", "EMBEDDINGS_GENERATION_URL": "https://me-space.hf.space"}


def setup(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    """An environment with these of its variables, and no other."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def without(values: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in names}


CONNECTIONS = {
    "OpenAI": (OPENAI, Connection(name="ellmental", kind="openai", api_key="env:OPENAI_API_KEY")),
    "OpenAI, in small letters": (
        {**OPENAI, "EMBEDDING_GENERATOR": " openai ", "OPENAI_TYPE": "OpenAI"},
        Connection(name="ellmental", kind="openai", api_key="env:OPENAI_API_KEY"),
    ),
    "OpenAI, in batches": (
        {**OPENAI, "BATCH_SIZE": "50"},
        Connection(name="ellmental", kind="openai", api_key="env:OPENAI_API_KEY", texts_per_request=50),
    ),
    "OpenAI, elsewhere": (
        {**OPENAI, "OPENAI_BASE_URL": "http://localhost:9000"},
        Connection(name="ellmental", kind="openai", api_key="env:OPENAI_API_KEY", base_url="http://localhost:9000"),
    ),
    "Azure": (
        AZURE,
        Connection(
            name="ellmental",
            kind="azure",
            api_key="env:OPENAI_API_KEY",
            base_url="https://me.openai.azure.com/",
            settings={"api_version": "2023-05-15"},
        ),
    ),
    "Azure, by directory": (
        {**without(AZURE, "OPENAI_API_KEY"), "AZURE_OPENAI_USE_ACTIVE_DIRECTORY": "True"},
        Connection(
            name="ellmental",
            kind="azure",
            base_url="https://me.openai.azure.com/",
            settings={"api_version": "2023-05-15", "active_directory": "true"},
        ),
    ),
    "Azure, not by directory": (
        {**AZURE, "AZURE_OPENAI_USE_ACTIVE_DIRECTORY": "false"},
        Connection(
            name="ellmental",
            kind="azure",
            api_key="env:OPENAI_API_KEY",
            base_url="https://me.openai.azure.com/",
            settings={"api_version": "2023-05-15"},
        ),
    ),
    "a Space": (SPACE, Connection(name="ellmental", kind="spaces", base_url="https://me-space.hf.space")),
    "a Space with a key": (
        {**SPACE, "EMBEDDINGS_GENERATION_KEY": "hf_x"},
        Connection(
            name="ellmental",
            kind="spaces",
            base_url="https://me-space.hf.space",
            api_key="env:EMBEDDINGS_GENERATION_KEY",
        ),
    ),
    "a Space by the names in its code": (
        {"EMBEDDING_GENERATOR": "SPACES_INSTRUCT", "SPACES_URL": "https://b.hf.space", "SPACES_KEY": "hf_x"},
        Connection(name="ellmental", kind="spaces", base_url="https://b.hf.space", api_key="env:SPACES_KEY"),
    ),
    "a Space by both": (
        {**SPACE, "SPACES_URL": "https://b.hf.space", "EMBEDDINGS_GENERATION_KEY": "a", "SPACES_KEY": "b"},
        Connection(
            name="ellmental",
            kind="spaces",
            base_url="https://me-space.hf.space",
            api_key="env:EMBEDDINGS_GENERATION_KEY",
        ),
    ),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_an_environment_is_a_connection(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be said twice, and no key is copied."""
    values, expected = CONNECTIONS[case]
    setup(monkeypatch, values)
    assert environment_connection() == expected


@pytest.mark.parametrize(
    ("values", "uri"),
    [
        ({}, None),
        ({"EMBEDDING_GENERATOR": " "}, None),
        (without(OPENAI, "EMBEDDING_GENERATOR"), None),
        (OPENAI, "ellmental:text-embedding-ada-002"),
        (AZURE, "ellmental:text-embedding-ada-002"),
        (SPACE, "ellmental:space"),
    ],
)
def test_an_environment_names_a_model(values: dict[str, str], uri: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or none: then the usual one is taken."""
    setup(monkeypatch, values)
    assert environment_model() == uri
    if uri is None:
        assert environment_connection() is None


def test_an_instructor_gets_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for documents, another for queries, as its authors say; they survive the URI."""
    setup(monkeypatch, {**SPACE, "EMBEDDING_GENERATOR": "SPACES_INSTRUCT"})
    uri = environment_model()
    assert uri is not None
    parsed = ModelURI.parse(uri)
    assert (parsed.provider, parsed.name) == ("ellmental", "space")
    assert parsed.options == {"instruction": DOCUMENT_INSTRUCTION, "query_instruction": QUERY_INSTRUCTION}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (without(SPACE, "EMBEDDINGS_GENERATION_URL"), "EMBEDDINGS_GENERATION_URL or SPACES_URL"),
        (without(AZURE, "AZURE_OPENAI_ENDPOINT"), "AZURE_OPENAI_ENDPOINT"),
        ({**AZURE, "AZURE_OPENAI_ENDPOINT": " "}, "AZURE_OPENAI_ENDPOINT"),
        (without(AZURE, "AZURE_OPENAI_VERSION"), "AZURE_OPENAI_VERSION"),
        ({**OPENAI, "BATCH_SIZE": "0"}, "BATCH_SIZE"),
        ({**OPENAI, "BATCH_SIZE": "-5"}, "BATCH_SIZE"),
        ({**OPENAI, "BATCH_SIZE": "many"}, "BATCH_SIZE"),
        ({**OPENAI, "BATCH_SIZE": "1000000"}, "BATCH_SIZE"),
        ({**OPENAI, "OPENAI_TYPE": "azur"}, "OPENAI_TYPE"),
    ],
)
def test_what_is_missing_or_wrong_is_named(values: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, and no key."""
    setup(monkeypatch, values)
    with pytest.raises(ConfigError, match=named) as caught:
        environment_connection()
    assert "sk-secret" not in str(caught.value)


def test_a_model_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI has more than one."""
    setup(monkeypatch, without(OPENAI, "OPENAI_MODEL"))
    with pytest.raises(ConfigError, match="OPENAI_MODEL"):
        environment_model()


def test_a_generator_that_there_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ones there are."""
    setup(monkeypatch, {"EMBEDDING_GENERATOR": "OPENIA"})
    with pytest.raises(UnknownName, match='Did you mean "OPENAI"'):
        environment_model()
    assert environment_connection() is None
