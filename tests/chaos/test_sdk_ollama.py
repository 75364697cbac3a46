"""Ollama's own client takes the fake for Ollama. Source: https://github.com/ollama/ollama-python."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors

ollama = importlib.import_module("ollama")


def test_it_embeds() -> None:
    """By the newer address and the older one."""
    with ChaosServer(dimensions=32) as server, ollama.Client(host=server.url) as client:
        answer = client.embed(model="m", input=["a", "b c"])
        np.testing.assert_allclose(answer.embeddings, hash_vectors(["a", "b c"], 32), rtol=1e-6)
        assert (answer.model, answer.prompt_eval_count) == ("m", 3)
        shorter = client.embed(model="m", input="a", dimensions=16, truncate=False, keep_alive="1m")
        np.testing.assert_allclose(shorter.embeddings, hash_vectors(["a"], 16), rtol=1e-6)
        older = client.embeddings(model="m", prompt="a").embedding
        np.testing.assert_allclose(older / np.linalg.norm(older), hash_vectors(["a"], 32)[0], rtol=1e-5)


def test_it_tells_of_models_and_fetches_them() -> None:
    """As a stream, and at once."""
    with ChaosServer(dimensions=32, models=["m"]) as server, ollama.Client(host=server.url) as client:
        told = client.show("m").modelinfo
        assert (told["bert.embedding_length"], told["bert.context_length"]) == (32, 2048)
        steps = list(client.pull("m", stream=True))
        assert [step.status for step in steps][-1] == "success"
        assert max(step.completed or 0 for step in steps) == 45960996
        for call in (lambda: client.embed(model="x", input="a"), lambda: client.show("x")):
            with pytest.raises(ollama.ResponseError, match="model 'x' not found") as caught:
                call()
            assert caught.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            list(client.pull("x", stream=True))
