"""Browser, system and device of a visitor, by the user agent."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from typing import NamedTuple

from ua_parser import Domain, Parser
from ua_parser.basic import Resolver
from ua_parser.loaders import load_lazy_builtins

_MAX_CHARACTERS = 256
"""Characters of a user agent that are parsed: 0.3 ms for a browser's, 2 ms for the worst."""
_MAX_KNOWN = 10_000
_PARSING_SHARE, _MOST_SAVED_S = 0.1, 0.1
"""The part of its time that a process may spend on new user agents, and what it may save up."""
_BROWSERS = {
    "Chrome Mobile WebView": "Android WebView",
    "Mobile Safari UI/WKWebView": "iOS WebView",
}
_SYSTEMS = {"Mac OS X": "macOS"}
_OF_A_PHONE = re.compile(r"^Mobile | Mobile\b| iOS$")
"""What names a browser on a phone apart from itself: that is said by the device."""
_DEVICES = (
    (
        "tv",
        r"smart-?tv|apple ?tv|google ?tv|hbbtv|netcast|web0s|bravia|roku|crkey|viera|\baft[a-z]",
    ),
    ("console", r"playstation|xbox|nintendo"),
    ("watch", r"apple ?watch|watch ?os\b|wear os"),
    ("tablet", r"ipad|tablet(?! pc)|kindle|playbook|silk/|android(?!.*mobi)"),
    ("mobile", r"mobi|iphone|ipod|android|windows phone|opera mini|blackberry|symbian"),
    ("desktop", r"windows|macintosh|mac os x|x11|linux|\bcros\b"),
)
_DEVICE = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _DEVICES]

_parse = Parser(Resolver(load_lazy_builtins()))
_known: OrderedDict[str, Client] = OrderedDict()


class Client(NamedTuple):
    """What a visitor's browser runs on; "" for what its user agent does not say."""

    browser: str
    system: str
    device: str


class _Allowance:
    """How long this process may go on parsing: who invents user agents slows down no one."""

    def __init__(self) -> None:
        self._left_s, self._at_s = _MOST_SAVED_S, time.monotonic()

    def has_some(self) -> bool:
        now_s = time.monotonic()
        gained_s = (now_s - self._at_s) * _PARSING_SHARE
        self._left_s, self._at_s = min(self._left_s + gained_s, _MOST_SAVED_S), now_s
        return self._left_s > 0

    def spend(self, spent_s: float) -> None:
        self._left_s -= spent_s


_allowance = _Allowance()


def describe_client(user_agent: str) -> Client | None:
    """What a user agent says, from memory where it is known; None while too many new ones come."""
    agent = user_agent[:_MAX_CHARACTERS]
    client = _known.get(agent)
    if client is not None:
        _known.move_to_end(agent)
        return client
    if not _allowance.has_some():
        return None
    began_s = time.thread_time()
    client = _known[agent] = parse_user_agent(agent)
    _allowance.spend(time.thread_time() - began_s)
    if len(_known) > _MAX_KNOWN:
        _known.popitem(last=False)
    return client


def prepare() -> None:
    """Compile what user agents are parsed with, which takes fifty milliseconds once."""
    parse_user_agent("")


def parse_user_agent(user_agent: str) -> Client:
    """Families of browser and system, without versions, and the class of the device."""
    found = _parse(user_agent, Domain.USER_AGENT | Domain.OS)
    browser = found.user_agent.family if found.user_agent else ""
    system = found.os.family if found.os else ""
    return Client(
        _BROWSERS.get(browser) or _OF_A_PHONE.sub("", browser),
        _SYSTEMS.get(system, system),
        next((name for name, pattern in _DEVICE if pattern.search(user_agent)), ""),
    )
