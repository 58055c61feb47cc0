"""The attacks' own parts: a report that says no where a client suffers or an event is missing."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.attacks.honest import PAGE, SERVER, Seen
from tests.attacks.kinds.table import ATTACKS
from tests.attacks.report import Outcome, markdown
from tests.attacks.wire import request


def seen(latency_s: float, refused: int = 0) -> Seen:
    found = Seen(latencies_s=[latency_s] * 100)
    found.answers[SERVER].update({"200": 50, "503": refused})
    found.answers[PAGE]["200"] = 50
    return found


def outcome(attacked: Seen | None = None, memory_mib: float = 100, counted: int = 100) -> Outcome:
    return Outcome(
        title="an attack",
        quiet=seen(0.010),
        attacked=attacked or seen(0.020),
        memory_mib=memory_mib,
        made=Counter({"401": 1_000}),
        accepted=Counter({SERVER: 100}),
        unknown=Counter({SERVER: 2}),
        counted=Counter({SERVER: counted}),
    )


@pytest.mark.parametrize("counted", [100, 102])
def test_what_hurts_no_client_is_met(counted: int) -> None:
    assert outcome(counted=counted).met


@pytest.mark.parametrize(
    "bad",
    [
        outcome(seen(0.031)),
        outcome(seen(0.020, refused=2)),
        outcome(memory_mib=301),
        outcome(memory_mib=0),
        outcome(counted=99),
        outcome(counted=103),
    ],
    ids=["slow", "refused", "memory", "ended", "lost", "doubled"],
)
def test_each_target_that_is_missed_is_seen(bad: Outcome) -> None:
    assert not bad.met
    assert "**no**" in bad.row()


def test_a_row_has_a_cell_for_each_column() -> None:
    head, _, row = markdown([outcome()]).splitlines()[:3]

    assert head.count("|") == row.count("|")
    assert "| 100.0% | 100.0% | 10.0 | 20.0 |" in row


def test_every_attack_is_told_apart_in_the_report() -> None:
    titles = [attack.title for attack in ATTACKS.values()]

    assert len(set(titles)) == len(titles)


def test_a_request_may_declare_more_than_it_sends() -> None:
    sent = request("POST", "/v1/batch", b"x", {"Content-Length": "500000"})

    assert sent.endswith(b"Content-Length: 500000\r\n\r\nx")
