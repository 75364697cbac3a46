"""A cross-encoder comes from the hub by `lockstep models download`, and never in the middle of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import lockstep
from lockstep.app.cli import app
from lockstep.errors import ConfigError
from support.tiny_cross_encoder import make_folder


@pytest.fixture
def ranks(hub: Any, tmp_path: Path) -> Path:
    """The hub's model is a cross-encoder; the folder of what it holds."""
    folder = make_folder(tmp_path / "ranks")
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    hub.files = {name: (folder / name).read_bytes() for name in names}
    hub.large = {"onnx/model.onnx"}
    return folder


def test_it_is_downloaded_once(hub: Any, ranks: Path) -> None:
    """Then it is found without asking the hub."""
    done = CliRunner().invoke(app, ["models", "download", "local:org/model"])
    assert done.exit_code == 0, done.output
    assert "a reranker" in done.output
    asked = len(hub.requests)
    assert asked
    found = lockstep.reranker("local:org/model", download=False)
    expected = lockstep.reranker(f"local:{ranks}")
    np.testing.assert_array_equal(found.rerank("warm", ["rain", "tax"]), expected.rerank("warm", ["rain", "tax"]))
    assert len(hub.requests) == asked
    assert len(found.info.revision) == 40
    with pytest.raises(ConfigError, match="is a reranker"):
        lockstep.model("local:org/model")


def test_a_search_does_not_download(hub: Any, ranks: Path, path: Path) -> None:
    """It says what to type; who opens one in Python may have it fetched."""
    with lockstep.open(path) as db, pytest.raises(ConfigError, match="lockstep models download local:org/model"):
        db._accounts.reranker("local:org/model")
    assert hub.requests == []
    assert lockstep.reranker("local:org/model").rerank("warm", ["rain"]).shape == (1,)
