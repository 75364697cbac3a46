"""Text Embeddings Inference: `POST /embed` and `GET /info`, without a model's name: the server has just one.

Source: https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Asked, Facts, Refusal
from lockstep.testing.chaos.protocols.huggingface import TEXT_TOKENS_MAX, TEXTS_MAX, HuggingFace, asked_inputs


class TEI(HuggingFace):
    """Hugging Face's server for one's own machines."""

    name = "tei"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path == "/embed"

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        return asked_inputs(request, "")

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`: a wrong key is answered without a word."""
        if refusal.reason == "unauthorized":
            return Reply(status=401, content_type="")
        return super().refuse(refusal, request)

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: what is known of the model."""
        if request.method != "GET" or request.path != "/info":
            return None
        if facts.key is not None and not self.accepts(request, facts.key):
            raise Refusal("unauthorized")
        return json_reply(
            {
                "model_id": "sentence-transformers/all-MiniLM-L6-v2",
                "model_sha": None,
                "model_dtype": "float32",
                "model_type": {"embedding": {"pooling": "mean"}},
                "max_concurrent_requests": 512,
                "max_input_length": TEXT_TOKENS_MAX,
                "max_batch_tokens": 16384,
                "max_batch_requests": None,
                "max_client_batch_size": TEXTS_MAX,
                "auto_truncate": False,
                "tokenization_workers": 8,
                "version": "1.7.1",
                "sha": None,
                "docker_label": None,
            }
        )
