"""The numbers of properties that are summed: as whole numbers, and by size. Pure.

A sum is exact, since it is one of whole numbers: each number is scaled by the power of ten that
keeps the decimals wanted, and rounded half away from zero, as Postgres rounds.

For percentiles a number is counted in one of many bins, the widths of which grow with the numbers
in them: 64 equal ones between each two powers of two. What stands for a bin is then at most 0.8 %
off any number in it. Bins are whole numbers: 0 is for 0, those of negative numbers are negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal
from math import frexp, ldexp

LARGEST = 10**21
"""Of a scaled number. What is larger counts as no number."""
LIMB = 10**11
"""Sums are kept in two parts, the larger one in units of so much: no part passes 64 bits."""
LIMB_DIGITS = 11

_BINS_OF_OCTAVE = 64
_ZERO_OCTAVE = 40
"""Added to the exponent of a number, which is more than -31, so that its bin is above 0."""
_MOST_DIGITS = 21
_SCALE = 2 * _BINS_OF_OCTAVE
_FIRST = (_ZERO_OCTAVE - 1) * _BINS_OF_OCTAVE
"""Of the mantissa, which is at least a half, `_BINS_OF_OCTAVE` are taken."""
_SURE = 10**15
"""Below it a scaled float is known to be whole by scaling it back."""
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)


def scale(value: object, decimals: int) -> int | None:
    """The value times ten to the power of `decimals`, as a whole number; None when it is no number,
    or is too large for one.

    Decimal text, such as "12.50", is a number: exact decimals have no other form in JSON.
    """
    if isinstance(value, float):
        factor: int = 10**decimals
        if -_SURE < value * factor < _SURE:
            scaled = round(value * factor)
            if scaled / factor == value:
                return scaled
        return _scale_exactly(repr(value), decimals)
    if isinstance(value, int) and not isinstance(value, bool):
        whole: int = value * 10**decimals
        return whole if -LARGEST < whole < LARGEST else None
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return _scale_exactly(value, decimals)
    return None


def _scale_exactly(text: str, decimals: int) -> int | None:
    number = Decimal(text)
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS:
        return None
    scaled = int(number.scaleb(decimals, _EXACT).to_integral_value(context=_EXACT))
    return scaled if -LARGEST < scaled < LARGEST else None


def bin_of(scaled: int, decimals: int) -> int:
    """The bin of a scaled number."""
    [found] = count_bins([scaled], decimals)
    return found


def count_bins(scaled: Iterable[int], decimals: int) -> dict[int, int]:
    """How many of these scaled numbers are in each bin."""
    found: dict[int, int] = {}
    factor = 10**decimals
    for one in scaled:
        mantissa, exponent = frexp(one / factor)
        if one > 0:
            number = int(mantissa * _SCALE) + _BINS_OF_OCTAVE * exponent + _FIRST
        else:
            number = one and int(mantissa * _SCALE) - _BINS_OF_OCTAVE * exponent - _FIRST
        found[number] = found.get(number, 0) + 1
    return found


def bounds_of(number: int) -> tuple[float, float]:
    """The smallest and the largest size of the numbers in a bin, the former below the latter; a
    number of the larger size, away from zero, is in the next bin."""
    if not number:
        return 0.0, 0.0
    exponent, within = divmod(abs(number), _BINS_OF_OCTAVE)
    step = 0.5 / _BINS_OF_OCTAVE
    near, far = (ldexp(0.5 + (within + n) * step, exponent - _ZERO_OCTAVE) for n in (0, 1))
    return (near, far) if number > 0 else (-far, -near)


def middle_of(number: int) -> float:
    """What stands for the numbers of a bin: as far, in proportion, from its smallest as from its
    largest, and at most 0.8 % off any."""
    low, high = bounds_of(number)
    return 2 * low * high / (low + high) if number else 0.0
