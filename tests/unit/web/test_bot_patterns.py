"""Bots are found by a few characters of their names, and are those that their package finds."""

from __future__ import annotations

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA, is_crawler
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.collector.formats import bots
from pipeline.web.collector.formats.bot_patterns import BOTS, BotPatterns, find_needed_text

EXAMPLES = sorted({one for known in CRAWLER_USER_AGENTS_DATA for one in known["instances"]})
PARTS = st.sampled_from([known["pattern"] for known in CRAWLER_USER_AGENTS_DATA]) | st.text()


def test_every_example_is_judged_as_by_the_package() -> None:
    differing = [one for one in EXAMPLES if BOTS.match(one) != is_crawler(one)]
    assert len(EXAMPLES) > 1_000
    assert differing == []


@given(st.lists(PARTS, max_size=4).map("".join))
def test_any_text_is_judged_as_by_the_package(user_agent: str) -> None:
    assert BOTS.match(user_agent) == is_crawler(user_agent)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"grub\.org", "grub.org"),
        (r"^Silk\/", "Silk/"),
        (r"AdsBot-Google([^-]|$)", "AdsBot-Google"),
        (r"S[eE][mM]rushBot", "rushBot"),
        (r"Spider[\s\S]*spider\.com", "spider.com"),
        (r"colou?rs", "colo"),
        (r"Chirp|gotosocial", ""),
        (r"((a|b)c)longest", ""),
    ],
)
def test_the_text_that_an_expression_needs_is_found(expression: str, text: str) -> None:
    assert find_needed_text(expression) == text


def test_expressions_without_a_text_are_tried_too() -> None:
    patterns = BotPatterns(["Chirp|gotosocial", "[wW]get", "colou?rs"])
    found = [patterns.match(one) for one in ("gotosocial", "Wget", "colors", "colours", "colouurs")]
    assert found == [True, True, True, True, False]


def test_a_crowd_of_new_user_agents_does_not_push_out_all_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bots, "_MAX_KNOWN", 10)
    monkeypatch.setattr(bots, "_known", {})
    detector = bots.BotDetector()
    for number in range(11):
        detector.mark_type("e", f"Browser/{number}")
    assert [*bots._known] == [f"Browser/{number}" for number in range(1, 11)]
