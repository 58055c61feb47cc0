"""Who hears of alarms: a receiver of `analytics watch`, and a Prometheus."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from pipeline.upkeep.condition.alarms import ALARMS, METRICS_SILENT
from pipeline.watch.rules import name_alert

_ALERTS = {name_alert(alarm): alarm.name for alarm in (*ALARMS, METRICS_SILENT)}


class Receiver:
    """Takes what is posted to `url`, after it has refused the first `refusals`."""

    def __init__(self, refusals: int = 0) -> None:
        self.notices: list[dict[str, Any]] = []
        notices, refused = self.notices, list[bytes]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(refused) < refusals:
                    refused.append(body)
                    self.send_error(503)
                    return
                notices.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def raised(self) -> set[str]:
        """The alarms of which it knows that they are raised."""
        found: set[str] = set()
        for one in list(self.notices):
            (found.add if one["status"] == "raised" else found.discard)(one["alarm"])
        return found

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()


def find_prometheus() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("prometheus")


def prometheus_command(program: str, directory: Path, port: int) -> list[str]:
    """The command that starts it on loopback, with `prometheus.yml` of a directory."""
    return [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def list_firing(port: int) -> set[str]:
    """The alarms that fire in the Prometheus of this port, by our names. Raises OSError."""
    url = f"http://127.0.0.1:{port}/api/v1/alerts"
    with urllib.request.urlopen(url, timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    firing = [one["labels"]["alertname"] for one in alerts if one["state"] == "firing"]
    return {_ALERTS.get(name, name) for name in firing}
