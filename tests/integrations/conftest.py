"""Asynchronous tests run under asyncio, by anyio's plugin."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # langchain_tests marks tests of chat models so; the plugins that know these marks are not loaded.
    config.addinivalue_line("markers", "benchmark: a measurement of langchain_tests")
    config.addinivalue_line("markers", "vcr: a test of langchain_tests that replays recorded answers")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
