"""Sends events with PostHog's library for Python, as an application does:
`python posthog_client.py CAPTURE_MODE ORIGIN WRITE_KEY NAME NUMBER LONG_AGO`."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from uuid import uuid4

from posthog import Posthog


def main() -> None:
    """Send so many events, each fifth of them of long ago and each second with an id of its own;
    then one of each other kind."""
    capture_mode, origin, write_key, name, number, long_ago = sys.argv[1:]
    began = datetime.fromisoformat(long_ago)
    failed: list[str] = []
    client = Posthog(
        write_key,
        host=origin,
        capture_mode=capture_mode,
        gzip=True,
        flush_at=10,
        flush_interval=0.1,
        max_retries=10,
        on_error=lambda error, _: failed.append(str(error)),
    )
    for n in range(int(number)):
        client.capture(
            "order_paid",
            distinct_id=f"{name}-{n % 10}",
            properties={
                "library": name,
                "n": n,
                "at": time.time(),
                "city": "Köln ✓",
                "tags": [0.5, {}],
            },
            timestamp=began + timedelta(minutes=n) if n % 5 == 0 else None,
            uuid=uuid4() if n % 2 == 0 else None,
        )
        time.sleep(0.1)
    client.capture("$pageview", distinct_id=f"{name}-0", properties={"library": name})
    client.set(distinct_id=f"{name}-0", properties={"library": name, "plan": "pro"})
    client.group_identify("company", "g1", {"library": name, "seats": 5}, distinct_id=f"{name}-0")
    client.alias(previous_id=f"{name}-0", distinct_id="a1")
    client.flush(timeout_seconds=90)
    client.shutdown()
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
