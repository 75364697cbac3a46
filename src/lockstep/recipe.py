"""A task's settings: what they may be, and the identity of the vectors that they lead to."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from typing import Any

from lockstep.errors import ConfigError, UnknownName
from lockstep.extracting.paths import compile_path
from lockstep.models.remote.ellmental import environment_model
from lockstep.types import Chunking

NAME_LENGTH_MAX = 64
DAYS_MAX = 36_500
DEFAULT_MODEL = "local:minilm"


def default_model() -> str:
    """The model of a task that names none: `EMBEDDING_GENERATOR` may name another than `local:minilm`."""
    return environment_model() or DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class Task:
    """Embed these fields of this source with this model, this way."""

    name: str
    """A slug: a-z, 0-9 and single dashes."""
    source: str
    """A collection, or a table of the user's."""
    fields: tuple[str, ...]
    """Paths of the texts to embed: `name`, `address.city`, `tags[]`."""
    model: str = field(default_factory=default_model)
    """A model URI; the default is what the environment says, or `local:minilm`."""
    chunking: Chunking = field(default_factory=Chunking)
    cache_days: int = 90
    """How long a vector that nothing uses is kept, in case its text comes back."""
    query_cache_days: int = 14
    """The same for the vectors of queries."""
    batch_documents: int = 2048
    """Most documents claimed, embedded and stored at a time; fewer while the model is slow."""
    concurrency: int = 4
    """Batches on their way to the model at once."""
    max_cost_per_day: float | None = None
    """US dollars that syncing may cost on one day (UTC); None for any."""
    enabled: bool = True
    """A disabled task is paused: it does not sync and cannot be searched."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.fields:
            raise ConfigError(
                f'Task "{self.name}" names no fields.', 'Say which to embed, for example fields=["text"].'
            )
        duplicates = {path for path in self.fields if self.fields.count(path) > 1}
        if duplicates:
            raise ConfigError(f"Fields are named twice: {', '.join(sorted(duplicates))}.")
        for path in self.fields:
            compile_path(path)
        for setting, low, high in (
            ("cache_days", 0, DAYS_MAX),
            ("query_cache_days", 0, DAYS_MAX),
            ("batch_documents", 1, 10_000),
            ("concurrency", 1, 256),
        ):
            value = getattr(self, setting)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{setting} is {value!r}; it must be a whole number from {low} to {high}.")

        cap = self.max_cost_per_day
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 <= cap < 1e9):
            raise ConfigError(f"max_cost_per_day is {cap!r}; it must be US dollars, 0 or more.")

    @classmethod
    def create(cls, name: str, *, source: str, fields: Sequence[str] | str, **settings: Any) -> Task:
        """A task from what a user gives.

        Args:
            name: becomes a slug only by being one already; `slug` makes one.
            source: collection or table.
            fields: one path or several.
            **settings: other attributes; `chunking` may be a mapping.

        Raises:
            UnknownName: a setting that does not exist.
            ConfigError: a value that is not allowed.
        """
        known = {f.name for f in fields_of(cls)}
        for setting in settings:
            if setting not in known:
                raise UnknownName("task setting", setting, known)
        listed = (fields,) if isinstance(fields, str) else tuple(fields)
        chunking = settings.pop("chunking", None) or Chunking()
        if isinstance(chunking, Mapping):
            chunking = Chunking(**chunking)
        return cls(name=name, source=source, fields=listed, chunking=chunking, **settings)

    def to_json(self) -> str:
        """The settings as they are stored."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, **changed: Any) -> Task:
        """The task that `to_json` wrote, with some settings changed."""
        return cls.create(**(json.loads(text) | changed))


def check_name(name: str) -> None:
    """Refuse a name that is no slug, and say which characters are wrong.

    Raises:
        ConfigError: with the name that would do.
    """
    wrong = sorted({c for c in name if not re.fullmatch(r"[a-z0-9-]", c)})
    if wrong:
        shown = ", ".join(f'"{c}"' for c in wrong)
        problem = f"has characters that are not allowed: {shown}"
    elif not name or name.startswith("-") or name.endswith("-") or "--" in name:
        problem = "is empty, or starts or ends with a dash, or has two dashes in a row"
    elif len(name) > NAME_LENGTH_MAX:
        problem = f"is longer than {NAME_LENGTH_MAX} characters"
    else:
        return
    suggestion = slug(name)
    hint = f'Use a-z, 0-9 and single dashes, for example "{suggestion}".' if suggestion else "Use a-z, 0-9 and -."
    raise ConfigError(f'The task name "{name}" {problem}.', hint)


def slug(name: str) -> str:
    """The nearest allowed task name, possibly empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:NAME_LENGTH_MAX].strip("-")


def recipe_identity(task: Task, model_identity: str, max_tokens: int) -> str:
    """Hash of every setting that changes the task's embeddings; 32 hexadecimal digits.

    Args:
        task: the settings.
        model_identity: what the model's vectors depend on.
        max_tokens: of a chunk, after the model's limit was applied.
    """
    parts = {
        "source": task.source,
        "fields": task.fields,
        "model": model_identity,
        "chunking": {**asdict(task.chunking), "max_tokens": max_tokens},
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
