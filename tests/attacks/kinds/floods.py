"""Attacks by number: of keys, user agents, event types, days, event ids."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from tests.attacks.attacker import Target, addresses
from tests.attacks.wire import BROWSER, basic, encode, request

_MOST_CALLS = 1_000


def page_batch(target: Target, calls: list[dict[str, object]]) -> bytes:
    """A batch by the key that stands in a public page, sent as that page would."""
    body = encode({"batch": calls})
    headers = {"Origin": target.page_origin}
    return request("POST", f"/v1/batch?key={target.page_key}", body, headers)


async def user_agents(target: Target, per_s: float) -> None:
    """Send single events, each as another browser."""

    def compose(number: int) -> bytes:
        headers = {"User-Agent": f"{BROWSER} Edition/{number} " + "x" * 400}
        headers["Origin"] = target.page_origin
        body = encode({"event_type": "page_view", "user_id": "attacker"})
        return request("POST", f"/track?key={target.page_key}", body, headers)

    await target.flood(compose, per_s, addresses(4))


async def event_types(target: Target, count: int) -> None:
    """Send events of so many types, which sort before all others, in batches."""
    for first in range(0, count, 500):
        calls = [
            {"type": "track", "event": f"!{n}", "userId": "attacker"}
            for n in range(first, first + 500)
        ]
        await target.ask(page_batch(target, calls), addresses(1)[0], None)


async def old_days(target: Target, count: int) -> None:
    """Send an event of each of so many days long past, in batches."""
    newest = datetime.now(UTC).date() - timedelta(days=400)
    days: list[date] = [newest - timedelta(days=n) for n in range(count)]
    for first in range(0, count, _MOST_CALLS):
        calls = [
            {"type": "track", "event": "old", "userId": "attacker", "timestamp": f"{day}T12:00:00Z"}
            for day in days[first : first + _MOST_CALLS]
        ]
        await target.ask(page_batch(target, calls), addresses(1)[0], None)


async def unknown_keys(target: Target, per_s: float) -> None:
    """Send single events, each with another key that does not exist."""
    body = encode({"event": "x"})

    def compose(number: int) -> bytes:
        return request("POST", "/v1/track", body, basic(f"wk_{number:012x}_unknown"))

    await target.flood(compose, per_s, addresses(4))


async def wrong_key(target: Target, per_s: float) -> None:
    """Send bodies of 500 KB with a key whose secret is wrong."""
    key_id = target.page_key.split("_")[1]
    sent = request("POST", "/v1/batch", b"x" * 500_000, basic(f"wk_{key_id}_wrong"))
    await target.flood(lambda _: sent, per_s, addresses(4))


async def page_key(target: Target, per_s: float) -> None:
    """Send as many events as will go by a page's key, from many addresses."""
    call: dict[str, object] = {"type": "track", "event": "junk", "userId": "attacker"}
    sent = page_batch(target, [call] * 200)
    await target.flood(lambda _: sent, per_s, addresses(100))


async def event_ids(target: Target, per_s: float) -> None:
    """Send junk under the ids that the shop's server gives its next orders and the pages theirs."""

    def compose(number: int) -> bytes:
        numbers = range(50 * number, 50 * number + 50)
        calls: list[dict[str, object]] = [
            {"type": "track", "event": event_type, "userId": "attacker", "messageId": event_id}
            for n in numbers
            for event_type, event_id in (
                ("order_created", f"order-{n}"),
                *(("order_created", f"order-{n}-{item}") for item in range(5)),
            )
        ]
        return page_batch(target, calls)

    await target.flood(compose, per_s, addresses(1), at_once=1)
