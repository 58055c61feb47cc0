"""From which pages and how much one access key may send. What else it may send is checked event by
event: `formats/event_scope.py`."""

from __future__ import annotations

import logging
import math
import re
import time

import redis

from pipeline.access.access_key import AccessKey
from pipeline.redis.keys import Keys
from pipeline.web.collector.light_senders import LightSenders
from pipeline.web.collector.rate_limits import RateLimit
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.errors import OriginNotAllowed, TooManyRequests

_MOST_SHOWN = 200
_LOGGED_EVERY_S = 60.0
_END_OF_HOST = re.compile(r"[/\\?#]")
_USUAL_PORTS = {"http": ":80", "https": ":443"}

logger = logging.getLogger(__name__)


def check_origin(key: AccessKey, head: RequestHead) -> None:
    """Raise `OriginNotAllowed` for a page that may not use the key.

    A browser names the page's origin with every POST and, unless the page forbids it, the page
    itself with an image: then the Referer decides. A request with neither comes from a program,
    which could claim any origin, or from a page with `Referrer-Policy: no-referrer`: it is let
    through, and the other limits of the key hold for it.
    """
    origin = head.origin
    if not origin and key.origins:
        origin = _find_page(head.headers.get(b"referer", b"").decode("latin-1").strip())
    if origin and not key.allows(origin):
        raise OriginNotAllowed(
            f"pages of {origin[:_MOST_SHOWN]} may not use this key; "
            "make one with --origin, or add it by `analytics keys change`"
        )


def _find_page(referer: str) -> str:
    """The origin of the page that a Referer names; "" where there is none."""
    scheme, _, rest = referer.lower().partition("://")
    host = _END_OF_HOST.split(rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host.removesuffix(_USUAL_PORTS.get(scheme, ' '))}" if referer else ""


class KeyRates:
    """The rate limit of every write key: its own, else that of the settings for such a key."""

    def __init__(
        self, client: redis.Redis, keys: Keys, key_events_per_s: int, page_key_events_per_s: int
    ) -> None:
        """`key_events_per_s` is for all keys, the other for those with origins; 0: no limit."""
        self._client, self._keys = client, keys
        self._of_servers = key_events_per_s
        limits = [one for one in (key_events_per_s, page_key_events_per_s) if one]
        self._of_pages = min(limits, default=0)
        self._page_setting = (
            "ANALYTICS_PAGE_KEY_EVENTS_PER_S"
            if self._of_pages == page_key_events_per_s
            else "ANALYTICS_KEY_EVENTS_PER_S"
        )
        # A limit for each distinct rate: as many as the owner has given to keys.
        self._limits: dict[int, RateLimit] = {}
        self._refusing_until_s = -math.inf
        """No key is refused from then on, as far as is known."""
        self._log_again_at_s: dict[str, float] = {}
        self._senders = LightSenders()

    def check(self, key: AccessKey, address: str, declared_bytes: int) -> None:
        """Raise `TooManyRequests` while the key is known to have sent too much: before anything is
        read with it, and at no cost. Addresses that send little with a page's key go on."""
        if key.origins:
            self._senders.note_request(key.id, address, declared_bytes)
        if time.monotonic() >= self._refusing_until_s:
            return
        rate, limit = self._find_limit(key)
        wait_s = limit.find_wait_s(key.id)
        if wait_s > 0 and not (key.origins and self._senders.is_light(key.id, address)):
            raise self._refuse(key, rate, wait_s)

    async def take(self, key: AccessKey, address: str, events: int) -> None:
        """Take so many events of the key's rate. Raises `TooManyRequests` with nothing taken, and
        `ServerUnavailable`."""
        rate, limit = self._find_limit(key)
        if key.origins:
            self._senders.note_cost(key.id, address, events)
        if limit.spend(key.id, events):
            return
        wait_s = await limit.take(key.id, events)
        if wait_s > 0:
            if key.origins and self._senders.spend_reserve(key.id, address, events, rate):
                return
            raise self._refuse(key, rate, wait_s)

    def close(self) -> None:
        """End the threads."""
        for limit in self._limits.values():
            limit.close()

    def _find_limit(self, key: AccessKey) -> tuple[int, RateLimit]:
        rate = key.events_per_s
        if rate is None:
            rate = self._of_pages if key.origins else self._of_servers
        limit = self._limits.get(rate)
        if limit is None:
            limit = self._limits[rate] = RateLimit(self._client, self._keys, "key", rate)
        return rate, limit

    def _refuse(self, key: AccessKey, rate: int, wait_s: float) -> TooManyRequests:
        if key.events_per_s is not None:
            remedy = "--events-per-s of `analytics keys change` sets it"
        else:
            setting = self._page_setting if key.origins else "ANALYTICS_KEY_EVENTS_PER_S"
            remedy = f"{setting} sets it, or --events-per-s of `analytics keys change`"
        self._refusing_until_s = max(self._refusing_until_s, time.monotonic() + wait_s)
        self._log(key, rate, remedy)
        return TooManyRequests(f"events with this key, at most {rate} a second ({remedy})", wait_s)

    def _log(self, key: AccessKey, rate: int, remedy: str) -> None:
        now_s = time.monotonic()
        if now_s < self._log_again_at_s.get(key.id, 0):
            return
        self._log_again_at_s[key.id] = now_s + _LOGGED_EVERY_S
        logger.warning(
            "write key %s sends more than its %d events a second: some are refused (%s)",
            key.id,
            rate,
            remedy,
        )
