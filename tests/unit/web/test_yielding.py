"""How often threads take turns while one of them computes."""

from __future__ import annotations

import sys

import pytest

from pipeline.web.api.yielding import yielding_often


def test_threads_take_turns_quickly_until_the_last_block_ends() -> None:
    usual = sys.getswitchinterval()

    with yielding_often():
        with yielding_often():
            inner = sys.getswitchinterval()
        outer = sys.getswitchinterval()

    assert inner == outer == pytest.approx(0.0005)
    assert sys.getswitchinterval() == usual


def test_work_that_fails_leaves_the_usual_interval() -> None:
    usual = sys.getswitchinterval()

    with pytest.raises(ValueError, match="failed"), yielding_often():
        raise ValueError("failed")

    assert sys.getswitchinterval() == usual
