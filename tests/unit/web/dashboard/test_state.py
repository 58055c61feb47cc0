from datetime import UTC, date, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.dashboard.state import PageState, parse_state
from pipeline.web.errors import InvalidParameter

NOW = datetime(2025, 3, 14, 23, 30, tzinfo=UTC)


def parse(url: str) -> PageState:
    return parse_state(dict(parse_qsl(urlsplit(url).query)), NOW)


def test_what_is_left_out_has_its_default_and_is_left_out_of_urls() -> None:
    assert parse("/dashboard") == PageState()
    assert PageState().url("/dashboard") == "/dashboard"


def test_the_range_is_that_of_the_zone() -> None:
    assert parse("?range=today&zone=Europe/Berlin").days(NOW) == (
        date(2025, 3, 15),
        date(2025, 3, 15),
    )
    assert parse("?range=7d").days(NOW) == (date(2025, 3, 8), date(2025, 3, 14))
    assert parse("?range=month").days(NOW) == (date(2025, 3, 1), date(2025, 3, 14))
    assert parse("?from=2025-01-01&to=2025-01-31").compared_days(NOW) == (
        date(2024, 12, 1),
        date(2024, 12, 31),
    )


def test_a_comparison_may_have_days_of_its_own() -> None:
    state = parse("?range=7d&before_from=2024-12-25&before_to=2024-12-31")
    assert state.compared_days(NOW) == (date(2024, 12, 25), date(2024, 12, 31))
    assert state.change(compare="year").compared_days(NOW) == (date(2024, 3, 8), date(2024, 3, 14))
    assert parse(state.url("/dashboard")) == state


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("range=decade", "range"),
        ("range=custom", "from"),
        ("from=2025-01-02&to=2025-01-01", "from"),
        ("from=20250101&to=2025-01-02", "from"),
        ("from=2025-01-01", "to"),
        ("from=1990-01-01&to=2025-01-01", "from"),
        ("from=0001-01-05&to=0001-01-06", "from"),
        ("zone=Berlin", "zone"),
        ("by=minute", "by"),
        ("range=90d&by=quarter_hour", "by"),
        ("compare=never", "compare"),
        ("compare=own", "before_from"),
        ("before_from=2025-01-01", "before_to"),
        ("value=x", "value"),
        ("type=" + "x" * 5_000, "type"),
        ("measure=amount", "measure"),
        ("sort=size", "sort"),
        ("range=today&before_from=2016-12-01&before_to=2025-03-13", "before_from"),
        ("page=0", "page"),
        ("page=100001", "page"),
        ("page=000000001" + "9" * 5_000, "page"),
        ("page=٣", "page"),
        ("surprise=1", "surprise"),
    ],
)
def test_a_wrong_value_names_its_parameter_and_the_remedy(query: str, field: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse(f"?{query}")
    assert raised.value.field == field
    assert len(raised.value.message) < 400


def test_a_new_range_has_its_own_step_and_a_new_filter_the_first_page() -> None:
    state = parse("?range=7d&by=hour&page=3")
    assert state.change(range="90d").by is None
    assert state.change(event_type="signup") == parse("?range=7d&by=hour&type=signup")
    assert state.change(page=4).page == 4


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(texts.map(str.strip), texts.map(str.strip))
def test_a_url_leads_back_to_its_state(name: str, value: str) -> None:
    state = PageState(
        range="7d",
        zone="Asia/Kathmandu",
        compare="none",
        by="hour",
        event_type=name,
        of_property=name,
        value=value if name else "",
        search=value,
        page=2,
    )
    assert parse(state.url("/dashboard")) == state


@pytest.mark.parametrize(
    ("first", "last", "week", "month"),
    [
        ("2026-03-02", "2026-03-08", (False, False), (True, True)),
        ("2026-03-01", "2026-03-31", (True, True), (False, False)),
        ("2026-03-03", "2026-03-15", (True, False), (True, True)),
    ],
)
def test_a_range_knows_the_weeks_and_months_that_it_cuts(
    first: str, last: str, week: tuple[bool, bool], month: tuple[bool, bool]
) -> None:
    state = parse_state({"from": first, "to": last}, NOW)
    assert state.find_cut(NOW, "week") == week
    assert state.find_cut(NOW, "month") == month
    assert state.find_cut(NOW, "day") == (False, False)
