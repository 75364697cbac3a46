"""Voyage's batches: OpenAI's protocol, but for the lines, which have only the texts: the rest is the batch's.

Source: https://docs.voyageai.com/docs/batch-inference
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lockstep.models.remote.batches import NAME_FIELD, BatchLimits, json_line
from lockstep.models.remote.batches.openai import OpenAIBatches
from lockstep.models.remote.connection import Connection, tidy_url
from lockstep.models.remote.wire import Request, json_request

LIMITS = BatchLimits(texts=100_000, bytes=900_000_000, price_factor=0.67)
PROBE = "x"
TEXTS = ("input", "inputs")
"""What single requests call them: texts, and documents of chunks."""


@dataclass(frozen=True, kw_only=True)
class VoyageBatches(OpenAIBatches):
    """Speaks Voyage's protocol."""

    def line(self, name: str, text: str) -> bytes:
        """See `BatchWire.line`."""
        texts, _ = self._parts(text)
        return json_line({"custom_id": name}, "body", json.dumps(texts, ensure_ascii=False).encode())

    def create(self, file_id: str, name: str) -> Request:
        """See `BatchWire.create`."""
        body = {
            "input_file_id": file_id,
            "endpoint": self.endpoint,
            "completion_window": self.window,
            "request_params": self._parts(PROBE)[1],
            "metadata": {NAME_FIELD: name},
        }
        return json_request(f"{self.base_url}/batches", body, self.headers)

    def _parts(self, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What of a single request is the line's, and what is the batch's."""
        body = json.loads(self.wire.request([text], "document").body)
        return {key: body[key] for key in TEXTS if key in body}, {k: v for k, v in body.items() if k not in TEXTS}


def open_voyage(wire: Any, name: str, connection: Connection) -> VoyageBatches:
    """Voyage's batches."""
    del name
    base_url = tidy_url(connection.url, with_version=True)
    endpoint = "/v1/" + wire.url.rpartition("/")[2]
    return VoyageBatches(wire=wire, base_url=base_url, endpoint=endpoint, limits=LIMITS, window="12h")
