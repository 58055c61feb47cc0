"""The amounts that events bring, and what they come to: by rules of our own, with whole numbers."""

from __future__ import annotations

from decimal import Decimal
from random import Random

AMOUNT = "amount"
"""The property that is summed. All amounts are positive, so a sum never falls."""
DECIMALS = 2

_NO_NUMBERS = ("n/a", None, True)
_LARGEST = (500, 10**6, 10**13)
"""In hundredths: the last are kept in two parts, and in more than one event past 64 bits."""


def make_amount(random: Random) -> object:
    """A number in one of the forms in which clients send them, or sometimes none."""
    hundredths, way = random.randrange(1, random.choice(_LARGEST)), random.random()
    if way < 0.1:
        return random.choice(_NO_NUMBERS)
    if way < 0.4:
        return f"{hundredths // 100}.{hundredths % 100:02}"
    return hundredths / 100 if way < 0.7 else hundredths


def count_hundredths(amount: object) -> int | None:
    """The amount in hundredths; None where it is no number."""
    if amount in _NO_NUMBERS[:2] or amount is True:
        return None
    hundredths = Decimal(str(amount)) * 100
    assert hundredths == int(hundredths) > 0, f"{amount!r} is not an amount of a campaign"
    return int(hundredths)


def find_bin(hundredths: int) -> int:
    """The bin of an amount: 64 between each two powers of two, those of 1/2 to 1 from 2,560 on."""
    top, bottom, exponent = hundredths, 100, 40
    while top >= bottom:
        bottom, exponent = 2 * bottom, exponent + 1
    while 2 * top < bottom:
        top, exponent = 2 * top, exponent - 1
    return 64 * exponent + (2 * top - bottom) * 64 // bottom
