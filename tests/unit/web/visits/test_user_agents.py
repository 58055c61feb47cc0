"""Browser, system and device, by user agents of browsers as they are sent."""

from __future__ import annotations

import time

import pytest

from pipeline.web.collector.visits import user_agents
from pipeline.web.collector.visits.user_agents import Client, describe_client, parse_user_agent

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
KNOWN = {
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36": (
        "Chrome",
        "Windows",
        "desktop",
    ),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36 "
    "Edg/140.0.0.0": ("Edge", "Windows", "desktop"),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36 "
    "OPR/121.0.0.0": ("Opera", "Windows", "desktop"),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0": (
        "Firefox",
        "Windows",
        "desktop",
    ),
    "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0; Tablet PC 2.0)": (
        "IE",
        "Windows",
        "desktop",
    ),
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/18.5 Safari/605.1.15": (
        "Safari",
        "macOS",
        "desktop",
    ),
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": (
        "Firefox",
        "Ubuntu",
        "desktop",
    ),
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36": (
        "Chrome",
        "Linux",
        "desktop",
    ),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/140.0.0.0 Safari/537.36": (
        "Chrome",
        "Chrome OS",
        "desktop",
    ),
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/140.0.0.0 Mobile Safari/537.36": (
        "Chrome",
        "Android",
        "mobile",
    ),
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/140.0.0.0 Safari/537.36": (
        "Chrome",
        "Android",
        "tablet",
    ),
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 "
    "Mobile Safari/537.36": ("Samsung Internet", "Android", "mobile"),
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP3A; wv) {WEBKIT} Version/4.0 "
    "Chrome/140.0.0.0 Mobile Safari/537.36": ("Android WebView", "Android", "mobile"),
    "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0": (
        "Firefox",
        "Android",
        "mobile",
    ),
    "Mozilla/5.0 (Android 15; Tablet; rv:140.0) Gecko/140.0 Firefox/140.0": (
        "Firefox",
        "Android",
        "tablet",
    ),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {APPLE} Version/18.5 "
    "Mobile/15E148 Safari/604.1": ("Safari", "iOS", "mobile"),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {APPLE} CriOS/140.0.7339.39 "
    "Mobile/15E148 Safari/604.1": ("Chrome", "iOS", "mobile"),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {APPLE} FxiOS/140.0 "
    "Mobile/15E148 Safari/605.1.15": ("Firefox", "iOS", "mobile"),
    f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {APPLE} Version/18.5 Mobile/15E148 "
    "Safari/604.1": ("Safari", "iOS", "tablet"),
    f"Mozilla/5.0 (SMART-TV; LINUX; Tizen 8.0) {WEBKIT} Version/8.0 TV Safari/537.36": (
        "Safari",
        "Tizen",
        "tv",
    ),
    "Mozilla/5.0 (PlayStation; PlayStation 5/9.00) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/15.4 Safari/605.1.15": ("Safari", "", "console"),
}


@pytest.mark.parametrize(("agent", "expected"), KNOWN.items(), ids=range(len(KNOWN)))
def test_browsers_are_recognised(agent: str, expected: tuple[str, str, str]) -> None:
    assert parse_user_agent(agent) == expected


@pytest.mark.parametrize(
    "agent", ["", " ", "x" * 5_000, "Mozilla/5.0 (" * 400, "\x00\n", "()[]{}|\\^$", "🦊" * 300]
)
def test_what_is_no_browser_says_nothing_and_takes_no_time(agent: str) -> None:
    began_s = time.thread_time()

    found = describe_client(agent)

    assert found in (None, Client("", "", ""))
    assert time.thread_time() - began_s < 0.5


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_agents, "_MAX_KNOWN", 3)
    monkeypatch.setattr(user_agents, "_known", type(user_agents._known)())
    monkeypatch.setattr(user_agents._allowance, "has_some", lambda: True)

    for agent in ("a", "b", "c", "a", "d"):
        describe_client(agent)

    assert [*user_agents._known] == ["c", "a", "d"]


def test_a_flood_of_new_user_agents_is_parsed_for_a_part_of_the_time_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_agents, "_allowance", user_agents._Allowance())
    describe_client("known")

    began_s, spent_s = time.monotonic(), time.thread_time()
    found = [describe_client(f"{'x' * 240} {number}") for number in range(1_000)]
    spent_s = time.thread_time() - spent_s

    assert None in found
    assert spent_s < 0.2 + 0.2 * (time.monotonic() - began_s)
    assert describe_client("known") is not None
