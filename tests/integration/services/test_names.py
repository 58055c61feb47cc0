"""Any text is a name: what is counted under it is stored and read back under it."""

from __future__ import annotations

import pytest

from tests.conftest import MakeServices
from tests.helpers.support import TODAY, count_events, event, rows


@pytest.mark.parametrize(
    "name",
    [
        "a:b",
        "2025-03-14",
        "100%",
        "%3A",
        "{a}",
        "a b\u00a0c\u2028",
        "*?[a-z]\\",
        "'; DROP TABLE x; --",
        "\N{PARTY POPPER}" * 50,
        "\u0645\u0631\u062d\u0628\u0627 \u200f",
        "x" * 200,
        "\N{GRINNING FACE}" * 200,
        "\\N",
        "NULL",
        "__other__",
        "#claim",
        "\uffff0\uffff1",
    ],
    ids=ascii,
)
def test_any_name_is_counted_flushed_and_read_back_as_it_is(
    make_services: MakeServices, name: str
) -> None:
    services = make_services(count_by={name: ["p"]})
    stats = services.stats
    count_events(services, event(name, name, properties={"p": name}), event("other", name))
    for _ in ("live", "stored"):
        assert stats.daily_count(name, TODAY) == 1
        assert stats.user_count(name, name, TODAY, TODAY) == 1
        assert stats.user_counts(name) == {name: {TODAY: 1}, "other": {TODAY: 1}}
        assert stats.property_count(name, "p", name, TODAY, TODAY) == 1
        services.flush()
    assert rows(services, "analytics_user_daily")[0][1:] in ((name, name, 1), ("other", name, 1))
    assert stats.top(name, "user").top == stats.top(name, "p").top == [(name, 1)]


def test_a_nul_in_a_value_is_counted_flushed_and_read_back_as_it_is(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by={"a": ["p"]})
    value, other = "\x00x\uffff\x00", "\uffff0x\uffff\uffff0"
    count_events(services, *[event("a", properties={"p": text}) for text in (value, value, other)])
    for _ in ("live", "stored"):
        assert services.stats.property_count("a", "p", value, TODAY, TODAY) == 2
        assert services.stats.property_count("a", "p", other, TODAY, TODAY) == 1
        services.flush()
    assert services.stats.top("a", "p").top == [(value, 2), (other, 1)]
    assert services.status()["dead_letters"] == 0
