"""Send a week of made-up events of a shop, the last seven days (UTC), for plot_week.py."""

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from pipeline import Tracker

PRODUCTS = {"mug": "12.50", "poster": "9.00", "lamp": "49.00"}


def make_events(day: date) -> Iterator[dict[str, Any]]:
    """Make the events of a day, always the same ones: about 150 visits, most in the evening."""
    chance = random.Random(day.toordinal())
    for visit in range(chance.randint(120, 180)):
        midnight = datetime.combine(day, time(), timezone.utc)
        second = int(chance.triangular(0, 24 * 3600 - 1, 19 * 3600))
        shared = {
            "user_id": f"visitor-{chance.randint(1, 400)}",
            "timestamp": midnight + timedelta(seconds=second),
        }
        event_id = f"week-{day}-{visit}"
        product = chance.choice(list(PRODUCTS))
        for number, path in enumerate(("/", f"/products/{product}")):
            page = {"event_type": "page_view", "properties": {"path": path}}
            yield shared | page | {"event_id": f"{event_id}-{number}"}
        if chance.random() < 0.3:
            added = {"event_type": "add_to_cart", "properties": {"product": product}}
            yield shared | added | {"event_id": event_id}
            if chance.random() < 0.5:
                sale = {"event_type": "sale", "properties": {"total": PRODUCTS[product]}}
                yield shared | sale | {"event_id": event_id}


def main() -> None:
    """Send the week. A repeat within the deduplication window counts nothing twice."""
    now = datetime.now(timezone.utc)
    days = [now.date() - timedelta(days=n) for n in range(7)]
    events = [one for day in days for one in make_events(day) if one["timestamp"] <= now]
    with Tracker() as tracker:
        tracker.track_many(events)
    print(f"Sent {len(events)} events.")


if __name__ == "__main__":
    main()
