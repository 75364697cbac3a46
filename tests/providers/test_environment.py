"""eLLMental's environment works as it is: the task that names no model has the one it describes."""

from __future__ import annotations

from pathlib import Path

import pytest

import lockstep
from lockstep.errors import ConfigError
from lockstep.testing import ChaosServer
from providers.conftest import KEY, rows

OPENAI = {"EMBEDDING_GENERATOR": "OPENAI", "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "embedder", "BATCH_SIZE": "5"}
AZURE = {"OPENAI_TYPE": "azure", "AZURE_OPENAI_VERSION": "2023-05-15", "AZURE_OPENAI_USE_ACTIVE_DIRECTORY": "false"}
SPACES = {"EMBEDDINGS_GENERATION_KEY": "hf_x", "BATCH_SIZE": "5"}


@pytest.mark.parametrize(
    ("environment", "address", "path"),
    [
        (OPENAI, "OPENAI_BASE_URL", "/v1/embeddings"),
        (OPENAI | AZURE, "AZURE_OPENAI_ENDPOINT", "/openai/deployments/embedder/embeddings"),
        ({"EMBEDDING_GENERATOR": "SPACES_TEXT"} | SPACES, "EMBEDDINGS_GENERATION_URL", "/gradio_api/call/predict"),
        ({"EMBEDDING_GENERATOR": "SPACES_INSTRUCT"} | SPACES, "SPACES_URL", "/gradio_api/call/predict"),
    ],
    ids=["openai", "azure", "spaces text", "spaces instruct"],
)
def test_a_task_without_a_model_has_the_environments(
    environment: dict[str, str], address: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address, key, version and batch size are those of the variables."""
    with ChaosServer(dimensions=16) as server, lockstep.open(tmp_path / "a.db") as db:
        for name, value in (environment | {address: server.url}).items():
            monkeypatch.setenv(name, value)
        db.collection("c").upsert(rows(12))
        task = db.add_task("task", "c", ["text"])
        assert task.model.startswith("ellmental:")
        assert db.sync().complete
        assert db.search("task", "planted weather")
        sent = [request for request in server.requests if request.method == "POST"]
        assert any(path in request.path for request in sent)
        assert server.paid_texts >= 13
        assert db.check() == []


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than the built-in model taken in its place."""
    monkeypatch.setenv("EMBEDDING_GENERATOR", "OPENAI")
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    with lockstep.open(tmp_path / "a.db") as db:
        db.collection("c").upsert(rows(1))
        with pytest.raises(ConfigError, match="OPENAI_MODEL"):
            db.add_task("task", "c", ["text"])
