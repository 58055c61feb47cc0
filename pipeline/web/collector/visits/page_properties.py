"""The properties that a page view is given. Pure, but for what is remembered of user agents.

| name            | from                                                           |
| --------------- | -------------------------------------------------------------- |
| `referrer_host` | the referrer, unless it is of the page's own host              |
| `utm`           | the campaign that the event names, else the query of its page  |
| `device`        | the visitor's user agent                                       |
| `browser`       | the same                                                       |
| `system`        | the same                                                       |
| `entry_page`    | the session: `request_visits` adds it                          |

`utm` stands for the five of `page_urls.CAMPAIGN`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.web.collector.visits.context import Context
from pipeline.web.collector.visits.page_urls import (
    CAMPAIGN,
    check_host,
    clean,
    find_campaign,
    find_host,
    find_path,
)
from pipeline.web.collector.visits.user_agents import describe_client

_URLS = ("url", "$current_url")
_REFERRERS = ("referrer", "$referrer")
_OF_CLIENT = ("device", "browser", "system")
_LONGEST_PATH = 1_000


def find_page_properties(
    names: frozenset[str],
    given: Mapping[str, Any],
    context: Context,
    user_agent: str,
    host: str,
) -> dict[str, str]:
    """Those of the properties in the setting that the sender has not given itself.

    `given` are the event's own, `user_agent` is the visitor's, `host` that of the page where the
    event does not say it.
    """
    page = context.page if isinstance(context.page, dict) else {}
    found: dict[str, str] = {}
    if "utm" in names:
        found |= _find_campaign(given, page, context)
    if "referrer_host" in names and "referrer_host" not in given:
        found["referrer_host"] = _find_referrer_host(given, page, host)
    if user_agent and not names.isdisjoint(_OF_CLIENT):
        client = describe_client(user_agent)
        if client is not None:
            found |= {name: getattr(client, name) for name in _OF_CLIENT if name in names}
    return {name: value for name, value in found.items() if value and name not in given}


def find_page_path(given: Mapping[str, Any], context: Context) -> str:
    """The path of an event's page; "" where it says none."""
    path = given.get("path")
    if not isinstance(path, str) or not path:
        page = context.page if isinstance(context.page, dict) else {}
        path = next(filter(None, map(find_path, _find_urls(given, page))), "")
    return path[:_LONGEST_PATH]


def _find_urls(given: Mapping[str, Any], page: Mapping[str, Any]) -> Iterator[object]:
    yield page.get("url")
    for name in _URLS:
        yield given.get(name)


def _find_campaign(
    given: Mapping[str, Any], page: Mapping[str, Any], context: Context
) -> dict[str, str]:
    campaign = context.campaign if isinstance(context.campaign, dict) else {}
    # Segment calls the campaign itself its name.
    campaign = {"campaign": campaign.get("name"), **campaign}
    found = {name: clean(campaign.get(name.removeprefix("utm_"))) for name in CAMPAIGN}
    if any(found.values()):
        return found
    queries = (*_find_urls(given, page), page.get("search"), given.get("search"))
    return next(filter(None, map(find_campaign, queries)), {})


def _find_referrer_host(given: Mapping[str, Any], page: Mapping[str, Any], host: str) -> str:
    own = next(filter(None, map(find_host, _find_urls(given, page))), host)
    referrers = (page.get("referrer"), *(given.get(name) for name in _REFERRERS))
    found = next(filter(None, map(find_host, referrers)), "")
    if not found and "." in str(given.get("$referring_domain", "")):
        found = check_host(given["$referring_domain"])
    return "" if found == own else found
