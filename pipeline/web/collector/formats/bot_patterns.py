"""The patterns of known bots, matched in a tenth of the time that their own package takes.

Each of the 1,500 patterns needs some plain text, and nearly all are nothing else. Texts are found
by four characters that few others have: a user agent is cut into pieces of four, and only patterns
with a piece that is in it are tried. Python's alternation would try each at every character.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_PIECE = 4
_TOKEN = re.compile(
    r"(?:\\?(?P<plain>(?<=\\)[^a-zA-Z0-9]|(?<!\\)[^\\.^$|?*+(){}\[\]])"
    r"|\[[^\]]+\]|\([^()]*\)|\\[a-zA-Z]|[.^$])"
    r"(?P<times>[?*+]|\{[^}]*\})?"
)
"""A character, or what stands for one or more, and how often. Nothing nested."""
_BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Mobile Safari/537.36 Edg/140.0.0.0 (https://",
)


@dataclass(frozen=True)
class _Pattern:
    """A pattern by the text that it needs; `rest` is None where that is all."""

    text: str
    rest: re.Pattern[str] | None

    def match(self, user_agent: str) -> bool:
        return self.text in user_agent and (
            self.rest is None or self.rest.search(user_agent) is not None
        )


class BotPatterns:
    """Regular expressions to be found anywhere in a user agent."""

    def __init__(self, expressions: Iterable[str]) -> None:
        patterns, without_text = [], []
        for expression in expressions:
            text = find_needed_text(expression)
            is_plain = text == re.sub(r"\\(.)", r"\1", expression)
            if len(text) < _PIECE:
                without_text.append(f"(?:{expression})")
            else:
                patterns.append(_Pattern(text, None if is_plain else re.compile(expression)))
        self._without_text = re.compile("|".join(without_text) or r"(?!)")
        texts = [*(pattern.text for pattern in patterns), *_BROWSERS * 100]
        often = Counter(piece for text in texts for piece in _cut(text))
        self._by_piece: dict[str, list[_Pattern]] = {}
        for pattern in patterns:
            rarest = min(_cut(pattern.text), key=lambda piece: (often[piece], piece))
            self._by_piece.setdefault(rarest, []).append(pattern)

    def match(self, user_agent: str) -> bool:
        """Whether one of the expressions is found."""
        for piece in self._by_piece.keys() & _cut(user_agent):
            if any(pattern.match(user_agent) for pattern in self._by_piece[piece]):
                return True
        return self._without_text.search(user_agent) is not None


def find_needed_text(expression: str) -> str:
    """The longest text that whatever the expression matches holds; "" where none is found."""
    tokens = list(_TOKEN.finditer(expression))
    if "".join(token[0] for token in tokens) != expression:
        return ""  # alternatives, or something nested
    plain = (token["plain"] if not token["times"] else None for token in tokens)
    return max("".join(one or "\0" for one in plain).split("\0"), key=len)


def _cut(text: str) -> set[str]:
    return {text[at : at + _PIECE] for at in range(len(text) - _PIECE + 1)}


OF_PEOPLE = frozenset({"okhttp", "HttpUrlConnection", r"AP3A\.240617\.008", "MetaIAB Facebook"})
"""Patterns that are no bot's: what apps for Android send with, a build of Android 15 that millions
of phones have, and what people see Facebook's links in."""
OF_APPS = frozenset(
    {
        "WhatsApp",
        "Viber",
        "Sogou",
        "coccoc",
        "Fluid",
        "Hatena",
        "Goodreads",
        "Blackboard",
        "CapitalOneShopping",
        "Disqus",
        "Feedly",
        "inoreader",
        "NewsBlur",
        "Podimo",
        "Mastodon",
        "NextCloud",
        r"008\/",
        r"Asana\/",
        r"Bluesky\/",
        r"Code\/1\.",
        r"Grammarly\/",
        r"Instapaper\/",
        r"Klaviyo\/",
        r"Notion\/",
        r"Overcast\/",
        r"PayPal\/",
        r"PocketCasts\/",
        r"Trae\/",
        r"Tumblr\/",
        r"upday\/",
    }
)
"""Patterns that are the name of an app: in the agent of a browser it is the app's own browser, in
which a person looks at a page; alone it is what fetches a preview."""
_BROWSER = re.compile(
    r"(?!.*(?:https?://|compatible;))"
    r"Mozilla/5(?:\.0)? \((?:Linux|Android|iPhone|iPad|iPod|Windows|Macintosh|X11)\b"
    r".*?\) (?:AppleWebKit|Gecko)/"
)
_PHONE = re.compile(r"(\(Linux;[^()]*?Android[^;()]*;(?: ?[a-z]{2}(?:[-_]\w{2,4})?;)?)[^;()]*")
"""Of an agent of Android: what comes before the name of the phone and its build, and these."""


def is_bot(user_agent: str) -> bool:
    """Whether a bot has this user agent, rather than a person in a browser or in an app.

    The name of a phone is no bot's, whatever it is called.
    """
    text = _PHONE.sub(r"\1", user_agent, count=1)
    if BOTS.match(text):
        return True
    return any(name in text for name in _APPS) and _BROWSER.match(text) is None


_PATTERNS = [known["pattern"] for known in CRAWLER_USER_AGENTS_DATA]
_APPS = [find_needed_text(pattern) for pattern in _PATTERNS if pattern in OF_APPS]
BOTS = BotPatterns(pattern for pattern in _PATTERNS if pattern not in OF_APPS | OF_PEOPLE)
