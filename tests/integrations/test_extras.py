"""Without the packages of an adapter, Lockstep is there and says which extra brings them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("langchain_core", "langchain", "langchain"),
        ("llama_index", "llama_index", "llamaindex"),
        ("llama_index", "llama_filters", "llamaindex"),
    ],
)
def test_a_missing_extra_is_named(package: str, module: str, extra: str) -> None:
    """The message is the line that mends it, and the error an ImportError as any other missing package gives."""
    code = (
        "import sys\n"
        f"sys.modules['{package}'] = None\n"
        "import lockstep\n"
        "try:\n"
        f"    import lockstep.integrations.{module}\n"
        "except ImportError as exc:\n"
        "    print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("MissingExtra ")
    assert f"pip install 'lockstep[{extra}]'" in done.stdout


def test_lockstep_alone_loads_neither() -> None:
    """`import lockstep`, and opening a database, are as quick as ever."""
    code = "import sys, lockstep, lockstep.database; print({'langchain_core', 'llama_index'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
