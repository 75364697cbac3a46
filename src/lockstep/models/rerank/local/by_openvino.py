"""A cross-encoder that OpenVINO runs on this machine's processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lockstep.models.local.engine import Engine
from lockstep.models.local.graph import read_graph, weights_of
from lockstep.models.local.tokenizer import SpecialIds
from lockstep.models.rerank.base import Reranked, RerankerInfo, Scores
from lockstep.models.rerank.local.folder import CrossEncoderFolder
from lockstep.models.rerank.local.graph import pair_graph
from lockstep.models.rerank.local.pairs import PairTokenizer
from lockstep.types import ModelInfo, Usage


class OpenVINOReranker:
    """A scorer on this machine. Safe to call from several threads."""

    def __init__(self, info: RerankerInfo, folder: CrossEncoderFolder, activation: str, threads: int) -> None:
        """Read the graph; it is compiled when it is first needed.

        Args:
            info: what is known of it besides what its folder says.
            folder: as it was read.
            activation: a key of `ACTIVATE`.
            threads: processors to use.

        Raises:
            ConfigError: a file is missing or damaged, or the graph is no cross-encoder's.
        """
        files = folder.files
        assert files.graph is not None
        self._tokenizer = PairTokenizer(files, files.max_tokens)
        graph = pair_graph(read_graph(files.graph), files.path, info.uri)
        _, size = weights_of(graph)
        self.info = replace(info, max_tokens=files.max_tokens, size_bytes=size)
        self._activate = ACTIVATE[activation]
        # The ids have the special ones among them already, so nothing is put around them.
        special = SpecialIds((), (), self._tokenizer.pad)
        facts = ModelInfo(uri=info.uri, dimensions=1, max_tokens=files.max_tokens, size_bytes=size)
        self._engine = Engine(lambda: graph, special, facts, threads)

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """See `Scorer.score`."""
        del timeout_s
        numbers = self._engine.run(self._tokenizer.ids(query, texts), urgent=True)[:, 0]
        return Reranked(self._activate(numbers), Usage(texts=len(texts)))


def sigmoid(numbers: Scores) -> Scores:
    """From 0 to 1, without overflow."""
    half: Scores = 0.5 * (1 + np.tanh(0.5 * numbers))
    return half


ACTIVATE: dict[str, Callable[[Scores], Scores]] = {
    "sigmoid": sigmoid,
    "none": lambda numbers: numbers,
    "tanh": np.tanh,
}
