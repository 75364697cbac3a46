"""Azure OpenAI: OpenAI's embeddings behind a deployment's name, with a key of its own header."""

from __future__ import annotations

import json
import re

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Asked, Facts, Made, Refusal, bearer, request_id
from lockstep.testing.chaos.protocols.openai import OpenAI, embeddings_body, retry_headers

DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/embeddings")
RESOURCE_PATH = "/openai/v1/embeddings"
"""The newer address, where the deployment is the request's model."""


class Azure(OpenAI):
    """What differs from OpenAI: the address, the key, and the words of some errors."""

    name = "azure"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        ours = DEPLOYMENT.fullmatch(request.path) or request.path == RESOURCE_PATH
        return request.method == "POST" and bool(ours)

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`: a key, or a token of Entra ID."""
        return request.headers.get("api-key", "") or bearer(request)

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`: the address names the model, whatever the body says."""
        place = DEPLOYMENT.fullmatch(request.path)
        if place is None:
            return super().parse(request)
        if not request.query.get("api-version"):
            # Azure answers so, and not with 400, when the version is left out.
            raise Refusal("bad_request", "Resource not found", status=404)
        return super().parse(_with_model(request, place[1]))

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        headers = {"apim-request-id": request_id(""), "x-ms-region": "Sweden Central"}
        return Reply(body=embeddings_body(asked, made), headers=headers)

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`: the gateway's errors have a code and a message only."""
        headers = {"apim-request-id": request_id(""), **retry_headers(refusal.retry_after_s)}
        if refusal.reason == "unknown_model":
            message = "The API deployment for this resource does not exist."
            return json_reply({"error": {"code": "DeploymentNotFound", "message": message}}, 404, headers)
        if refusal.reason == "unauthorized":
            message = "Access denied due to invalid subscription key or wrong API endpoint."
            return json_reply({"error": {"code": "401", "message": message}}, 401, headers)
        if refusal.reason == "rate_limited":
            message = refusal.message or (
                "Requests to the Embeddings_Create Operation have exceeded the call rate limit of your current "
                f"pricing tier. Please retry after {refusal.retry_after_s or 0:g} seconds."
            )
            return json_reply({"error": {"code": "429", "message": message}}, refusal.status or 429, headers)
        if refusal.status == 404 and refusal.message:
            return json_reply({"error": {"code": "404", "message": refusal.message}}, 404, headers)
        if refusal.reason == "chat_model":
            message = (
                "The embeddings operation does not work with the specified model, "
                f"{refusal.model}. Please choose different model and try again."
            )
            error = {"code": "OperationNotSupported", "message": message}
            return json_reply({"error": error}, 400, headers)
        return super().refuse(refusal, request)

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: nothing of that is Azure's own."""
        del request, facts
        return None


def _with_model(request: Request, model: str) -> Request:
    try:
        body = request.json()
    except ValueError:
        return request
    if not isinstance(body, dict):
        return request
    content = json.dumps(body | {"model": model}).encode()
    return Request(method=request.method, path=request.path, query=request.query, headers=request.headers, body=content)
