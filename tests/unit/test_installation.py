"""No name of one installation is a name of another."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from pipeline.installation import check_prefix, exchanges_of, outer_prefixes, queues_of
from pipeline.redis.keys import KINDS, Keys

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = [
    *("analytics:", "analytics:analytics:", "analytics.events:", "a:", "a:b:", "a.b:", "a-b:"),
    *("celery:", "reply.celery:", "reply.celery.a:", "a.events:", "a:events:", "celeryev:"),
]


def names_of(prefix: str) -> set[str]:
    """What the processes of an installation share besides keys under the prefix."""
    exchanges = exchanges_of(prefix) or {"control": "celery", "event": "celeryev"}
    control, event, *_ = exchanges.values()
    return {*queues_of(prefix), f"{control}.pidbox", f"reply.{control}.pidbox", event}


def test_no_two_prefixes_have_a_name_in_common() -> None:
    for one, other in itertools.permutations(PREFIXES, 2):
        assert not names_of(one) & names_of(other), (one, other)
        assert not any(name.startswith(other) for name in queues_of(one) if one == "a:"), other


def test_the_names_of_the_default_prefix_stay_as_they_were() -> None:
    assert queues_of("analytics:") == (
        "analytics.events",
        "analytics.flush",
        "analytics.maintenance",
    )
    assert exchanges_of("analytics:") == {}


def test_every_key_begins_with_a_kind_that_prefixes_are_compared_with() -> None:
    keys = Keys("p:")
    names = [name for name in vars(keys).values() if name not in ("p:", keys.live_buckets)]
    names += [*keys.live_buckets, *keys.journal_buckets("b")]
    names += [keys.daily("t", "d"), keys.user("u", "t", "d"), keys.value("t", "p", "v", "d")]
    names += [keys.gap("t", "off", "d:0"), keys.values("t", "p", "d")]
    names += [keys.producer("id"), keys.lane("flush")]
    assert {name.split(":")[1] for name in names} | {"unacked_mutex", "redbeat"} == KINDS


@pytest.mark.parametrize(
    ("prefix", "outer"),
    [
        ("shop:", []),
        ("shop:web:", []),
        ("user:", []),
        ("shop:user:", ["shop:"]),
        ("shop:dim:web:", ["shop:"]),
        ("shop:events:totals:", ["shop:", "shop:events:"]),
    ],
)
def test_a_prefix_inside_the_keys_of_another_is_known(prefix: str, outer: list[str]) -> None:
    assert outer_prefixes(prefix, KINDS) == outer


@pytest.mark.parametrize(
    "prefix", ["shop", ":", "", "a*:", "a?:", "[a]:", "{a}:", "a::", "a b:", "ä:", "a\n:", "a:\n"]
)
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="must end with ':'"):
        check_prefix(prefix)


def test_only_this_module_knows_the_names_of_the_default_queues() -> None:
    allowed = {
        "pipeline/contract.py",
        "pipeline/installation.py",
        # Where events of any installation wait that was upgraded.
        *("tasks/adoption.py", "tasks/consumer/step.py", "tasks/app.py"),
        "pipeline/cli/commands/processes.py",
    }
    users = {
        str(path.relative_to(ROOT))
        for room in ("pipeline", "tasks", "config")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"\b(EVENTS|FLUSH|MAINTENANCE)_QUEUE\b", path.read_text())
    }
    assert users <= allowed
