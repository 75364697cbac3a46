"""Decides what each request is answered: keys, faults, limits, vectors, counting. No sockets here."""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lockstep.models.tokens import WordTokenizer
from lockstep.testing.chaos.batch_dialects import AllBatches
from lockstep.testing.chaos.counters import Counters
from lockstep.testing.chaos.faults import CONTENT, Fault, new_fault
from lockstep.testing.chaos.http import Reply, Request
from lockstep.testing.chaos.limits import Limits
from lockstep.testing.chaos.protocols import protocols
from lockstep.testing.chaos.protocols.base import Asked, Caps, ChaosProtocol, Facts, Made, Reason, Refusal
from lockstep.testing.chaos.protocols.openai import OpenAI
from lockstep.testing.chaos.spoiling import html_page, spoiled_reply, spoiled_vectors
from lockstep.testing.hash_model import hash_vectors
from lockstep.testing.overlap import overlap_scores

Wire = Literal["whole", "timeout", "reset", "reset_midway", "huge", "dribble"]
"""How a reply is sent, if at all."""

_REASONS: dict[int, Reason] = {
    401: "unauthorized",
    403: "forbidden",
    404: "unknown_model",
    413: "too_many_tokens",
    429: "rate_limited",
}
"""What a status means in general, for the fault "status"."""

BATCH_SPEAKERS = {"openai", "azure", "voyage", "google"}
_WIRES: dict[str, Wire] = {"timeout": "timeout", "reset": "reset", "huge": "huge", "dribble": "dribble"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is to be done about a request."""

    reply: Reply
    wire: Wire = "whole"
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server is told when it is made; see `ChaosServer`."""

    url: str = ""
    dimensions: int = 384
    latency_s: float = 0.0
    key: str | None = None
    limit_headers: bool = True
    models: Collection[str] | None = None


class Service:
    """The provider itself; may be used by several threads."""

    def __init__(
        self, settings: Settings, limits: Limits, counters: Counters, speaks: Iterable[str] | None, batches: AllBatches
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.counters = counters
        self.batches = batches
        self.lock = threading.RLock()
        self._protocols = protocols(speaks)
        self._faults: list[Fault] = []

    def fault(self, name: str, **arguments: Any) -> None:
        """Add a fault."""
        fault = new_fault(name, **arguments)
        with self.lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Take all faults away."""
        with self.lock:
            self._faults.clear()

    def act(self, request: Request) -> Action:
        """What a request is answered; from here on it counts as paid if it is to be."""
        with self.lock:
            for protocol in self._protocols:
                if protocol.takes(request):
                    return self._embedding(protocol, request)
            return self._other(request)

    def line(self, request: Request) -> Reply:
        """The answer to a line of a batch: no key, no rate limit, and of the faults only those of the text."""
        with self.lock:
            protocol = next((each for each in self._protocols if each.takes(request)), OpenAI())
            try:
                asked, tokens = self._asked(protocol, request)
                fault = self._instead(request, asked.texts, tokens, CONTENT)
                if fault:
                    raise _refusal(fault, asked.texts, tokens, asked.model, "")
            except Refusal as refusal:
                return protocol.refuse(refusal, request)
            self.counters.pay_batch(asked.texts, tokens)
            return protocol.render(asked, self._made(asked, tokens))

    def batch_fault(self, stage: Literal["batch", "batch_line"], texts: Sequence[str]) -> Fault | None:
        """The fault that strikes a batch, or a line of one with these texts; None where none does."""
        found = (fault for fault in self._faults if fault.kind.stage == stage)
        return next((fault for fault in found if fault.strikes("", texts)), None)

    def _embedding(self, protocol: ChaosProtocol, request: Request) -> Action:
        try:
            self._check_key(protocol, request)
            asked, tokens = self._asked(protocol, request)
            fault = self._instead(request, asked.texts, tokens)
            if fault:
                return self._instead_of_embedding(fault, protocol, request, asked, tokens)
            self._take_from_limits(asked, tokens)
        except Refusal as refusal:
            return Action(reply=self._with_limits(protocol, protocol.refuse(refusal, request)))
        made = self._made(asked, tokens)
        for each in self._at("vectors"):
            made = self._spoiled(each, request, asked, made)
        self.counters.pay(asked.texts, tokens)
        reply = self._with_limits(protocol, protocol.render(asked, made))
        return self._spoiled_action(reply, request, asked.texts)

    def _check_key(self, protocol: ChaosProtocol, request: Request) -> None:
        key = self.settings.key
        if key is not None and not protocol.accepts(request, key):
            raise Refusal("unauthorized")

    def _take_from_limits(self, asked: Asked, tokens: Sequence[int]) -> None:
        wait_s = self.limits.take(sum(tokens))
        if wait_s:
            raise Refusal("rate_limited", retry_after_s=wait_s, model=asked.model)

    def _asked(self, protocol: ChaosProtocol, request: Request) -> tuple[Asked, tuple[int, ...]]:
        """What is asked for, and what each text costs."""
        asked = protocol.parse(request)
        models = self.settings.models
        if asked.model and models is not None and asked.model not in models:
            raise Refusal("unknown_model", model=asked.model)
        if asked.dimensions is not None and asked.dimensions > self.settings.dimensions:
            raise Refusal("dimensions", parameter="dimensions", limit=self.settings.dimensions, found=asked.dimensions)
        caps = protocol.caps(asked)
        if caps.texts is not None and len(asked.texts) > caps.texts:
            raise Refusal("too_many_texts", parameter="input", limit=caps.texts, found=len(asked.texts))
        return asked, _tokens(asked, caps)

    def _made(self, asked: Asked, tokens: tuple[int, ...]) -> Made:
        if asked.query is not None:
            scores = overlap_scores(asked.query, asked.texts)[:, None]
            return Made(vectors=scores, indices=tuple(range(len(scores))), tokens=tokens)
        texts = asked.texts if asked.kind == "document" else ["query\n" + text for text in asked.texts]
        vectors = hash_vectors(texts, asked.dimensions or self.settings.dimensions)
        return Made(vectors=vectors, indices=tuple(range(len(texts))), tokens=tokens)

    def _at(self, stage: str) -> list[Fault]:
        return [fault for fault in self._faults if fault.kind.stage == stage]

    def _instead(
        self,
        request: Request,
        texts: Sequence[str],
        tokens: Sequence[int],
        names: Collection[str] | None = None,
        *,
        embeds: bool = True,
    ) -> Fault | None:
        """The first fault that strikes instead of an answer; those after it wait for another request."""
        found = (fault for fault in self._at("instead") if names is None or fault.name in names)
        return next((fault for fault in found if fault.strikes(request.path, texts, tokens, embeds=embeds)), None)

    def _instead_of_embedding(
        self, fault: Fault, protocol: ChaosProtocol, request: Request, asked: Asked, tokens: Sequence[int]
    ) -> Action:
        action = _by_itself(fault)
        if action is not None:
            return action
        secrets = f"{request.headers.get('authorization', '')} {protocol.key(request)}"
        refusal = _refusal(fault, asked.texts, tokens, asked.model, secrets)
        return Action(reply=self._with_limits(protocol, protocol.refuse(refusal, request)))

    def _spoiled(self, fault: Fault, request: Request, asked: Asked, made: Made) -> Made:
        if fault.kind.by_text:
            return spoiled_vectors(fault.name, made, fault.rows(asked.texts))
        return spoiled_vectors(fault.name, made, ()) if fault.strikes(request.path, asked.texts) else made

    def _spoiled_action(self, reply: Reply, request: Request, texts: Sequence[str]) -> Action:
        latency_s = self.settings.latency_s
        for fault in self._at("latency"):
            if fault.strikes(request.path, texts):
                latency_s += fault.arguments["latency_s"]
        wire: Wire = "whole"
        for fault in self._at("after"):
            if fault.strikes(request.path, texts):
                reply = spoiled_reply(fault.name, reply)
                wire = "reset_midway" if fault.name == "reset_midway" else wire
                break
        return Action(reply=reply, wire=wire, latency_s=latency_s)

    def _with_limits(self, protocol: ChaosProtocol, reply: Reply) -> Reply:
        if not self.settings.limit_headers:
            return reply
        return replace(reply, headers={**reply.headers, **protocol.limit_headers(self.limits.allowances())})

    def _other(self, request: Request) -> Action:
        """A request that is not for embeddings; faults strike it only where they name its path."""
        speaker: ChaosProtocol = OpenAI()
        settings = self.settings
        facts = Facts(url=settings.url, dimensions=settings.dimensions, models=settings.models, key=settings.key)
        fault = self._instead(request, (), (), embeds=False)
        if fault:
            empty = Asked(texts=())
            return self._instead_of_embedding(fault, speaker, request, empty, ())
        try:
            for protocol in self._protocols:
                speaker = protocol
                reply = protocol.other(request, facts)
                if reply is not None:
                    return Action(reply=reply)
            if AllBatches.takes(request) and {each.name for each in self._protocols} & BATCH_SPEAKERS:
                speaker = self._batch_speaker(request)
                self._check_key(speaker, request)
                return Action(reply=self.batches.reply(request, self))
        except Refusal as refusal:
            return Action(reply=speaker.refuse(refusal, request))
        message = f"Invalid URL ({request.method} {request.path})"
        return Action(reply=OpenAI().refuse(Refusal("bad_request", message, status=404), request))

    def _batch_speaker(self, request: Request) -> ChaosProtocol:
        name = "azure" if request.path.startswith("/openai/") else "openai"
        if AllBatches.is_google(request):
            name = "google"
        return next((each for each in self._protocols if each.name == name), OpenAI())


def _tokens(asked: Asked, caps: Caps) -> tuple[int, ...]:
    """What each text costs; raises where that is more than the service takes."""
    tokens = tuple(len(ids) for ids in _tokenizer().ids(asked.texts))
    if asked.query is not None:  # it is read with every text
        own = len(_tokenizer().ids([asked.query])[0])
        tokens = tuple(own + count for count in tokens)
    if asked.tokens is not None:
        tokens = tuple(count if given is None else given for given, count in zip(asked.tokens, tokens, strict=True))
    limit = caps.text_tokens
    if limit is not None and asked.truncate:
        tokens = tuple(min(count, limit) for count in tokens)
    elif limit is not None and max(tokens, default=0) > limit:
        raise Refusal("too_long", limit=limit, found=max(tokens), model=asked.model)
    if caps.request_tokens is not None and sum(tokens) > caps.request_tokens:
        raise Refusal("too_many_tokens", limit=caps.request_tokens, found=sum(tokens), model=asked.model)
    return tokens


@functools.cache
def _tokenizer() -> WordTokenizer:
    return WordTokenizer()


def _by_itself(fault: Fault) -> Action | None:
    """What a network or a proxy does, whatever the protocol; None for faults that the service itself has."""
    name, arguments = fault.name, fault.arguments
    if name == "redirect":
        return Action(reply=Reply(status=arguments["status"], headers={"Location": arguments["location"]}))
    if name == "html":
        return Action(reply=html_page(arguments["status"]))
    if name == "empty":
        return Action(reply=Reply(status=arguments["status"]))
    wire = _WIRES.get(name)
    return Action(reply=Reply(), wire=wire) if wire else None


def _refusal(fault: Fault, texts: Sequence[str], tokens: Sequence[int], model: str, secrets: str) -> Refusal:
    """The refusal that a fault stands for."""
    name, arguments = fault.name, fault.arguments
    if name == "status":
        status = int(arguments["status"])
        reason = _REASONS.get(status, "unavailable" if status >= 500 else "bad_request")
        return Refusal(reason, status=status, retry_after_s=arguments["retry_after_s"], model=model)
    if name == "too_long":
        return Refusal("too_long", limit=arguments["over_tokens"], found=max(tokens, default=0), model=model)
    if name == "echo":
        return Refusal("rejected", f"Cannot serve {secrets} with input {' '.join(texts)}", model=model)
    reasons: dict[str, Reason] = {
        "reject": "rejected",
        "quota": "quota",
        "unauthorized": "unauthorized",
        "unknown_model": "unknown_model",
        "chat_model": "chat_model",
    }
    return Refusal(reasons[name], model=model)
