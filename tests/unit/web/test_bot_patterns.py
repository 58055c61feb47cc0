"""Bots are found by a few characters of their names, and are those that their package finds, apart
from people in the browsers of apps."""

# ruff: noqa: E501 — user agents are as long as they are

from __future__ import annotations

import re

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.collector.formats import bots
from pipeline.web.collector.formats.bot_patterns import (
    BOTS,
    OF_APPS,
    OF_PEOPLE,
    BotPatterns,
    find_needed_text,
    is_bot,
)

EXAMPLES = sorted({one for known in CRAWLER_USER_AGENTS_DATA for one in known["instances"]})
ALL = [known["pattern"] for known in CRAWLER_USER_AGENTS_DATA]
KEPT = [re.compile(pattern) for pattern in ALL if pattern not in OF_APPS | OF_PEOPLE]
PARTS = st.sampled_from([known["pattern"] for known in CRAWLER_USER_AGENTS_DATA]) | st.text()


ANDROID = "Mozilla/5.0 (Linux; Android"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
WEBVIEW = (
    "AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.7204.63 Mobile Safari/537.36"
)
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36"
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"

PEOPLE = {
    "Facebook, Android": f"{ANDROID} 14; SM-S911B Build/UP1A.231005.007; wv) {WEBVIEW} MetaIAB Facebook",
    "Facebook, iPhone": f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/518.0.0.52.100;FBDV/iPhone15,2;FBLC/en]",
    "Facebook, Android, before": f"{ANDROID} 13; Pixel 7; wv) {WEBVIEW} [FB_IAB/FB4A;FBAV/470.1.0.46.109;]",
    "Instagram on a phone of Oppo": f"{ANDROID} 15; CPH2557 Build/AP3A.240617.008; wv) {WEBVIEW} "
    "Instagram 389.0.0.49.87 Android (35/15; 480dpi; 1080x2400; OPPO; CPH2557; OP5957L1; qcom; en_GB)",
    "Chrome on a phone of OnePlus": f"{ANDROID} 15; CPH2581 Build/AP3A.240617.008) {CHROME}",
    "Messenger": f"{IPHONE} Mobile/15E148 [FBAN/MessengerForiOS;FBAV/510.0.0.34.106]",
    "WhatsApp": f"{ANDROID} 15; Pixel 9 Build/BP1A.250505.005; wv) {WEBVIEW} WhatsApp/2.25.16.77",
    "Viber": f"{ANDROID} 16; SM-F966N; BP2A.250605.031.A3; wv) {WEBVIEW} Viber/27.4.0.0",
    "LINE": f"{IPHONE} Mobile/15E148 Safari Line/15.9.1",
    "TikTok": f"{ANDROID} 14; SM-A546B Build/UP1A.231005.007; wv) {WEBVIEW} trill_2023709040 "
    "BytedanceWebview/d8a21c6",
    "Snapchat": f"{IPHONE} Mobile/15E148 Snapchat/13.39.0.42 (like Safari/8621.2.5.10.10, panda)",
    "Pinterest": f"{ANDROID} 13; M2101K6G; wv) {WEBVIEW} [Pinterest/Android]",
    "LinkedIn": f"{IPHONE} Mobile/15E148 [LinkedInApp]/9.31.1226",
    "Twitter": f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1 Twitter for iPhone/11.4",
    "WeChat": f"{ANDROID} 13; PGT-AN10 Build/HONORPGT-AN10; wv) {WEBVIEW} XWEB/1380099 MMWEBSDK/20250503 "
    "MicroMessenger/8.0.60.2880(0x28003C3B) WeChat/arm64 NetType/WIFI Language/zh_CN",
    "Google app": f"{IPHONE} GSA/375.0.769875373 Mobile/15E148 Safari/604.1",
    "Telegram": f"{ANDROID} 14; Pixel 8; wv) {WEBVIEW} Telegram-Android/11.13.1 (Google Pixel 8; SDK 34)",
    "Tumblr": f"{IPHONE} Mobile/15E148 [Tumblr/iPhone/38.9/389002/18.5]",
    "Sogou's browser": f"{ANDROID} 6.0; M40SE(M5T3) Build/MRA58K; wv) {WEBVIEW} AWP/2.0 "
    "SogouMSE,SogouMobileBrowser/6.1.5",
    "Samsung's browser": f"{ANDROID} 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 "
    "Chrome/130.0.0.0 Mobile Safari/537.36",
    "a Cubot": f"{ANDROID} 12; CUBOT P60) {CHROME}",
    "another Cubot": f"{ANDROID} 13; Cubot_KingKong_Mini3 Build/TP1A.220624.014) {CHROME}",
    "a ViewSonic": "Mozilla/5.0 (Linux; U; Android 4.3; en-US; ViewSonic A8+ Build/JLS36C) "
    "AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30",
    "an HTC Butterfly": f"{ANDROID} 4.2.2; HTC Butterfly Build/JDQ39) {CHROME}",
    "a Fever tablet": f"{ANDROID} 8.1.0; Fever_Plus_J) {CHROME}",
    "a Nokia": f"{ANDROID} 13; Nokia G22 Build/TP1A.220624.014; wv) {WEBVIEW}",
    "an app for Android": "Dalvik/2.1.0 (Linux; U; Android 13; SM-A536B Build/TP1A.220624.014)",
    "an app with OkHttp": "okhttp/4.12.0",
    "an app for iOS": "Shop/412 CFNetwork/1494.0.7 Darwin/23.4.0",
    "an app of Flutter": "Dart/3.3 (dart:io)",
    "an app of React Native": "Shop/1 CFNetwork/3826.500.131 Darwin/24.5.0",
    "an editor": f"{DESKTOP} Code/1.101.2 Chrome/134.0.6998.205 Electron/35.5.1 Safari/537.36",
    "Notion's window": f"{DESKTOP} Notion/4.14.0 Chrome/134.0.6998.205 Electron/35.2.1 Safari/537.36",
}
FOUND_AS_BOTS = {
    "Facebook's preview": "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Facebook's preview, from a browser": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) "
    "AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 "
    "Facebot Twitterbot/1.0",
    "Meta's crawler": "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "WhatsApp's preview": "WhatsApp/2.25.16.77 A",
    "Slack's preview": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Twitter's preview": "Twitterbot/1.0",
    "LinkedIn's preview": "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Telegram's preview": "TelegramBot (like TwitterBot)",
    "Viber's preview": "Viber",
    "Tumblr's preview": "Tumblr/14.0.835.186",
    "Notion's preview": "Notion/1.0 (https://notion.so; team@makenotion.com)",
    "Pinterest's": "Mozilla/5.0 (compatible; Pinterestbot/1.0; +http://www.pinterest.com/bot.html)",
    "Google's, as a phone": f"{ANDROID} 6.0.1; Nexus 5X Build/MMB29P) {CHROME} "
    "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Google's of shops": f"{ANDROID} 8.0; Pixel 2 Build/OPD3.170816.012; Storebot-Google/1.0) {CHROME}",
    "Sogou's": "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)",
    "Inoreader's": "Mozilla/5.0 (compatible; inoreader.com; 1 subscribers)",
    "a browser without a window": f"{DESKTOP} HeadlessChrome/138.0.0.0 Safari/537.36",
    "a program": "python-requests/2.32.3",
    "another program": "curl/8.5.0",
}


@pytest.mark.parametrize("user_agent", PEOPLE.values(), ids=PEOPLE)
def test_a_person_in_the_browser_of_an_app_is_no_bot(user_agent: str) -> None:
    assert not is_bot(user_agent[:256])


@pytest.mark.parametrize("user_agent", FOUND_AS_BOTS.values(), ids=FOUND_AS_BOTS)
def test_what_fetches_a_page_by_itself_is_a_bot(user_agent: str) -> None:
    assert is_bot(user_agent[:256])


def test_what_is_not_taken_for_a_bot_is_among_the_patterns_of_the_package() -> None:
    assert {known["pattern"] for known in CRAWLER_USER_AGENTS_DATA} >= OF_APPS | OF_PEOPLE


def test_every_example_is_judged_as_by_the_package() -> None:
    assert len(EXAMPLES) > 1_000
    assert [one for one in EXAMPLES if BOTS.match(one) != is_kept(one)] == []
    spared = [one for one in EXAMPLES if not is_bot(one)]
    texts = [find_needed_text(pattern) for pattern in OF_APPS | OF_PEOPLE]
    assert 0 < len(spared) < 15
    assert all(any(text in one for text in texts) for one in spared)


def is_kept(user_agent: str) -> bool:
    """Whether one of the patterns that are used as they are is found."""
    return any(pattern.search(user_agent) for pattern in KEPT)


@given(st.lists(PARTS, max_size=4).map("".join))
def test_any_text_is_judged_as_by_the_package(user_agent: str) -> None:
    assert BOTS.match(user_agent) == is_kept(user_agent)


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
