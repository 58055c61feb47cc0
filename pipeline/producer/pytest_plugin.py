"""The fixture `recorded_events`, for the tests of applications. pytest finds it by its entry point.

Loaded in every run of pytest, so it imports nothing before the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pipeline.event.model import Event


@pytest.fixture
def recorded_events() -> Iterator[list[Event]]:
    """The events that the test sends, in order; none of them reaches a server."""
    from pipeline.producer import withheld

    with withheld.record() as events:
        yield events
