"""A data directory that the system refuses is a setting that is wrong."""

from __future__ import annotations

import pytest

from config.settings import load
from pipeline.errors import InvalidConfiguration


@pytest.mark.parametrize("given", ["9" * 400, "~no-such-user/x"])
def test_what_cannot_be_a_directory_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("ANALYTICS_DATA_DIR", given)

    with pytest.raises(InvalidConfiguration, match=r"^ANALYTICS_DATA_DIR=.*cannot be a directory"):
        load()
