"""In a long run the tests of this directory share its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.budget import BUDGET

_START_AND_END_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    BUDGET.divide(len(ours))
    if BUDGET.share_s is not None:
        for item in ours:
            limit_s = BUDGET.share_s * 3 + _START_AND_END_S
            item.add_marker(pytest.mark.timeout(limit_s), append=False)
