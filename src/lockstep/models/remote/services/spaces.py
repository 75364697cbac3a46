"""A Hugging Face Space, or any other Gradio app, that embeds: texts alone, or each with an instruction.

Gradio 5 and later takes a request at `/gradio_api/call/NAME`, answers with the id of an event, and tells its result as
server-sent events at `/gradio_api/call/NAME/ID`; Gradio 4 does the same without `/gradio_api`, and Gradio 3 answers at
`/run/NAME` at once.

The app gets and gives tables, as Gradio's component `Dataframe` has them: one row of all texts, or, with instructions, one
row (instruction, text) for each; and gives a row of numbers for each text.

Source: https://www.gradio.app/guides/querying-gradio-apps-with-curl
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from lockstep.errors import ConfigError, ProviderRejected
from lockstep.models.remote.answers import at, listed, matrix, read_json
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

PLACES: dict[str, str] = {"5": "/gradio_api/call/", "4": "/call/", "3": "/run/"}
EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, kw_only=True)
class SpaceWire:
    """Speaks Gradio's protocol."""

    identity: str
    url: str
    """Where the request goes."""
    answers_at_once: bool
    texts_max: int
    instruction: str | None = None
    """Before documents; with None and no `query_instruction`, texts go alone."""
    query_instruction: str | None = None
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        instruction = self.query_instruction if kind == "query" else self.instruction
        table: dict[str, Any] = {"headers": list(range(len(texts))), "data": [list(texts)]}
        if instruction is not None:
            table = {"data": [[instruction, text] for text in texts]}
        return json_request(self.url, {"data": [table]})

    def next_request(self, body: bytes) -> Request | None:
        """See `SteppedWire.next_request`."""
        if self.answers_at_once:
            return None
        event = at(read_json(body), "event_id")
        if not isinstance(event, str) or not EVENT_ID.fullmatch(event):
            raise ValueError("the answer has no event_id")
        return Request(f"{self.url}/{event}", b"", "GET", {"Accept": "text/event-stream"})

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`.

        Raises:
            ProviderRejected: the app failed; its own words may repeat the texts and are not shown.
        """
        outputs = at(read_json(body), "data") if self.answers_at_once else completed(body)
        return Answer(matrix(listed(at(outputs, 0, "data"), count, "table")))


def completed(stream: bytes) -> Any:
    """What the event `complete` of a stream of events says.

    Raises:
        ValueError: the stream ended without one.
        ProviderRejected: it has an `error` instead.
    """
    for event, data in events(stream.decode("utf-8", "replace")):
        if event == "error":
            raise ProviderRejected("The Space failed to embed.", "Its log, at the Space's own page, tells why.")
        if event == "complete":
            return read_json(data.encode())
    raise ValueError("the events ended without a result")


def events(stream: str) -> Iterator[tuple[str, str]]:
    """(event, data) of server-sent events. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    for block in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        fields = [line.partition(":") for line in block.splitlines()]
        event = [value.removeprefix(" ") for name, _, value in fields if name == "event"]
        data = [value.removeprefix(" ") for name, _, value in fields if name == "data"]
        if event:
            yield event[-1], "\n".join(data)


def open_space(uri: ModelURI, connection: Connection) -> SpaceWire:
    """The wire of a Space, `owner/name`, or of the app at the connection's address.

    Options: `instruction`, put before texts by an app that takes two columns; `query_instruction`, where queries have
    another; `api_name`, `predict` by default; `gradio`, the app's version: 5 (and later), 4 or 3.
    """
    uri.allow("instruction", "query_instruction", "api_name", "gradio")
    version = uri.choice("gradio", list(PLACES)) or "5"
    name = uri.options.get("api_name", "predict").strip("/")
    instruction, query = uri.options.get("instruction"), uri.options.get("query_instruction")
    if query is not None and instruction is None:
        instruction = ""
    base = connection.url if connection.base_url else space_url(uri.name)
    same = {option: value for option, value in uri.options.items() if option != "gradio"}
    return SpaceWire(
        identity=uri_identity(connection.kind, replace(uri, options=same)),
        url=f"{base}{PLACES[version]}{quote(name, safe='')}",
        answers_at_once=version == "3",
        texts_max=KINDS[connection.kind].texts_max,
        instruction=instruction,
        query_instruction=instruction if query is None else query,
    )


def space_url(name: str) -> str:
    """Where the Space `owner/name` is.

    Raises:
        ConfigError: that is not its form.
    """
    owner, slash, space = name.partition("/")
    host = re.sub(r"[^a-z0-9-]", "-", f"{owner}-{space}".lower())
    if not slash or not owner or not space or "/" in space:
        raise ConfigError(f'"{name}" names no Space.', "Write spaces:owner/name, or give the connection a base_url.")
    return f"https://{host}.hf.space"
