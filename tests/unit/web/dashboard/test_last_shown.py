"""What is kept of pages for an outage: bounded, by token, and nothing from before a change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pipeline.web.dashboard.last_shown import (
    MOST_BYTES,
    MOST_OF_TOKEN,
    MOST_PAGES,
    LastShown,
    Shown,
)

NOW = datetime(2026, 3, 14, tzinfo=UTC)


def make(size: int = 10) -> Shown:
    return Shown({}, NOW, size)


def count(pages: LastShown, token: str, urls: int) -> int:
    return sum(pages.find((token, f"/{n}")) is not None for n in range(urls))


def test_a_viewer_who_opens_many_pages_leaves_others_theirs() -> None:
    pages = LastShown()
    pages.keep(("other", "/0"), make(), 0)
    for n in range(3 * MOST_PAGES):
        pages.keep(("greedy", f"/{n}"), make(), 0)
    assert pages.find(("other", "/0"))
    assert count(pages, "greedy", 3 * MOST_PAGES) == MOST_OF_TOKEN
    assert pages.find(("greedy", f"/{3 * MOST_PAGES - 1}"))


def test_large_pages_are_fewer() -> None:
    pages = LastShown()
    for n in range(10):
        pages.keep((f"token-{n}", "/0"), make(MOST_BYTES // 3), 0)
    assert [count(pages, f"token-{n}", 1) for n in range(10)] == [0] * 7 + [1] * 3
    pages.keep(("token", "/0"), make(MOST_BYTES + 1), 0)
    assert pages.find(("token", "/0")) is None


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    pages = LastShown()
    pages.keep(("a", "/0"), make(), pages.cleared)
    begun = pages.cleared
    pages.clear()
    pages.keep(("a", "/1"), make(), begun)
    assert count(pages, "a", 2) == 0
    pages.keep(("a", "/1"), make(), pages.cleared)
    assert count(pages, "a", 2) == 1


def test_threads_may_keep_and_clear_at_once() -> None:
    pages = LastShown()

    def work(number: int) -> None:
        for n in range(300):
            pages.keep((f"{number}", f"/{n % 40}"), make(), pages.cleared)
            if n % 50 == 0:
                pages.clear()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [None] * 4
