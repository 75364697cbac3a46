"""A Gradio app that embeds tables of texts: version 5 and 4 with server-sent events, version 3 at once.

Source: https://www.gradio.app/guides/querying-gradio-apps-with-curl, and for `queue/join`, which Gradio's own client uses,
https://github.com/gradio-app/gradio/blob/main/client/python/gradio_client/client.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Facts, Made, Refusal, bearer, request_id
from lockstep.testing.chaos.protocols.openai import json_object

CALL = re.compile(r"(/gradio_api)?/call/[^/]+")
RUN = re.compile(r"/run/[^/]+")
JOIN = "/gradio_api/queue/join"
RESULT = re.compile(r"(?:/gradio_api)?/call/[^/]+/([^/]+)")
QUERY_INSTRUCTION = "query"
"""An instruction that begins with this makes queries of the texts."""


class Spaces:
    """An app with one function, `predict`; results wait here until they are fetched."""

    name = "spaces"

    def __init__(self) -> None:
        self._results: dict[str, str] = {}  # by event
        self._sessions: dict[str, list[dict[str, Any]]] = {}

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        is_ours = CALL.fullmatch(request.path) or RUN.fullmatch(request.path) or request.path == JOIN
        return request.method == "POST" and bool(is_ours)

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        given = request.headers.get("x-hf-authorization", "")
        return given.removeprefix("Bearer ") or bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`: one row of texts, or a row of instruction and text for each."""
        body = json_object(request)
        data = body.get("data")
        table = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
        rows = table.get("data")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
            raise Refusal("bad_request", "The data is no table.")
        is_plain = "headers" in table and len(rows) == 1
        texts = rows[0] if is_plain else [row[-1] for row in rows]
        instruction = "" if is_plain else str(rows[0][0])
        return Asked(
            texts=tuple(map(str, texts)),
            kind="query" if instruction.startswith(QUERY_INSTRUCTION) else "document",
            details={"path": request.path, "session": str(body.get("session_hash", ""))},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps()

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: the vectors, or the number of the event by which they can be had."""
        vectors = made.in_order().tolist()
        table = {"headers": [str(n) for n in range(made.vectors.shape[1])], "data": vectors, "metadata": None}
        path = asked.details["path"]
        if RUN.fullmatch(path):
            return json_reply({"data": [table], "is_generating": False, "duration": 0.01, "average_duration": 0.01})
        event = request_id("")
        if path == JOIN:
            message = {"msg": "process_completed", "event_id": event, "success": True, "output": {"data": [table]}}
            self._sessions.setdefault(asked.details["session"], []).append(message)
        else:
            # The stream begins with a sign of life, as that of a busy app does.
            self._results[event] = f"event: heartbeat\ndata: null\n\nevent: complete\ndata: {json.dumps([table])}\n\n"
        return json_reply({"event_id": event})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`; what an app's function raises is an event, not a status."""
        if refusal.reason == "rejected" and refusal.status is None and CALL.fullmatch(request.path):
            event = request_id("")
            self._results[event] = f"event: error\ndata: {json.dumps(refusal.message or None)}\n\n"
            return json_reply({"event_id": event})
        statuses = {"unauthorized": 401, "forbidden": 403, "rate_limited": 429, "unavailable": 503, "quota": 402}
        status = refusal.status or statuses.get(refusal.reason, 422)
        return json_reply({"detail": refusal.message or refusal.reason.replace("_", " ")}, status)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: there are none."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: results, and what an app tells of itself."""
        result = RESULT.fullmatch(request.path)
        known = ("/config", "/gradio_api/info", "/gradio_api/queue/data")
        if request.method != "GET" or not (result or request.path in known):
            return None
        if facts.key is not None and not self.accepts(request, facts.key):
            raise Refusal("unauthorized")
        if request.path == "/config":
            return json_reply(CONFIG)
        if request.path == "/gradio_api/info":
            return json_reply(INFO)
        if result:
            found = self._results.pop(result[1], None)
            if found is None:
                raise Refusal("bad_request", "Session not found.", status=404)
            return stream(found)
        messages = self._sessions.pop(request.query.get("session_hash", ""), [])
        return stream("".join(f"data: {json.dumps(each)}\n\n" for each in [*messages, {"msg": "close_stream"}]))


def stream(events: str) -> Reply:
    """Server-sent events, all at once."""
    return Reply(body=events.encode(), content_type="text/event-stream")


CONFIG: dict[str, Any] = {
    "version": "5.49.1",
    "protocol": "sse_v3",
    "api_prefix": "/gradio_api",
    "connect_heartbeat": False,
    "components": [
        {"id": 1, "type": "dataframe", "props": {}, "skip_api": False, "api_info": {"type": "object"}},
        {"id": 2, "type": "dataframe", "props": {}, "skip_api": False, "api_info": {"type": "object"}},
    ],
    "dependencies": [{"id": 0, "inputs": [1], "outputs": [2], "api_name": "predict", "backend_fn": True}],
}
_PARAMETER = {"label": "texts", "type": {"type": "object"}, "python_type": {"type": "dict"}, "component": "Dataframe"}
INFO: dict[str, Any] = {
    "named_endpoints": {
        "/predict": {
            "parameters": [{**_PARAMETER, "parameter_name": "texts", "parameter_has_default": False}],
            "returns": [_PARAMETER],
            "show_api": True,
        }
    },
    "unnamed_endpoints": {},
}
