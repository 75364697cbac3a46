"""The batches of Mistral, Voyage and Google: other words for the files and batches of OpenAI.

Source: https://docs.mistral.ai/capabilities/batch, https://docs.voyageai.com/docs/batch-inference and
https://ai.google.dev/gemini-api/docs/batch-api
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lockstep.testing.chaos.batches import Batch, Batches, Embedder
from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Refusal
from lockstep.testing.chaos.protocols.openai import json_object

MISTRAL = re.compile(r".*/batch/jobs(?:/(?P<id>[\w-]+))?(?P<cancel>/cancel)?")
UPLOAD = re.compile(r"/upload/v1beta/files")
CREATE = re.compile(r"/v1beta/(?P<model>models/[^/:]+):asyncBatchEmbedContent")
BATCH = re.compile(r"/v1beta/batches(?:/(?P<id>[\w-]+))?(?P<cancel>:cancel)?")
DOWNLOAD = re.compile(r"/download/v1beta/files/(?P<id>[\w-]+):download")
FILE = re.compile(r"/v1beta/files/(?P<id>[\w-]+)")
GOOGLE = (UPLOAD, CREATE, BATCH, DOWNLOAD, FILE)
MISTRAL_STATES = {
    "in_progress": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}
GOOGLE_STATES = {"in_progress": "RUNNING", "completed": "SUCCEEDED", "cancelling": "RUNNING"}


class AllBatches(Batches):
    """All files and batches of one server, whatever protocol they come by."""

    @staticmethod
    def takes(request: Request) -> bool:
        """See `Batches.takes`."""
        others = (MISTRAL, *GOOGLE)
        return Batches.takes(request) or any(route.fullmatch(request.path) for route in others)

    @staticmethod
    def is_google(request: Request) -> bool:
        """Whether it is Google that is asked."""
        return any(route.fullmatch(request.path) for route in GOOGLE)

    def reply(self, request: Request, embedder: Embedder) -> Reply:
        """See `Batches.reply`."""
        self._finish_due(embedder)
        if self.is_google(request):
            return self._google(request)
        if route := MISTRAL.fullmatch(request.path):
            return self._mistral(request, route)
        if (request.method, request.path.rpartition("/")[2]) == ("POST", "batches"):
            body = json_object(request)
            if "request_params" in body:
                return self._voyage(body)
        return super().reply(request, embedder)

    def _voyage(self, body: Mapping[str, Any]) -> Reply:
        if body.get("completion_window") != "12h":
            raise Refusal("bad_request", "Argument 'completion_window' is invalid.")
        file = self._rewritten(str(body.get("input_file_id")), str(body.get("endpoint")), body["request_params"])
        return self._create(_json_request({**body, "input_file_id": file, "completion_window": "24h"}))

    def _mistral(self, request: Request, route: re.Match[str]) -> Reply:
        if request.method == "GET" and route["id"] is None:
            listed = [mistral(batch) for batch in reversed(self._batches.values())]
            return json_reply({"object": "list", "data": listed, "total": len(listed)})
        if route["id"] is None:
            body = json_object(request)
            (input_file,) = body["input_files"]
            file = self._rewritten(str(input_file), str(body["endpoint"]), {"model": body["model"]})
            given = {"input_file_id": file, "endpoint": body["endpoint"], "completion_window": "24h"}
            made = json.loads(self._create(_json_request({**given, "metadata": body.get("metadata")})).body)
            return json_reply({**mistral(self._batch(made["id"])), "status": "QUEUED"})
        if route["cancel"]:
            self._cancel(self._batch(route["id"]))
        return json_reply(mistral(self._batch(route["id"])))

    def _google(self, request: Request) -> Reply:
        if UPLOAD.fullmatch(request.path):
            file = self._written(related(request), "lockstep", "batch")
            return json_reply({"file": {"name": f"files/{file.id}", "sizeBytes": str(len(file.content))}})
        if route := DOWNLOAD.fullmatch(request.path):
            return Reply(body=self._file(route["id"]).content, content_type="application/jsonl")
        if route := FILE.fullmatch(request.path):
            del self._files[self._file(route["id"]).id]
            return json_reply({})
        if route := CREATE.fullmatch(request.path):
            batch = json_object(request)["batch"]
            endpoint = f"/v1beta/{route['model']}:embedContent"
            file_id = self._rewritten(batch["inputConfig"]["fileName"].removeprefix("files/"), endpoint, {})
            made = Batch(
                id=self._id("b"),
                input_file_id=file_id,
                endpoint=endpoint,
                metadata={"displayName": batch["displayName"]},
                created_at=self._clock(),
                total=self._files[file_id].content.count(b"\n"),
            )
            self._batches[made.id] = made
            return json_reply(google(made))
        route = BATCH.fullmatch(request.path)
        assert route is not None
        if route["id"] is None:
            return json_reply({"operations": [google(batch) for batch in reversed(self._batches.values())]})
        if route["cancel"]:
            self._cancel(self._batch(route["id"]))
            return json_reply({})
        return json_reply(google(self._batch(route["id"])))

    def _rewritten(self, file_id: str, endpoint: str, params: Mapping[str, Any]) -> str:
        """The file with OpenAI's lines; returns its id."""
        lines = []
        for text in self._file(file_id).content.splitlines():
            line = json.loads(text)
            name, body = line.get("custom_id") or line["key"], line.get("body") or line["request"]
            new = {"custom_id": name, "method": "POST", "url": endpoint, "body": {**params, **body}}
            lines.append(json.dumps({**new, "google": "key" in line}).encode() + b"\n")
        return self._written(b"".join(lines), "rewritten.jsonl", "batch").id

    def _result(self, line: Mapping[str, Any], reply: Reply | None, error: Mapping[str, str] | None) -> bytes:
        if not line.get("google"):
            return super()._result(line, reply, error)
        if reply is None or reply.status != 200:
            return (
                json.dumps({"key": line["custom_id"], "error": {"code": 13, "message": "Internal."}}).encode() + b"\n"
            )
        return json.dumps({"key": line["custom_id"], "response": json.loads(reply.body)}).encode() + b"\n"


def mistral(batch: Batch) -> dict[str, Any]:
    """As Mistral describes it."""
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": [batch.input_file_id],
        "endpoint": batch.endpoint,
        "metadata": batch.metadata,
        "status": MISTRAL_STATES[batch.status],
        "errors": [{"message": error["message"], "count": 1} for error in batch.errors],
        "output_file": batch.output_file_id,
        "error_file": batch.error_file_id,
        "total_requests": batch.total,
        "completed_requests": batch.completed + batch.failed,
        "succeeded_requests": batch.completed,
        "failed_requests": batch.failed,
        "created_at": int(batch.created_at),
    }


def google(batch: Batch) -> dict[str, Any]:
    """As Google describes it: an operation."""
    files = {"responsesFile": f"files/{batch.output_file_id}"} if batch.output_file_id else {}
    over = batch.status not in ("in_progress", "cancelling")
    about = {
        "displayName": (batch.metadata or {}).get("displayName"),
        "state": f"BATCH_STATE_{GOOGLE_STATES.get(batch.status, batch.status.upper())}",
        "batchStats": {
            "requestCount": str(batch.total),
            "successfulRequestCount": str(batch.completed),
            "failedRequestCount": str(batch.failed),
        },
        **({"output": files} if files else {}),
    }
    errors = {"error": {"code": 13, "message": batch.errors[0]["message"]}} if batch.errors else {}
    return {"name": f"batches/{batch.id}", "metadata": about, "done": over, **errors}


def related(request: Request) -> bytes:
    """The file in a body of the type multipart/related: its second part."""
    found = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if found is None:
        raise Refusal("bad_request", "The upload has no boundary.")
    part = (b"\r\n" + request.body).split(b"\r\n--" + found[1].encode())[2]
    return part.partition(b"\r\n\r\n")[2]


def _json_request(body: Mapping[str, Any]) -> Request:
    return Request(method="POST", path="/v1/batches", body=json.dumps(body).encode())
