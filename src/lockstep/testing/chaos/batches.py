"""OpenAI's batches: files of requests that are answered later, at half the price, in any order."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lockstep.errors import ConfigError
from lockstep.testing.chaos.faults import Fault
from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.multipart import form
from lockstep.testing.chaos.protocols.base import Refusal, request_id
from lockstep.testing.chaos.protocols.openai import json_object

ROUTE = re.compile(r"(?P<prefix>.*)/(?P<what>files|batches)(?:/(?P<id>[\w-]+))?(?:/(?P<verb>content|cancel))?")
LINES_MAX = 50_000
WINDOW_S = 86_400
DAY = "24h"

Outcome = Literal["completed", "failed", "expired"]
OUTCOMES = ("completed", "failed", "expired")
OVER = ("completed", "failed", "expired", "cancelled")


class Embedder(Protocol):
    """What the batches need of the service."""

    def line(self, request: Request) -> Reply:
        """The answer to one line."""
        ...

    def batch_fault(self, stage: Literal["batch", "batch_line"], texts: list[str]) -> Fault | None:
        """The fault that strikes a batch, or one of its lines."""
        ...


@dataclass(kw_only=True)
class File:
    """An uploaded file, or one that a batch wrote."""

    id: str
    content: bytes
    filename: str
    purpose: str
    created_at: int

    def as_json(self) -> dict[str, Any]:
        """As OpenAI describes it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": None,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(kw_only=True)
class Batch:
    """A batch and what became of it."""

    id: str
    input_file_id: str
    endpoint: str
    metadata: Mapping[str, str] | None
    created_at: float
    status: str = "in_progress"
    times: dict[str, int] = field(default_factory=dict)
    """When it came to be what, such as `completed_at`."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0

    def ends(self, status: str, at: float) -> None:
        """Note what became of it."""
        self.status = status
        self.times[f"{status}_at"] = int(at)

    def as_json(self) -> dict[str, Any]:
        """As OpenAI describes it."""
        created = int(self.created_at)
        names = ("finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": DAY,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": created,
            "in_progress_at": created,
            "expires_at": created + WINDOW_S,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in names},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


class Batches:
    """All files and batches of one server.

    Args:
        latency_s: after so long a batch is finished; None when only `finish` finishes them.
        clock: seconds since 1970.
    """

    def __init__(self, latency_s: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self._latency_s = latency_s
        self._clock = clock
        self._files: dict[str, File] = {}
        self._batches: dict[str, Batch] = {}
        self._numbers = itertools.count(1)

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether this is a request about files or batches."""
        return ROUTE.fullmatch(request.path) is not None

    def reply(self, request: Request, embedder: Embedder) -> Reply:
        """The answer.

        Raises:
            Refusal: OpenAI would refuse the request.
        """
        route = ROUTE.fullmatch(request.path)
        assert route is not None
        self._finish_due(embedder)
        name, asked = route["id"] or "", (request.method, route["what"], bool(route["id"]), route["verb"])
        match asked:
            case ("POST", "files", False, None):
                return self._upload(request)
            case ("GET", "files", False, None):
                return _listed([file.as_json() for file in self._files.values()], request)
            case ("GET", "files", True, None):
                return json_reply(self._file(name).as_json())
            case ("DELETE", "files", True, None):
                del self._files[self._file(name).id]
                return json_reply({"id": name, "object": "file", "deleted": True})
            case ("GET", "files", True, "content"):
                return Reply(body=self._file(name).content, content_type="application/octet-stream")
            case ("POST", "batches", False, None):
                return self._create(request)
            case ("GET", "batches", False, None):
                return _listed([batch.as_json() for batch in reversed(self._batches.values())], request)
            case ("GET", "batches", True, None):
                return json_reply(self._batch(name).as_json())
            case ("POST", "batches", True, "cancel"):
                return self._cancel(self._batch(name))
        raise Refusal("bad_request", f"Not allowed: {request.method} {request.path}", status=405)

    def finish(self, embedder: Embedder, outcome: str = "completed") -> int:
        """Finish all open batches now; returns how many there were."""
        if outcome not in OUTCOMES:
            raise ConfigError(f'A batch cannot end as "{outcome}".', f"It can be {', '.join(OUTCOMES)}.")
        opened = [batch for batch in self._batches.values() if batch.status == "in_progress"]
        for batch in opened:
            self._finish(batch, embedder, outcome)
        return len(opened)

    def _finish_due(self, embedder: Embedder) -> None:
        """What has come to its end since the last request."""
        now = self._clock()
        for batch in self._batches.values():
            due = self._latency_s is not None and now >= batch.created_at + self._latency_s
            if batch.status == "cancelling":
                batch.ends("cancelled", now)
            elif batch.status == "in_progress" and due:
                self._finish(batch, embedder, "completed")

    def _upload(self, request: Request) -> Reply:
        parts = form(request)
        if "file" not in parts or "purpose" not in parts:
            raise Refusal("bad_request", "'file' and 'purpose' are required properties")
        purpose = parts["purpose"].content.decode("utf-8", "replace")
        return json_reply(self._written(parts["file"].content, parts["file"].filename, purpose).as_json())

    def _create(self, request: Request) -> Reply:
        body = json_object(request)
        endpoint, window = body.get("endpoint"), body.get("completion_window")
        if not str(endpoint).endswith("/embeddings"):
            raise Refusal("bad_request", f"Invalid value: '{endpoint}'. Supported here: '/v1/embeddings'.")
        if window != DAY:
            raise Refusal("bad_request", f"Invalid value: '{window}'. Value must be '{DAY}'.")
        file = self._file(str(body.get("input_file_id")))
        batch = Batch(
            id=self._id("batch_"),
            input_file_id=file.id,
            endpoint=str(endpoint),
            metadata=body.get("metadata"),
            created_at=self._clock(),
        )
        lines, batch.errors = _checked_lines(file.content, str(endpoint))
        batch.total = len(lines)
        if batch.errors:
            batch.ends("failed", batch.created_at)
        self._batches[batch.id] = batch
        # OpenAI looks at the file later: the first answer always says so.
        return json_reply({**batch.as_json(), "status": "validating", "in_progress_at": None, "errors": None})

    def _cancel(self, batch: Batch) -> Reply:
        if batch.status != "in_progress":
            raise Refusal("bad_request", f"Cannot cancel a batch with status '{batch.status}'.", status=409)
        batch.ends("cancelling", self._clock())
        return json_reply(batch.as_json())

    def _finish(self, batch: Batch, embedder: Embedder, outcome: str) -> None:
        fault = embedder.batch_fault("batch", [])
        if fault:
            outcome = fault.name.removeprefix("batch_")
        if outcome == "failed":
            batch.errors = [_error("token_limit_exceeded", "Enqueued token limit reached for this organization.")]
        else:
            self._run(batch, embedder, outcome)
        batch.ends(outcome, self._clock())

    def _run(self, batch: Batch, embedder: Embedder, outcome: str) -> None:
        """Answer the lines: all of them, or every second one of a batch that expires."""
        lines, _ = _checked_lines(self._files[batch.input_file_id].content, batch.endpoint)
        output: list[bytes] = []
        errors: list[bytes] = []
        for number, line in enumerate(lines):
            if outcome == "expired" and number % 2:
                message = "This request could not be executed before the completion window expired."
                errors.append(self._result(line, None, {"code": "batch_expired", "message": message}))
                continue
            reply = _answered(line, embedder)
            (output if reply.status == 200 else errors).append(self._result(line, reply, None))
        batch.completed, batch.failed = len(output), len(errors)
        # No order is promised, so there is none.
        if output:
            batch.output_file_id = self._written(_shuffled(output), f"{batch.id}_output.jsonl", "batch_output").id
        if errors:
            batch.error_file_id = self._written(_shuffled(errors), f"{batch.id}_error.jsonl", "batch_output").id

    def _result(self, line: Mapping[str, Any], reply: Reply | None, error: Mapping[str, str] | None) -> bytes:
        """A line of an output or error file; the body is put in as it is, for it is JSON already."""
        response = b"null"
        if reply is not None:
            head = f'{{"status_code":{reply.status},"request_id":"{request_id()}","body":'
            response = head.encode() + reply.body + b"}"
        start = json.dumps({"id": self._id("batch_req_"), "custom_id": line["custom_id"]})[:-1]
        return start.encode() + b', "response":' + response + b', "error":' + json.dumps(error).encode() + b"}\n"

    def _written(self, content: bytes, filename: str, purpose: str) -> File:
        name = self._id("file-")
        file = File(id=name, content=content, filename=filename, purpose=purpose, created_at=int(self._clock()))
        self._files[name] = file
        return file

    def _file(self, name: str) -> File:
        if name not in self._files:
            raise Refusal("bad_request", f"No such File object: {name}", status=404, parameter="id")
        return self._files[name]

    def _batch(self, name: str) -> Batch:
        if name not in self._batches:
            raise Refusal("bad_request", f"No batch found with id '{name}'.", status=404)
        return self._batches[name]

    def _id(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):024x}"


def _checked_lines(content: bytes, endpoint: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of a file, and what is wrong with it."""
    lines: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, text in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(text)
            custom_id, fits = line["custom_id"], line["method"] == "POST" and isinstance(line["body"], dict)
        except (ValueError, KeyError, TypeError):
            errors.append(_error("invalid_json_line", "This line is not parseable as valid JSON.", number))
            continue
        if custom_id in seen:
            errors.append(_error("duplicate_custom_id", f"The custom_id {custom_id} is used more than once.", number))
        elif not fits or line.get("url") != endpoint:
            errors.append(_error("invalid_url", "The URL or method provided is not the batch's endpoint.", number))
        seen.add(custom_id)
        lines.append(line)
    if not lines and not errors:
        errors.append(_error("empty_file", "The input file is empty."))
    if len(lines) > LINES_MAX:
        errors.append(_error("too_many_tasks", f"The batch has {len(lines)} requests, {LINES_MAX} are allowed."))
    return lines, errors


def _error(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": None}


def _answered(line: Mapping[str, Any], embedder: Embedder) -> Reply:
    given = line["body"].get("input")
    texts = [given] if isinstance(given, str) else [str(text) for text in given or ()]
    fault = embedder.batch_fault("batch_line", texts)
    if fault:
        error = {"message": "The server had an error processing this line.", "type": "server_error", "code": None}
        return json_reply({"error": error}, fault.arguments["status"])
    return embedder.line(Request(method="POST", path=line["url"], body=json.dumps(line["body"]).encode()))


def _shuffled(lines: list[bytes]) -> bytes:
    """The lines, the last first, and the odd ones before the even ones: an order that nobody can rely on by mistake."""
    backwards = lines[::-1]
    return b"".join(backwards[1::2] + backwards[::2])


def _listed(items: list[dict[str, Any]], request: Request) -> Reply:
    """One page of a list, after the item that the request names."""
    limit = int(request.query.get("limit", "20")) if request.query.get("limit", "20").isdecimal() else 20
    after = request.query.get("after")
    start = next((place + 1 for place, item in enumerate(items) if item["id"] == after), 0) if after else 0
    page = items[start : start + limit]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return json_reply({"object": "list", "data": page, **ends, "has_more": start + limit < len(items)})
