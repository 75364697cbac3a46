"""Mistral's batches: the model is the batch's, the lines have what is left of a request.

Source: https://docs.mistral.ai/capabilities/batch and the models of Mistral's own Python package (`BatchJob`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from lockstep.models.remote.answers import at, read_json
from lockstep.models.remote.batches import (
    NAME_FIELD,
    BatchLimits,
    BatchOutcome,
    BatchState,
    Listed,
    json_line,
    whole,
)
from lockstep.models.remote.batches.openai import OpenAIBatches, name_of, problem_of, text_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request, json_request

LIMITS = BatchLimits(texts=100_000, bytes=400_000_000)
"""A million requests and 512 MB are allowed; what is waited for should be of a size to wait for."""
HOURS = 24
PAGE = 100
STATES: dict[str, BatchOutcome] = {
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
}


@dataclass(frozen=True, kw_only=True)
class MistralBatches(OpenAIBatches):
    """Speaks Mistral's protocol, whose files are those of OpenAI's."""

    name: str

    def line(self, name: str, text: str) -> bytes:
        """See `BatchWire.line`."""
        return json_line({"custom_id": name}, "body", self.wire.request([text], "document").body)

    def create(self, file_id: str, name: str) -> Request:
        """See `BatchWire.create`."""
        body = {
            "input_files": [file_id],
            "model": self.name,
            "endpoint": self.endpoint,
            "metadata": {NAME_FIELD: name},
            "timeout_hours": HOURS,
        }
        return json_request(f"{self.base_url}/batch/jobs", body, self.headers)

    def look(self, remote_id: str) -> Request:
        """See `BatchWire.look`."""
        return self._get(f"batch/jobs/{quote(remote_id, safe='')}")

    def state(self, body: bytes) -> BatchState:
        """See `BatchWire.state`."""
        return mistral_state(read_json(body))

    def find(self, page: str | None) -> Request:
        """See `BatchWire.find`."""
        return self._get("batch/jobs?" + urlencode({"page_size": PAGE, "page": page or "0", "order_by": "-created"}))

    def found(self, body: bytes) -> Listed:
        """See `BatchWire.found`; the first page has the latest hundred, among which ours must be."""
        return Listed([mistral_state(each) for each in at(read_json(body), "data") or ()])

    def cancel(self, remote_id: str) -> Request:
        """See `BatchWire.cancel`."""
        return json_request(f"{self.base_url}/batch/jobs/{quote(remote_id, safe='')}/cancel", {}, self.headers)


def mistral_state(found: Any) -> BatchState:
    """A batch from its object."""
    if not isinstance(found, dict):
        raise ValueError("the answer has no batch")
    return BatchState(
        remote_id=text_at(found, "id"),
        state=STATES.get(str(found.get("status")), "running"),
        name=name_of(found),
        done=whole(found.get("succeeded_requests")),
        failed=whole(found.get("failed_requests")),
        total=whole(found.get("total_requests")),
        files=(str(found["output_file"]),) if found.get("output_file") else (),
        problem=problem_of(found.get("errors")),
    )


def open_mistral(wire: Any, name: str, connection: Connection) -> MistralBatches:
    """Mistral's batches."""
    return MistralBatches(
        wire=wire, base_url=connection.url, endpoint="/v1/embeddings", headers=wire.headers, limits=LIMITS, name=name
    )
