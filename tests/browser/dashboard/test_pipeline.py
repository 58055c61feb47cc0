"""The Pipeline page in a browser: what it says, its buttons, and that everyone can use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product

import pytest
from playwright.sync_api import Page, expect

from pipeline.counting.batch import BadEvent
from pipeline.lanes.ticks import note_tick
from pipeline.services import Services
from pipeline.upkeep import heartbeats
from pipeline.upkeep.condition.history import take_sample
from tests.helpers.support import Workers, message

OpenPage = Callable[..., Page]


@pytest.fixture
def letters(services: Services) -> None:
    """Three dead letters, of which two can be replayed, and workers that live."""
    good = [BadEvent(b'{"event_type": "late"}', "too <b>old</b>") for _ in range(2)]
    other = BadEvent(b"x", "no JSON", kind="message")
    services.counters.apply([message(bad=[*good, other])], datetime.now(UTC))
    services.move_dead_letters()
    note_tick(services.redis, services.keys)
    for kind in ("events", "flush"):
        heartbeats.beat(services.redis, services.keys, kind, f"{kind}@here")  # type: ignore[arg-type]
    take_sample(services.redis, services.keys, with_queue=True)


@pytest.mark.parametrize(("size", "scheme"), [*product(("desktop", "phone"), ("light", "dark"))])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    open_page: OpenPage,
    check_accessibility: Callable[[Page], None],
    events: None,
    letters: None,
    size: str,
    scheme: str,
) -> None:
    page = open_page("/dashboard/pipeline", size, scheme)
    page.click("summary:has-text('Show as table')")
    check_accessibility(page)
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.click("text=Replay…")
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_letters_are_replayed_and_dropped_and_buttons_say_what_they_did(
    open_page: OpenPage, check_accessibility: Callable[[Page], None], events: None, letters: None
) -> None:
    page = open_page("/dashboard/pipeline")
    sentence = page.locator(".sentence")
    expect(sentence).to_have_text(
        "3 dead letters wait: what could not be counted, kept as it came."
    )
    page.click("text=Replay…")
    page.click("text=Replay 2 dead letters")
    expect(page.locator(".notice")).to_have_text("2 dead letters sent again.")
    page.click("text=Drop…")
    page.click("text=Drop 1 dead letter")
    expect(page.locator(".notice")).to_have_text("1 dead letter dropped.")
    expect(sentence).to_have_text("All events are accounted for.")
    check_accessibility(page)
    for button in ("Flush now", "Archive now", "Audit the last 7 days"):
        page.click(f"text={button}")
        expect(page.locator(".notice")).to_be_visible()


def test_it_turns_by_itself_and_by_its_link_without_scripts(
    open_page: OpenPage, letters: None, services: Services, workers: Workers
) -> None:
    page = open_page("/dashboard/pipeline")
    with page.expect_response(lambda answer: "card=now" in answer.url, timeout=15_000):
        services.redis.hincrby(services.keys.totals, "published_messages", 3)
    expect(page.locator(".sentence")).to_contain_text("3 messages are missing", timeout=15_000)
    plain = open_page("/dashboard/pipeline", java_script_enabled=False)
    plain.click("text=Last day")
    plain.click("#now a.refresh")
    assert "over=day" in plain.url
    expect(plain.locator(".sentence")).to_contain_text("3 messages are missing")
