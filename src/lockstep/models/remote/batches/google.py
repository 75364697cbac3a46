"""The Gemini API's batches: an uploaded file, an operation that is asked how it stands, a file of responses.

Source: https://ai.google.dev/gemini-api/docs/batch-api, https://ai.google.dev/api/batch-api,
https://ai.google.dev/api/files, and Google's own Python package (`batches.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from lockstep.models.remote.answers import at, read_json
from lockstep.models.remote.batches import (
    BatchLimits,
    BatchOutcome,
    BatchState,
    Listed,
    Result,
    Upload,
    json_line,
    whole,
)
from lockstep.models.remote.batches.openai import text_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request, Wire, json_request

LIMITS = BatchLimits(texts=50_000, bytes=1_000_000_000)
"""Files may have 2 GB; no number of requests is published."""
PAGE = 100
BOUNDARY = "lockstep-7c1f0a5e9d3b4826"
# Both BATCH_STATE_… and JOB_STATE_… are in use.
STATES: dict[str, BatchOutcome] = {
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "failed",
    "EXPIRED": "expired",
    "CANCELLED": "cancelled",
}
QUOTA = 8
"""RESOURCE_EXHAUSTED, of google.rpc.Code."""


@dataclass(frozen=True, kw_only=True)
class GoogleBatches:
    """Speaks the Gemini API's protocol."""

    wire: Wire
    model_url: str
    """Up to the model's name, included."""
    limits: BatchLimits = LIMITS

    @property
    def _base(self) -> str:
        """Up to the version, included."""
        return self.model_url.partition("/models/")[0]

    def _under(self, place: str) -> str:
        """The address with `upload` or `download` before the version."""
        base, _, version = self._base.rpartition("/")
        return f"{base}/{place}/{version}"

    def line(self, name: str, text: str) -> bytes:
        """See `BatchWire.line`."""
        request = json.loads(self.wire.request([text], "document").body)["requests"][0]
        return json_line({"key": name}, "request", json.dumps(request, ensure_ascii=False).encode())

    def upload(self) -> Upload:
        """See `BatchWire.upload`."""
        about = json.dumps({"file": {"displayName": "lockstep", "mimeType": "application/jsonl"}})
        head = (
            f"--{BOUNDARY}\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{about}\r\n"
            f"--{BOUNDARY}\r\nContent-Type: application/jsonl\r\n\r\n"
        )
        headers = {"Content-Type": f"multipart/related; boundary={BOUNDARY}", "X-Goog-Upload-Protocol": "multipart"}
        request = Request(f"{self._under('upload')}/files?uploadType=multipart", head.encode(), headers=headers)
        return Upload(request, f"\r\n--{BOUNDARY}--\r\n".encode())

    def uploaded(self, body: bytes) -> str:
        """See `BatchWire.uploaded`."""
        return text_at(at(read_json(body), "file"), "name")

    def create(self, file_id: str, name: str) -> Request:
        """See `BatchWire.create`."""
        batch = {"displayName": name, "inputConfig": {"fileName": file_id}}
        return json_request(f"{self.model_url}:asyncBatchEmbedContent", {"batch": batch})

    def look(self, remote_id: str) -> Request:
        """See `BatchWire.look`."""
        return self._get(quote(remote_id, safe="/"))

    def state(self, body: bytes) -> BatchState:
        """See `BatchWire.state`."""
        return google_state(read_json(body))

    def find(self, page: str | None) -> Request:
        """See `BatchWire.find`."""
        return self._get("batches?" + urlencode({"pageSize": PAGE, **({"pageToken": page} if page else {})}))

    def found(self, body: bytes) -> Listed:
        """See `BatchWire.found`."""
        found = read_json(body)
        operations = found.get("operations") or found.get("batches") or [] if isinstance(found, dict) else []
        return Listed(
            [google_state(each) for each in operations],
            at(found, "nextPageToken") if found.get("nextPageToken") else None,
        )

    def cancel(self, remote_id: str) -> Request:
        """See `BatchWire.cancel`; its answer is empty."""
        return json_request(f"{self._base}/{quote(remote_id, safe='/')}:cancel", {})

    def download(self, file_id: str) -> Request:
        """See `BatchWire.download`."""
        return Request(f"{self._under('download')}/{quote(file_id, safe='/')}:download?alt=media", b"", method="GET")

    def result(self, line: bytes) -> Result:
        """See `BatchWire.result`: `{"key": …, "response": {"embedding": {…}}}`, or with an `error`."""
        try:
            found = json.loads(line)
            name = str(found.get("key") or found["metadata"]["key"])
            response = found.get("response")
            if found.get("error") or not response:
                return Result(name)
            # As single requests are answered; here it has one embedding, there a list.
            return Result(name, json.dumps({**response, "embeddings": [response["embedding"]]}).encode())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Result("")

    def delete(self, file_id: str) -> Request:
        """See `BatchWire.delete`."""
        return Request(f"{self._base}/{quote(file_id, safe='/')}", b"", method="DELETE")

    def _get(self, path: str) -> Request:
        return Request(f"{self._base}/{path}", b"", method="GET")


def google_state(found: Any) -> BatchState:
    """A batch from its operation, which has it under `metadata`, or from itself."""
    if not isinstance(found, dict):
        raise ValueError("the answer has no batch")
    batch = inner(found, "metadata") or found
    stats = inner(batch, "batchStats")
    output = inner(batch, "output") or inner(found, "response")
    error = inner(found, "error")
    word = str(batch.get("state", "")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    file = output.get("responsesFile")
    return BatchState(
        remote_id=text_at(found, "name"),
        state=STATES.get(word, "failed" if error else "running"),
        name=str(batch.get("displayName") or ""),
        done=whole(stats.get("successfulRequestCount")),
        failed=whole(stats.get("failedRequestCount")),
        total=whole(stats.get("requestCount")),
        files=(str(file),) if file else (),
        problem=str(error.get("message") or ""),
        is_too_large=error.get("code") == QUOTA,
    )


def inner(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in another; empty where there is none."""
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def open_google(wire: Any, name: str, connection: Connection) -> GoogleBatches:
    """The Gemini API's batches; they are there in `v1beta` only, whatever single requests use."""
    del name
    base, _, rest = wire.url.partition("/models/")
    del connection
    parts = urlsplit(base)
    path = parts.path.rpartition("/")[0]
    return GoogleBatches(wire=wire, model_url=f"{parts.scheme}://{parts.netloc}{path}/v1beta/models/{rest}")
