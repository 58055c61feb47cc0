"""Sends events with a library whose client is Segment's, or made after it, as an application does:
`python like_segment.py MODULE ORIGIN WRITE_KEY NAME NUMBER LONG_AGO`."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from importlib import import_module


def main() -> None:
    """Send so many events, each fifth of them of long ago and each second with an id of its own;
    then one of each other kind."""
    module, origin, write_key, name, number, long_ago = sys.argv[1:]
    began = datetime.fromisoformat(long_ago)
    failed: list[str] = []
    client = import_module(module).Client(
        write_key,
        host=origin,
        upload_size=10,
        upload_interval=0.1,
        on_error=lambda error, _: failed.append(str(error)),
    )
    for n in range(int(number)):
        client.track(
            f"{name}-{n % 10}",
            "order_paid",
            {"library": name, "n": n, "at": time.time(), "city": "Köln ✓", "tags": [0.5, {}]},
            timestamp=began + timedelta(minutes=n) if n % 5 == 0 else None,
            message_id=f"{name}-{n}" if n % 2 == 0 else None,
        )
        time.sleep(0.1)
    client.page(f"{name}-0", name="Pricing", properties={"library": name})
    client.screen(anonymous_id=f"{name}-0", name="Cart", properties={"library": name})
    client.identify(f"{name}-0", {"library": name, "plan": "pro"})
    client.group(f"{name}-0", "g1", {"library": name, "seats": 5})
    client.alias("a1", f"{name}-0")
    client.shutdown()
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
