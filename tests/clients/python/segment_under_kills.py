"""Sends events with Segment's client for Python, as an application does:
`python segment_under_kills.py HOST WRITE_KEY NUMBER [gzip]`."""

from __future__ import annotations

import sys
import time

from segment.analytics import Client


def main() -> None:
    """Send so many events of each of ten users, and one of each other kind."""
    host, write_key, number, *options = sys.argv[1:]
    failed: list[str] = []
    client = Client(
        write_key,
        host=host,
        gzip="gzip" in options,
        upload_size=20,
        upload_interval=0.1,
        on_error=lambda error, _: failed.append(str(error)),
    )
    for n in range(int(number)):
        client.track(f"u{n % 10}", "order_paid", {"n": n, "plan": "pro"})
        if n % 10 == 0:
            time.sleep(0.01)
    client.page("u1", name="Pricing", properties={"path": "/pricing"})
    client.screen(anonymous_id="a1", name="Cart")
    client.identify("u1", {"plan": "pro"})
    client.group("u1", "g1", {"seats": 5})
    client.alias("a1", "u1")
    client.shutdown()
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
