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

from collections.abc import Mapping
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
from pipeline.web.collector.visits.user_agents import Client, describe_client

_OF_CLIENT = Client._fields
_NO_PAGE: Mapping[str, Any] = {}
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
    page = context.page if isinstance(context.page, dict) else _NO_PAGE
    found: dict[str, str] = {}
    if "utm" in names:
        found.update(_find_campaign(given, page, context))
    if "referrer_host" in names:
        found["referrer_host"] = _find_referrer_host(given, page, host)
    if user_agent and not names.isdisjoint(_OF_CLIENT):
        client = describe_client(user_agent)
        if client is not None:
            found.update(zip(_OF_CLIENT, client, strict=True))
    return {
        name: value
        for name, value in found.items()
        if value and name not in given and (name in names or name not in _OF_CLIENT)
    }


def find_page_path(given: Mapping[str, Any], context: Context) -> str:
    """The path of an event's page; "" where it says none."""
    path = given.get("path")
    if not isinstance(path, str) or not path:
        page = context.page if isinstance(context.page, dict) else _NO_PAGE
        path = find_path(_find_url(given, page))
    return path[:_LONGEST_PATH]


def _find_url(given: Mapping[str, Any], page: Mapping[str, Any]) -> object:
    return page.get("url") or given.get("url") or given.get("$current_url")


def _find_campaign(
    given: Mapping[str, Any], page: Mapping[str, Any], context: Context
) -> Mapping[str, str]:
    if isinstance(context.campaign, dict):
        # Segment calls the campaign itself its name.
        campaign = {"campaign": context.campaign.get("name"), **context.campaign}
        found = {name: clean(campaign.get(name.removeprefix("utm_"))) for name in CAMPAIGN}
        if any(found.values()):
            return found
    query = page.get("search") or given.get("search")
    return find_campaign(_find_url(given, page)) or find_campaign(query)


def _find_referrer_host(given: Mapping[str, Any], page: Mapping[str, Any], host: str) -> str:
    own = find_host(_find_url(given, page)) or host
    referrer = page.get("referrer") or given.get("referrer") or given.get("$referrer")
    found = find_host(referrer)
    if not found and "." in str(given.get("$referring_domain", "")):
        found = check_host(given["$referring_domain"])
    return "" if found == own else found
