"""The environment of eLLMental's service, as it is: `EMBEDDING_GENERATOR` and what belongs to it.

    EMBEDDING_GENERATOR   OPENAI, SPACES_TEXT or SPACES_INSTRUCT
    BATCH_SIZE            most texts in a request
    OPENAI_TYPE           openai or azure;  OPENAI_API_KEY, OPENAI_MODEL
    AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_VERSION, AZURE_OPENAI_USE_ACTIVE_DIRECTORY
    EMBEDDINGS_GENERATION_URL, EMBEDDINGS_GENERATION_KEY   (its code reads SPACES_URL, SPACES_KEY: both are taken)

Source: https://github.com/theam/ellmental.py (embeddings/provider.py and the files beside it).
"""

from __future__ import annotations

import os
from urllib.parse import urlencode

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote.connection import Connection

NAME = "ellmental"
VARIABLE = "EMBEDDING_GENERATOR"
GENERATORS = ("OPENAI", "SPACES_TEXT", "SPACES_INSTRUCT")
# What the authors of INSTRUCTOR put before texts for retrieval; https://huggingface.co/hkunlp/instructor-large
DOCUMENT_INSTRUCTION = "Represent the document for retrieval: "
QUERY_INSTRUCTION = "Represent the question for retrieving supporting documents: "


def environment_model() -> str | None:
    """The URI of the model that the environment asks for; None when it asks for none.

    Raises:
        ConfigError: it asks, and something is missing.
        UnknownName: there is no such generator.
    """
    generator = os.environ.get(VARIABLE, "").strip().upper()
    if not generator:
        return None
    if generator not in GENERATORS:
        raise UnknownName(f"value of {VARIABLE}", generator, GENERATORS)
    if generator == "OPENAI":
        return f"{NAME}:{needed('OPENAI_MODEL')}"
    if generator == "SPACES_TEXT":
        return f"{NAME}:space"
    instructions = {"instruction": DOCUMENT_INSTRUCTION, "query_instruction": QUERY_INSTRUCTION}
    return f"{NAME}:space?{urlencode(instructions)}"


def environment_connection() -> Connection | None:
    """The connection that the environment describes; None when it describes none.

    Raises:
        ConfigError: something is missing or wrong; names the variable.
    """
    generator = os.environ.get(VARIABLE, "").strip().upper()
    if generator not in GENERATORS:
        return None
    texts = batch_size()
    if generator != "OPENAI":
        url = os.environ.get("EMBEDDINGS_GENERATION_URL") or needed("SPACES_URL", "EMBEDDINGS_GENERATION_URL")
        key = next(
            (f"env:{name}" for name in ("EMBEDDINGS_GENERATION_KEY", "SPACES_KEY") if os.environ.get(name)), None
        )
        return Connection.create(NAME, "spaces", base_url=url, api_key=key, texts_per_request=texts)
    kind = os.environ.get("OPENAI_TYPE", "openai").strip().lower()
    if kind == "openai":
        base_url = os.environ.get("OPENAI_BASE_URL") or None
        return Connection.create(
            NAME, "openai", base_url=base_url, api_key="env:OPENAI_API_KEY", texts_per_request=texts
        )
    if kind != "azure":
        raise UnknownName("value of OPENAI_TYPE", kind, ("openai", "azure"))
    by_directory = os.environ.get("AZURE_OPENAI_USE_ACTIVE_DIRECTORY", "").strip().lower() == "true"
    return Connection.create(
        NAME,
        "azure",
        base_url=needed("AZURE_OPENAI_ENDPOINT"),
        api_key=None if by_directory else "env:OPENAI_API_KEY",
        texts_per_request=texts,
        api_version=needed("AZURE_OPENAI_VERSION"),
        active_directory="true" if by_directory else None,
    )


def batch_size() -> int | None:
    """`BATCH_SIZE` as a number."""
    given = os.environ.get("BATCH_SIZE", "").strip()
    if not given:
        return None
    if not given.isdecimal() or len(given) > 6 or not 1 <= int(given) <= 100_000:
        raise ConfigError(f"BATCH_SIZE is {given!r}.", "Give a whole number of 1 or more; 50 is usual.")
    return int(given)


def needed(variable: str, *others: str) -> str:
    """A variable that must be set.

    Raises:
        ConfigError: it is not, or is empty.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        names = " or ".join((*others, variable))
        raise ConfigError(f"{VARIABLE} is set, and {names} is not.", f"Set {names}, or unset {VARIABLE}.")
    return value
