"""The protocols that the fake provider speaks: one file each, listed in the order in which a request is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lockstep.errors import UnknownName
from lockstep.testing.chaos.protocols.azure import Azure
from lockstep.testing.chaos.protocols.base import ChaosProtocol
from lockstep.testing.chaos.protocols.bedrock import Bedrock
from lockstep.testing.chaos.protocols.cohere import Cohere
from lockstep.testing.chaos.protocols.dashscope import DashScope
from lockstep.testing.chaos.protocols.google import Google
from lockstep.testing.chaos.protocols.huggingface import HuggingFace
from lockstep.testing.chaos.protocols.nomic import Nomic
from lockstep.testing.chaos.protocols.ollama import OldOllama, Ollama
from lockstep.testing.chaos.protocols.openai import OpenAI
from lockstep.testing.chaos.protocols.rerank_cohere import CohereRerank
from lockstep.testing.chaos.protocols.rerank_jina import JinaRerank
from lockstep.testing.chaos.protocols.rerank_tei import TEIRerank
from lockstep.testing.chaos.protocols.rerank_voyage import VoyageRerank
from lockstep.testing.chaos.protocols.spaces import Spaces
from lockstep.testing.chaos.protocols.tei import TEI
from lockstep.testing.chaos.protocols.vertex import Vertex
from lockstep.testing.chaos.protocols.voyage import Voyage

# Those that take a narrower set of requests come before those that take a wider one: OpenAI takes every `/embeddings`, and
# Jina every `/rerank`.
PROTOCOLS: dict[str, Callable[[], ChaosProtocol]] = {
    "azure": Azure,
    "tei": TEI,
    "spaces": Spaces,
    "ollama": Ollama,
    "ollama-0.2": OldOllama,
    "huggingface": HuggingFace,
    "bedrock": Bedrock,
    "cohere": Cohere,
    "google": Google,
    "vertex": Vertex,
    "dashscope": DashScope,
    "voyage": Voyage,
    "nomic": Nomic,
    "openai": OpenAI,
    "tei-rerank": TEIRerank,
    "cohere-rerank": CohereRerank,
    "voyage-rerank": VoyageRerank,
    "jina-rerank": JinaRerank,
}


def protocols(names: Iterable[str] | None = None) -> list[ChaosProtocol]:
    """New objects of the protocols with these names, of all by default, in the order of the table.

    Raises:
        UnknownName: there is no such protocol.
    """
    wanted = set(PROTOCOLS if names is None else names)
    for name in sorted(wanted - set(PROTOCOLS)):
        raise UnknownName("protocol", name, PROTOCOLS)
    return [make() for name, make in PROTOCOLS.items() if name in wanted]
