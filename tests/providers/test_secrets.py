"""Keys and texts show up nowhere, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import LockstepError
from lockstep.testing import ChaosServer
from providers.conftest import KEY, MODEL, Make, patience_s
from providers.test_faults import LASTING

PLANTED = "planted words of document"
FAULTS: dict[str, dict[str, Any]] = {
    **LASTING,
    "dribble": {},
    "reset_midway": {},
    "truncated_json": {},
    "reject": {"containing": "planted"},
    "nan": {},
    "zero": {},
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any library logs."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.mark.parametrize("fault", FAULTS)
def test_no_key_and_no_text_after_a_failure(
    fault: str, make: Make, server: ChaosServer, logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Not in the report, errors, tracebacks or logs; the key not in the database either."""
    db = make(timeout_s=patience_s(fault))
    server.fault(fault.split()[0], **FAULTS[fault])
    report = db.sync()
    said = [str(report), *report.outages.values(), str(db.status("task")), str(db.errors()), str(db.connections())]
    try:
        db.search("task", "planted words of a query")
    except LockstepError as exc:
        said.append("".join(traceback.format_exception(exc)))
    model = lockstep.model(MODEL, connection=db.connections()[0])
    with pytest.raises(LockstepError) as raised:
        model.embed_documents([f"{PLANTED} 1 about weather"])
    said.append("".join(traceback.format_exception(raised.value)))
    said.append(repr(model.__dict__) + repr(vars(model.provider)))
    lines = [record.getMessage() for record in logged.records]
    for text in [*said, *lines]:
        assert KEY not in text
        assert PLANTED not in text.replace("test_secrets.py", "") or "model.embed_documents" in text
    assert all(PLANTED not in line for line in lines)
    db.close()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_key_that_is_given_instead_of_its_place_is_not_repeated(make: Make) -> None:
    """Whoever pastes a key into a setting is told what to write, and does not read it again in a log."""
    for setting in ("api_key", "search_api_key"):
        with pytest.raises(LockstepError) as raised:
            make(setting, **{setting: KEY})
        assert KEY not in str(raised.value)
    with pytest.raises(LockstepError) as raised:
        make("url", base_url=f"https://host/v1?api_key={KEY}")
    assert KEY not in str(raised.value)
    with pytest.raises(LockstepError) as raised:
        lockstep.model(f"openai:m?api_key={KEY}")
    assert KEY not in str(raised.value)
