"""`premade:384`, the model of vectors that documents bring along: it says how long they are, and embeds nothing."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.errors import ConfigError
from lockstep.models.tokens import WordTokenizer
from lockstep.models.uri import ModelURI
from lockstep.types import Ids, Kind, ModelInfo, Tokenizer, Vectors

TEXT_TOKENS_MAX = 1 << 20


class Premade:
    """A provider that cannot be asked."""

    def __init__(self, dimensions: int) -> None:
        self.info = ModelInfo(
            uri=f"premade:{dimensions}",
            dimensions=dimensions,
            max_tokens=TEXT_TOKENS_MAX,
            normalised=False,
            description="Vectors that documents bring along.",
        )

    @classmethod
    def open(cls, uri: ModelURI, *, download: bool = True) -> Premade:
        """The model that a URI `premade:DIMENSIONS` describes."""
        del download
        uri.allow()
        if not uri.name.isdecimal() or not int(uri.name):
            raise ConfigError(f'"{uri.name}" is no number of dimensions.', "For example premade:384.")
        return cls(int(uri.name))

    @property
    def identity(self) -> str:
        """See `Provider.identity`."""
        return self.info.uri

    @property
    def tokenizer(self) -> Tokenizer:
        """See `Provider.tokenizer`."""
        return WordTokenizer()

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """Refuse.

        Raises:
            ConfigError: says what to do instead.
        """
        del texts, kind, tokens
        raise ConfigError(
            "These vectors were made elsewhere, and nothing says by which model: texts cannot be compared with them.",
            "Search with a vector, or give the task the model that made them.",
        )
