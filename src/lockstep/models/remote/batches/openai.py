"""OpenAI's batches: a file is uploaded, a batch made of it, its results are another file.

Azure has the same under `/openai/v1` of a resource, with a deployment's name as the model. Its pages list no embeddings
among the models that batches take, so it may refuse them.

Source: https://platform.openai.com/docs/api-reference/batch, https://platform.openai.com/docs/guides/batch and
https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/batch
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from lockstep.models.remote.answers import at, read_json
from lockstep.models.remote.batches import (
    NAME_FIELD,
    BatchLimits,
    BatchOutcome,
    BatchState,
    Form,
    Listed,
    Result,
    Upload,
    json_line,
    whole,
)
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.azure import VERSION_PATHS
from lockstep.models.remote.wire import Request, Wire, json_request

LIMITS = BatchLimits(texts=50_000, bytes=200_000_000)
PAGE = 100
STATES: dict[str, BatchOutcome] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
"""All others are on their way to one of these."""
TOO_LARGE = ("token_limit_exceeded", "enqueued")


@dataclass(frozen=True, kw_only=True)
class OpenAIBatches:
    """Speaks the protocol of OpenAI's files and batches."""

    wire: Wire
    base_url: str
    endpoint: str
    """What every line asks, as a batch names it."""
    limits: BatchLimits = LIMITS
    model: str | None = None
    """Put into the lines, where single requests name it in their address."""
    window: str = "24h"
    headers: Mapping[str, str] = field(default_factory=dict)

    def line(self, name: str, text: str) -> bytes:
        """See `BatchWire.line`."""
        body = self.wire.request([text], "document").body
        if self.model is not None:
            body = b'{"model":' + json.dumps(self.model).encode() + b"," + body[1:]
        return json_line({"custom_id": name, "method": "POST", "url": self.endpoint}, "body", body)

    def upload(self) -> Upload:
        """See `BatchWire.upload`."""
        return Form(fields={"purpose": "batch"}).upload(f"{self.base_url}/files", self.headers)

    def uploaded(self, body: bytes) -> str:
        """See `BatchWire.uploaded`."""
        return text_at(read_json(body), "id")

    def create(self, file_id: str, name: str) -> Request:
        """See `BatchWire.create`."""
        body = {
            "input_file_id": file_id,
            "endpoint": self.endpoint,
            "completion_window": self.window,
            "metadata": {NAME_FIELD: name},
        }
        return json_request(f"{self.base_url}/batches", body, self.headers)

    def look(self, remote_id: str) -> Request:
        """See `BatchWire.look`."""
        return self._get(f"batches/{quote(remote_id, safe='')}")

    def state(self, body: bytes) -> BatchState:
        """See `BatchWire.state`."""
        return state_of(read_json(body))

    def find(self, page: str | None) -> Request:
        """See `BatchWire.find`."""
        return self._get("batches?" + urlencode({"limit": PAGE, **({"after": page} if page else {})}))

    def found(self, body: bytes) -> Listed:
        """See `BatchWire.found`."""
        found = read_json(body)
        batches = [state_of(each) for each in at(found, "data") or ()]
        return Listed(batches, batches[-1].remote_id if batches and found.get("has_more") else None)

    def cancel(self, remote_id: str) -> Request:
        """See `BatchWire.cancel`."""
        return json_request(f"{self.base_url}/batches/{quote(remote_id, safe='')}/cancel", {}, self.headers)

    def download(self, file_id: str) -> Request:
        """See `BatchWire.download`."""
        return self._get(f"files/{quote(file_id, safe='')}/content")

    def result(self, line: bytes) -> Result:
        """See `BatchWire.result`."""
        return result_of(line)

    def delete(self, file_id: str) -> Request:
        """See `BatchWire.delete`."""
        return Request(
            f"{self.base_url}/files/{quote(file_id, safe='')}", b"", method="DELETE", headers=dict(self.headers)
        )

    def _get(self, path: str) -> Request:
        return Request(f"{self.base_url}/{path}", b"", method="GET", headers=dict(self.headers))


def state_of(found: Any) -> BatchState:
    """A batch from its object."""
    if not isinstance(found, dict):
        raise ValueError("the answer has no batch")
    counts = found.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    problem = problem_of(found.get("errors"))
    return BatchState(
        remote_id=text_at(found, "id"),
        state=STATES.get(str(found.get("status")), "running"),
        name=name_of(found),
        done=whole(counts.get("completed")),
        failed=whole(counts.get("failed")),
        total=whole(counts.get("total")),
        files=tuple(str(found[file]) for file in ("output_file_id",) if found.get(file)),
        problem=problem,
        is_too_large=any(word in problem.lower() for word in TOO_LARGE),
    )


def result_of(line: bytes) -> Result:
    """`{"custom_id": …, "response": {"status_code": 200, "body": {…}}, "error": null}`."""
    try:
        found = json.loads(line)
        response = found.get("response")
        if found.get("error") or response is None or response.get("status_code", 200) != 200:
            return Result(str(found["custom_id"]))
        return Result(str(found["custom_id"]), json.dumps(response["body"]).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Result("")


def problem_of(errors: Any) -> str:
    """The first of a batch's errors: a list, or an object with one under `data`."""
    listed = errors.get("data") if isinstance(errors, dict) else errors
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, dict):
        return ""
    said, code = first.get("message") or "", first.get("code")
    return f"{said} ({code})" if code else str(said)


def name_of(found: Mapping[str, Any]) -> str:
    """Our name of a batch."""
    metadata = found.get("metadata")
    return str(metadata.get(NAME_FIELD) or "") if isinstance(metadata, dict) else ""


def text_at(found: Any, name: str) -> str:
    """A text that must be there.

    Raises:
        ValueError: it is not.
    """
    value = at(found, name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"the answer has no {name}")
    return value


def open_openai(wire: Any, name: str, connection: Connection) -> OpenAIBatches:
    """The batches of OpenAI, and of servers that speak its protocol in this as well."""
    del name
    return OpenAIBatches(wire=wire, base_url=connection.url, endpoint="/v1/embeddings", headers=wire.headers)


def open_azure(wire: Any, name: str, connection: Connection) -> OpenAIBatches:
    """The batches of an Azure resource."""
    base_url = VERSION_PATHS.sub("", connection.url) + "/openai/v1"
    return OpenAIBatches(wire=wire, base_url=base_url, endpoint="/v1/embeddings", model=name)
