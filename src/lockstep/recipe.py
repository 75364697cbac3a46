"""A task's settings: what they may be, the identity of the vectors that they lead to, and what a change of them demands."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from datetime import date
from typing import Any, Literal

from lockstep.errors import ConfigError, UnknownName
from lockstep.extracting.paths import compile_path
from lockstep.models.remote.ellmental import environment_model
from lockstep.types import FORMS, METRICS, Chunking, Form, IndexSettings, Metric

NAME_LENGTH_MAX = 64
DAYS_MAX = 36_500
DIMENSIONS_MAX = 65_536
DEFAULT_MODEL = "local:minilm"
PREMADE = "premade"
"""The kind of model of vectors that documents bring along."""

TEXTS_FROM = ("fields", "template", "script", "function", "vectors")
"""Settings that say where texts or vectors come from; a task has one of them, and `fields` may go with `files`."""


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
    fields: tuple[str, ...] = ()
    """Paths of the texts to embed: `name`, `address.city`, `tags[]`."""
    files: tuple[str, ...] = ()
    """Paths of fields that name a file, or hold one: PDF, HTML, Markdown or text."""
    template: str | None = None
    """Instead of fields: one text per document, `{{ name }}: {{ description }}`."""
    script: str | None = None
    """Instead of fields: JavaScript that calls `embeddings.generate({...})`."""
    function: str | None = None
    """Instead of fields: a Python function, `package.module:name`, or a name given to `lockstep.open`."""
    vectors: str | None = None
    """Instead of fields: the field that holds vectors which were made elsewhere."""
    dimensions: int | None = None
    """Of those vectors; not needed when `model` says which model made them."""
    where: Mapping[str, Any] | None = None
    """Only documents that this filter lets through are embedded."""
    model: str = field(default_factory=default_model)
    """A model URI; the default is what the environment says, or `local:minilm`."""
    chunking: Chunking = field(default_factory=Chunking)
    """How texts are cut."""
    field_chunking: Mapping[str, Chunking] = field(default_factory=dict)
    """How those of some fields are cut, where that differs."""
    query_chunking: Chunking = field(default_factory=Chunking)
    """How a query is cut that is too long; a document then counts by the piece it is nearest to."""
    quantization: Form = "float32"
    """What vectors are stored in: float32, float16, int8 or binary."""
    metric: Metric = "cosine"
    """How a search compares vectors: cosine, dot or euclidean."""
    index: IndexSettings = field(default_factory=IndexSettings)
    """What finds candidates for a search: "bits", "hnsw", or a mapping with the settings of one."""
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
        self._check_texts()
        self._check_numbers()
        for setting, value, known in (
            ("quantization", self.quantization, FORMS),
            ("metric", self.metric, METRICS),
        ):
            if value not in known:
                raise UnknownName(setting, str(value), known)
        if self.index.kind == "hnsw" and self.quantization == "binary":
            raise ConfigError(
                'The index is "hnsw", and binary vectors are what the index "bits" scans: a graph of them is of no use.',
                'Take the index "bits", or keep vectors as int8.',
            )
        unknown = self.field_chunking.keys() - {*self.fields, *self.files}
        if unknown:
            raise UnknownName(
                "field of the task with a chunking of its own,", min(unknown), [*self.fields, *self.files]
            )
        if self.where is not None and not isinstance(self.where, Mapping):
            raise ConfigError(f"where is {self.where!r}, not a filter.", 'For example {"price": {"$lt": 90}}.')

    def _check_texts(self) -> None:
        given = [setting for setting in TEXTS_FROM if getattr(self, setting)]
        if self.files and "fields" not in given:
            given.insert(0, "files")
        if not given:
            raise ConfigError(
                f'Task "{self.name}" names no fields.', 'Say which to embed, for example fields=["text"].'
            )
        if len(given) > 1:
            raise ConfigError(
                f'Task "{self.name}" has {" and ".join(given)}; its texts come from one of them.', "Leave one."
            )
        paths = [*self.fields, *self.files]
        duplicates = {path for path in paths if paths.count(path) > 1}
        if duplicates:
            raise ConfigError(f"Fields are named twice: {', '.join(sorted(duplicates))}.")
        for path in (*paths, *([self.vectors] if self.vectors else [])):
            compile_path(path)
        if self.dimensions is not None and not self.vectors:
            raise ConfigError(
                "dimensions is for vectors that documents bring along.",
                f'For shorter vectors of a model, say so in its name: "{self.model}?dimensions={self.dimensions}".',
            )
        if self.vectors and self.model.startswith(f"{PREMADE}:") and self.dimensions is None:
            raise ConfigError(
                f'Task "{self.name}" has vectors, and nothing says how long they are.',
                "Give dimensions=384, or the model that made them.",
            )

    def _check_numbers(self) -> None:
        for setting, low, high in (
            ("cache_days", 0, DAYS_MAX),
            ("query_cache_days", 0, DAYS_MAX),
            ("batch_documents", 1, 10_000),
            ("concurrency", 1, 256),
            *([("dimensions", 1, DIMENSIONS_MAX)] if self.dimensions is not None else []),
        ):
            value = getattr(self, setting)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(f"{setting} is {value!r}; it must be a whole number from {low} to {high}.")
        cap = self.max_cost_per_day
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 <= cap < 1e9):
            raise ConfigError(f"max_cost_per_day is {cap!r}; it must be US dollars, 0 or more.")

    @classmethod
    def create(
        cls,
        name: str,
        *,
        source: str,
        fields: Sequence[str] | str | Mapping[str, Mapping[str, Any] | None] = (),
        **settings: Any,
    ) -> Task:
        """A task from what a user gives.

        Args:
            name: becomes a slug only by being one already; `slug` makes one.
            source: collection or table.
            fields: one path or several; a mapping says of each how it is cut.
            **settings: other attributes; `chunking` and its like may be mappings.

        Raises:
            UnknownName: a setting that does not exist.
            ConfigError: a value that is not allowed.
        """
        known = {f.name for f in fields_of(cls)}
        for setting in settings:
            if setting not in known:
                raise UnknownName("task setting", setting, known)
        chunked = dict(settings.pop("field_chunking", None) or {})
        if isinstance(fields, Mapping):
            chunked |= {path: how for path, how in fields.items() if how}
        for setting in ("chunking", "query_chunking"):
            settings[setting] = chunking_from(settings.get(setting))
        if settings.get("vectors") and not settings.get("model"):
            settings["model"] = f"{PREMADE}:{settings.get('dimensions')}"
        if settings.get("model", "") is None:
            del settings["model"]
        if "index" in settings:
            settings["index"] = index_from(settings["index"])
        if settings.get("where") is not None:
            settings["where"] = plain(settings["where"])
        return cls(
            name=name,
            source=source,
            fields=(fields,) if isinstance(fields, str) else tuple(fields),
            files=listed(settings.pop("files", ())),
            field_chunking={path: chunking_from(how) for path, how in chunked.items()},
            **settings,
        )

    def chunking_at(self, place: str) -> Chunking:
        """How a text is cut that stands at that place of a document: `tags[0]` as its field `tags[]`."""
        if not self.field_chunking:
            return self.chunking
        plain = re.sub(r"\[\d*\]", "", place)
        fitting = (how for path, how in self.field_chunking.items() if path.replace("[]", "") == plain)
        return next(fitting, self.chunking)

    def to_json(self) -> str:
        """The settings as they are stored."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, **changed: Any) -> Task:
        """The task that `to_json` wrote, with some settings changed."""
        stored = json.loads(text)
        if stored.get("index", {}).get("kind") == "bits":
            stored["index"] = "bits"  # what is written of graphs beside it are the defaults of that day
        return cls.create(**(stored | changed))


def chunking_from(given: Any) -> Chunking:
    """A chunking from what a user gives: one, a mapping, or None for the default.

    Raises:
        UnknownName: it has a setting that does not exist.
    """
    if given is None or isinstance(given, Chunking):
        return given or Chunking()
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"A chunking is {given!r}.", 'Say how, for example {"method": "markdown", "max_tokens": 256}.'
        )
    known = {f.name for f in fields_of(Chunking)}
    for setting in given:
        if setting not in known:
            raise UnknownName("chunking setting", setting, known)
    return Chunking(**given)


def index_from(given: Any) -> IndexSettings:
    """Settings of an index from what a user gives: them, a kind, a mapping, or None for the default.

    Raises:
        UnknownName: there is no such kind or setting.
        ConfigError: a value is not allowed.
    """
    if given is None or isinstance(given, IndexSettings):
        return given or IndexSettings()
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, Mapping):
        raise ConfigError(f"The index is {given!r}.", 'Say which, for example "hnsw" or {"kind": "hnsw", "m": 32}.')
    known = {f.name for f in fields_of(IndexSettings)}
    for setting in given:
        if setting not in known:
            raise UnknownName("index setting", str(setting), known)
    return IndexSettings(**given)


def plain(value: Any) -> Any:
    """A filter as JSON holds it: dates become `{"$date": …}`, as in MongoDB's Extended JSON."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return {"$date": value.isoformat()} if isinstance(value, date) else value


def listed(given: Sequence[str] | str | None) -> tuple[str, ...]:
    """One path or several."""
    return (given,) if isinstance(given, str) else tuple(given or ())


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


Demand = Literal["nothing", "requantise", "rebuild"]
"""What a change of settings demands: nothing of the vectors, to store them in another form, or to go through all
documents again, where texts that are in the cache cost nothing."""

DEMANDS: dict[str, Demand] = {
    "source": "rebuild",
    "fields": "rebuild",
    "files": "rebuild",
    "template": "rebuild",
    "script": "rebuild",
    "function": "rebuild",
    "vectors": "rebuild",
    "dimensions": "rebuild",
    "where": "rebuild",
    "model": "rebuild",
    "chunking": "rebuild",
    "field_chunking": "rebuild",
    "quantization": "requantise",
    "query_chunking": "nothing",
    "metric": "nothing",
    "index": "nothing",
    "cache_days": "nothing",
    "query_cache_days": "nothing",
    "batch_documents": "nothing",
    "concurrency": "nothing",
    "max_cost_per_day": "nothing",
    "enabled": "nothing",
}
"""Of each setting but the name, which cannot be changed."""


def changed_settings(before: Task, after: Task) -> tuple[str, ...]:
    """The settings in which two tasks differ."""
    # As they are stored: True and 1 are equal, and not to a filter.
    one, other = json.loads(before.to_json()), json.loads(after.to_json())
    return tuple(name for name in DEMANDS if json.dumps(one[name]) != json.dumps(other[name]))


def demand_of(before: Task, after: Task, *, same_model: bool) -> Demand:
    """What a change of settings demands.

    Args:
        before: the settings whose vectors are there.
        after: those that are wanted.
        same_model: whether both models give the same vectors, whatever they are called: another endpoint or key is none.
    """
    demands = {DEMANDS[name] for name in changed_settings(before, after) if name != "model"}
    if not same_model or "rebuild" in demands:
        return "rebuild"
    return "requantise" if "requantise" in demands else "nothing"


def recipe_identity(task: Task, model_identity: str, max_tokens: int) -> str:
    """Hash of every setting that changes the task's embeddings; 32 hexadecimal digits.

    Args:
        task: the settings.
        model_identity: what the model's vectors depend on.
        max_tokens: of a chunk, as the model takes them.
    """
    settings = asdict(task)
    parts = {name: settings[name] for name, demand in DEMANDS.items() if demand != "nothing"}
    parts |= {"model": model_identity, "max_tokens": max_tokens}
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
