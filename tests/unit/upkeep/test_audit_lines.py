"""What an audit found, as lines of the log."""

from __future__ import annotations

from datetime import date

import pytest

from pipeline.upkeep.audits.counts import Difference
from pipeline.upkeep.audits.packed_events import EventsDifference
from pipeline.upkeep.audits.users import UsersDifference

DAY = date(2026, 11, 29)
LINES = {
    Difference("a", DAY, 7, 3, 1, 1): "a, 2026-11-29 07:00: 3 counted, 1 logged, 1 in gaps",
    Difference("a", DAY, None, 3, 1, 0): "a, 2026-11-29: 3 counted, 1 logged, 0 in gaps",
    UsersDifference("", DAY, 2, 1): "users of any event, 2026-11-29: 2 sealed, 1 stored",
    UsersDifference("a", DAY, 2, 1): "users of a, 2026-11-29: 2 sealed, 1 stored",
    EventsDifference("a", DAY, 2, 1): "packed events of a, 2026-11-29: 2 sealed, 1 stored",
}


@pytest.mark.parametrize("found", LINES)
def test_what_was_found_is_a_line(
    found: Difference | UsersDifference | EventsDifference,
) -> None:
    assert found.describe() == LINES[found]
