"""Sets of users: roaring bitmaps of their numbers, and the bytes in which Postgres has them."""

from __future__ import annotations

import sys
from array import array

from pyroaring import BitMap


def read_numbers(joined: bytes) -> BitMap:
    """The set of numbers that `string_agg(int4send(number), '')` has joined, in any order; one may
    come twice. Numbers below zero become those from 2^31 on."""
    numbers = array("I", joined)
    if sys.byteorder == "little":
        numbers.byteswap()
    return BitMap(numbers)


def read_bitmap(stored: bytes) -> BitMap:
    """The set that `write_bitmap` has written. Raises ValueError for anything else."""
    return BitMap.deserialize(stored)


def write_bitmap(users: BitMap) -> bytes:
    """The set in the portable format of Roaring, as small as it gets."""
    users.run_optimize()
    return bytes(users.serialize())
