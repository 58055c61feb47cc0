from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from pipeline.services import Services
from tests.helpers.journeys.archive import put
from tests.helpers.support import NOW, count_events, event, execute

RANGE = ("--from", "2025-03-01", "--to", "2025-03-31")


@pytest.fixture
def archived(services: Services) -> Services:
    put(
        services,
        [
            ("view", NOW, "u1", None),
            ("view", NOW, "u2", None),
            ("buy", NOW + timedelta(seconds=90), "u1", '{"plan":"pro","total":12}'),
            ("buy", NOW + timedelta(seconds=90), "u2", '{"plan":"=1","total":7}'),
        ],
    )
    return services


def test_a_funnel_is_one_object(archived: Services, analytics: Any) -> None:
    code, out, err = analytics("stats", "funnel", "view", "buy[total > 10]", *RANGE, "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "steps": [
            {
                "event_type": "view",
                "step": "view",
                "users": 2,
                "lost": 0,
                "conversion": 1.0,
                "of_first": 1.0,
                "median_s": None,
            },
            {
                "event_type": "buy",
                "step": "buy[total > 10]",
                "users": 1,
                "lost": 1,
                "conversion": 0.5,
                "of_first": 0.5,
                "median_s": 90.0,
            },
        ],
        "as_of": None,
    }


def test_a_funnel_by_value_is_a_table(archived: Services, analytics: Any) -> None:
    code, out, _ = analytics("stats", "funnel", "buy", "buy", "--by", "plan", *RANGE, "--csv")

    assert code == 0
    assert out.splitlines() == [
        "value,step,users,lost,conversion,of_first,median_s",
        "'=1,buy,1,0,1.0,1.0,",
        "'=1,buy,0,1,0.0,0.0,",
        "pro,buy,1,0,1.0,1.0,",
        "pro,buy,0,1,0.0,0.0,",
    ]


def test_a_breakdown_of_any_property(archived: Services, analytics: Any) -> None:
    ask = ("stats", "breakdown", "buy", "plan", "--where", "total >= 7", *RANGE)
    code, out, err = analytics(*ask, "--limit", "1", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "breakdown": [{"value": "=1", "count": 1}],
        "count": 2,
        "others": 1,
        "without": 0,
        "as_of": None,
    }
    assert "… and 1 events of other values" in analytics(*ask, "--limit", "1")[1]


def test_fresh_archives_first(services: Services, analytics: Any) -> None:
    count_events(services, event("view", "u1", timestamp=NOW))

    _, out, _ = analytics("stats", "breakdown", "view", *RANGE, "--fresh", "--json")

    found = json.loads(out)
    assert (found["count"], found["users"]) == (1, 1)
    assert (
        found["as_of"]
        == execute(services, "SELECT max(archived_at) FROM archived_entries")[0][0].isoformat()
    )


def test_retention_with_conditions_has_the_shape_of_any(archived: Services, analytics: Any) -> None:
    ask = ("stats", "retention", "view", "buy[total > 10]", "--by", "week")
    days = ("--from", "2025-03-10", "--to", "2025-03-23")
    code, out, err = analytics(*ask, *days, "--json")

    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["cohorts"] == [
        {"start": "2025-03-10", "users": 2, "returned": [1, 0]},
        {"start": "2025-03-17", "users": 0, "returned": [0]},
    ]
    assert found["as_of"] is None
    assert analytics(*ask, *days, "--csv")[1].splitlines()[:2] == [
        "start,users,period,returned",
        "2025-03-10,2,0,1",
    ]
    assert "2025-03-10 |     2 | 1 | 0" in analytics(*ask, *days)[1].replace("│", "|")
    assert "did you mean view?" in analytics(*ask[:2], "veiw", *ask[3:], *days)[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("funnel", "view"), "2 to 8 steps"),
        (("funnel", "view", "buy[plan=pro]"), "step 2"),
        (("funnel", "view", "buy", "--window", "91d"), "window"),
        (("breakdown", "view", "--where", "plan = pro"), "character 8"),
        (("retention", "view", "buy[plan]"), "return"),
    ],
)
def test_what_has_no_answer_is_refused_by_name(
    services: Services, analytics: Any, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = analytics("stats", *arguments)

    assert (code, out) == (2, "")
    assert said in err


def test_an_empty_answer_says_why(archived: Services, analytics: Any) -> None:
    _, out, err = analytics("stats", "funnel", "veiw", "buy", *RANGE, "--json")
    assert json.loads(out)["steps"][0]["users"] == 0
    assert "did you mean view?" in err

    _, _, err = analytics("stats", "breakdown", "view", "--where", "plan exists", *RANGE)
    assert "has no event of the type view" in err
