"""What a sync did: counters that are values, added up with `+`, and the properties that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from lockstep.storage.history import hit_rate


@dataclass(frozen=True, slots=True)
class SyncStats:
    """What was done for one task, or for several when added up."""

    documents: int = 0
    """Documents looked at: new, changed, unchanged, deleted and failed."""
    unchanged: int = 0
    """Of these, those whose embeddings were right already."""
    deleted: int = 0
    """Of these, those that are gone from the source."""
    failed: int = 0
    """Of these, those that could not be embedded; `errors` lists them."""
    chunks: int = 0
    """Chunks written."""
    embedded: int = 0
    """Texts that the model embedded."""
    batched: int = 0
    """Of these, those that came back in a batch; the documents then take them from the cache."""
    cached: int = 0
    """Texts whose vector was known."""
    requests: int = 0
    """That a provider answered with vectors; 0 for models that run here."""
    retries: int = 0
    """Requests that were sent again."""
    limited: int = 0
    """Of these, those that the provider's limits refused (429)."""
    tokens: int = 0
    """As the provider counted them."""
    cost: float = 0.0
    """US dollars; 0 where no price is known."""
    seconds: float = 0.0
    """Wall-clock time."""
    seconds_read: float = 0.0
    """Of it, reading, extracting, chunking and looking up."""
    seconds_model: float = 0.0
    """Time in the model, summed over its threads; it overlaps with the others."""
    seconds_write: float = 0.0
    """Of it, storing."""

    def __add__(self, other: SyncStats) -> SyncStats:
        return SyncStats(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(SyncStats)})

    def __sub__(self, other: SyncStats) -> SyncStats:
        return SyncStats(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(SyncStats)})

    @property
    def hit_rate(self) -> float | None:
        """Share of the texts whose vector was known, from 0 to 1; None when none was needed."""
        return hit_rate(self.cached, self.embedded, self.batched)

    @property
    def written(self) -> int:
        """Documents whose embeddings were replaced."""
        return self.documents - self.unchanged - self.deleted - self.failed

    @property
    def documents_per_s(self) -> float:
        """Documents looked at per second."""
        return self.documents / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the sync of a task has come."""

    task: str
    done: int
    """Documents."""
    total: int
    """Documents known to wait when the sync began; more may come."""
    texts: int
    """Texts embedded so far."""
    unit: str = "documents"
    """What `done` and `total` count; "texts in batches" while it waits for those."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What `sync` did, task by task and in all."""

    tasks: dict[str, SyncStats]
    outages: dict[str, str]
    """Tasks that stopped because their model could not be reached, and why; their changes wait."""
    seconds: float
    notes: dict[str, str] = field(default_factory=dict)
    """What else is worth knowing of a task, such as a batch of which texts failed."""

    def __str__(self) -> str:
        total = self.total
        failed = f", {total.failed} failed" if total.failed else ""
        stopped = f", stopped early: {', '.join(self.outages)}" if self.outages else ""
        return f"{total.documents} documents, {total.embedded} texts embedded{failed}{stopped} in {self.seconds:.2f} s"

    @property
    def total(self) -> SyncStats:
        """All tasks added up, but for the time: tasks may overlap."""
        return sum(self.tasks.values(), SyncStats())

    @property
    def documents(self) -> int:
        """Documents looked at."""
        return self.total.documents

    @property
    def embedded(self) -> int:
        """Texts that models embedded."""
        return self.total.embedded

    @property
    def failed(self) -> int:
        """Documents that could not be embedded."""
        return self.total.failed

    @property
    def complete(self) -> bool:
        """Whether everything is embedded as it is."""
        return not self.outages and not self.failed
