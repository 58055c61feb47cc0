"""Sessions on a machine that may be busy."""

from __future__ import annotations

import pytest

from pipeline.web.collector.visits import sessions


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is slow only where a test makes it so."""
    monkeypatch.setattr(sessions, "_PATIENCE_S", 20)
