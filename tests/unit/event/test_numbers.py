"""Numbers in JSON that comes from anywhere."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.event.model import WireEvent
from pipeline.event.numbers import parse_float

NOW = datetime(2025, 3, 14, tzinfo=UTC)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_it_was_written(number: float) -> None:
    decode = msgspec.json.Decoder(float_hook=parse_float).decode
    assert decode(json.dumps([number])) == [number]


@pytest.mark.parametrize("text", ["1e309", "-1e309", "1e999999999", "1" + "0" * 400 + ".0"])
def test_a_number_beyond_what_a_float_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        msgspec.json.Decoder(float_hook=parse_float).decode(f"[{text}]")
    for filler in ("", "x" * 1_000):
        raw = msgspec.Raw(f'{{"a":{text},"b":"{filler}"}}'.encode())
        wire = WireEvent("sale", properties=raw)
        assert wire.to_event(NOW, NOW + timedelta(days=1)) is None


def test_a_small_number_is_none() -> None:
    assert parse_float("1e-999") == 0
    assert math.copysign(1, parse_float("-0.0")) == -1
