"""Models at services by the installed command: what is known without asking, and fetching one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from lockstep.testing import ChaosServer
from support.commands import run

AWAY = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "OPENAI_API_KEY": ""}
"""Whoever asks the network with this finds nobody."""


def test_a_model_at_a_service_is_shown_without_asking(tmp_path: Path) -> None:
    """Dimensions, longest text, and the price with its source and its date."""
    out, notes = run(tmp_path, "models", "show", "openai:text-embedding-3-small", **AWAY)
    facts = {row[:24].strip(): row[25:] for row in out.splitlines()}
    assert (facts["dimensions"], facts["max tokens"]) == ("1536", "8191")
    assert facts["price"].endswith("per million tokens")
    assert "https://" in facts["price as of"]
    assert facts["price as of"][:2] == "20"
    assert facts["key"] == "OPENAI_API_KEY (not set)"
    assert "lockstep embed 'a text' -m openai:text-embedding-3-small" in notes
    shown = json.loads(run(tmp_path, "models", "show", "openai:text-embedding-3-large?dimensions=256", "--json")[0])
    assert (shown["dimensions"], shown["uri"]) == (256, "openai:text-embedding-3-large?dimensions=256")
    assert shown["price_source"].startswith("https://")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_of_a_service_is_said(tmp_path: Path) -> None:
    """With the models that are; services that need settings are shown without them; a typo is named."""
    out, notes = run(tmp_path, "models", "show", "openai:text-embedding-9", **AWAY)
    assert "not known" in out
    assert "text-embedding-3-small, text-embedding-3-large" in notes
    assert "1024" in run(tmp_path, "models", "show", "bedrock:amazon.titan-embed-text-v2:0")[0]
    assert "3072" in run(tmp_path, "models", "show", "azure:mine?model=text-embedding-3-large")[0]
    out, notes = run(tmp_path, "models", "show", "ollama:all-minilm")
    assert "it runs here" in out
    assert "lockstep models download ollama:all-minilm" in notes
    assert 'Did you mean "dimensions"' in run(tmp_path, "models", "show", "openai:m?dimension=3", code=2)[1]
    assert "lockstep models show openai:text-embedding-3-small" in run(tmp_path, "models", HF_HOME=str(tmp_path))[1]


def test_ollama_fetches_a_model(tmp_path: Path) -> None:
    """Quietly where nobody watches, with a bar where somebody does; what it cannot fetch it says."""
    with ChaosServer(dimensions=32, models=["all-minilm"]) as server:
        out, notes = run(tmp_path, "models", "download", "ollama:all-minilm", OLLAMA_HOST=server.url)
        assert out == "ollama:all-minilm: 384 dimensions, ready.\n"
        assert "%" not in notes
        assert [request.path for request in server.requests] == ["/api/pull"]
        notes = run(tmp_path, "models", "download", "ollama:all-minilmm", code=4, OLLAMA_HOST=server.url)[1]
        assert "file does not exist" in notes
        assert "ollama.com/library" in notes
        assert "pulling 797b70c4edf8" in watched(tmp_path, server.url)
    notes = run(tmp_path, "models", "download", "ollama:all-minilm", code=4, OLLAMA_HOST=server.url)[1]
    assert "Is the server running?" in notes


def test_nothing_is_fetched_from_other_services(tmp_path: Path) -> None:
    """Without a network, a key or a cost."""
    notes = run(tmp_path, "models", "download", "openai:text-embedding-3-small", code=2, **AWAY)[1]
    assert "nothing to download" in notes


def watched(folder: Path, url: str) -> str:
    """What a person at a terminal sees of a download."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", "models", "download", "ollama:all-minilm"],
        cwd=folder,
        env={**os.environ, "OLLAMA_HOST": url, "COLUMNS": "120", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(controller, 1 << 16)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return seen.decode("utf-8", "replace")
