"""Whatever text or bytes a parser is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.budget import fuzz
from tests.fuzz.properties import PROPERTIES

EXAMPLES = 120

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("check", PROPERTIES.values(), ids=PROPERTIES)
def test_any_input_is_taken_or_refused_with_a_reason(check: Callable[[], None]) -> None:
    fuzz(check, EXAMPLES)
