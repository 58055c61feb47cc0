"""What client libraries ask for besides sending events: their settings, and feature flags.

Some send nothing before they have their settings. There is little to set here, and there are no
flags, so the answers are the same for all, apart from the key and the host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from pipeline.web.collector.collector import JSON, Collector
from pipeline.web.collector.cross_origin import CrossOriginAnswers, describe_body
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.errors import InternalFault, MethodNotAllowed, RequestRefused
from pipeline.web.headers import NO_STORE, encode_headers
from pipeline.web.responses import encode_json, error_content

SEGMENT_SETTINGS = "/v1/projects/settings"
"""Without the key, which the path of the library has between the two last names."""
_NO_STORE = encode_headers(NO_STORE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LibrarySettings:
    """How one route answers: `describe` gets the head, and for what needs one its valid key."""

    describe: Callable[[RequestHead], object]
    methods: tuple[str, ...] = ("GET", "HEAD")
    needs_key: bool = False


class SettingsEndpoint:
    """One route: answers without reading a body, and publishes nothing."""

    def __init__(self, collector: Collector, settings: LibrarySettings) -> None:
        self._collector, self._settings = collector, settings
        self._answers = CrossOriginAnswers(collector, ", ".join(settings.methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, settings = RequestHead.parse(scope), self._settings
        try:
            if head.method == "OPTIONS":
                await self._answers.send_preflight(head, send)
                return
            if head.method not in settings.methods:
                raise MethodNotAllowed(", ".join(settings.methods))
            if settings.needs_key:
                await self._collector.check(head)
            body = encode_json(settings.describe(head))
        except RequestRefused as refused:
            await self._answers.send_error(head, send, refused, error_content(refused))
        except Exception:
            logger.exception("a request ended in a fault")
            fault = InternalFault()
            await self._answers.send_error(head, send, fault, error_content(fault))
        else:
            headers = [*describe_body(JSON, body), *_NO_STORE]
            await self._answers.send(
                head, send, 200, headers, b"" if head.method == "HEAD" else body
            )


def create_settings() -> dict[str, LibrarySettings]:
    """The routes of what libraries ask for, by path."""
    flags = LibrarySettings(lambda _: _NO_FLAGS, ("POST", "GET"))
    definitions = LibrarySettings(lambda _: _NO_DEFINITIONS)
    return {
        "/sourceConfig": LibrarySettings(_describe_rudderstack, needs_key=True),
        SEGMENT_SETTINGS: LibrarySettings(_describe_segment, needs_key=True),
        "/v1/m": LibrarySettings(lambda _: {"success": True}, ("POST",)),
        "/flags": flags,
        "/decide": flags,
        "/flags/definitions": definitions,
        "/api/feature_flag/local_evaluation": definitions,
    }


_NO_FLAGS: dict[str, object] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
}
"""For each version of PostHog's request."""
_NO_DEFINITIONS: dict[str, object] = {"flags": [], "group_type_mapping": {}, "cohorts": {}}


def _describe_rudderstack(head: RequestHead) -> object:
    """The source of RudderStack's libraries for browsers and apps: enabled, without destinations,
    and with nothing to be reported about the library itself."""
    off = {"enabled": False}
    return {
        "source": {
            "id": "analytics",
            "name": "analytics",
            "workspaceId": "analytics",
            "writeKey": head.find_key(),
            "enabled": True,
            "config": {"statsCollection": {"errors": off, "metrics": off}},
            "destinations": [],
            "connections": [],
        },
        "isHosted": True,
    }


def _describe_segment(head: RequestHead) -> object:
    """The source of Segment's libraries for browsers and apps: its events come here."""
    host = head.headers.get(b"host", b"").decode("latin-1")
    destination: dict[str, object] = {"apiKey": head.find_key(), "unbundledIntegrations": []}
    if host:
        destination |= {"apiHost": f"{host}/v1", "protocol": _find_protocol(head, host)}
    every = {"__default": {"enabled": True, "integrations": {}}}
    return {
        "integrations": {"Segment.io": destination},
        "plan": {"track": every, "identify": every, "group": every},
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "edgeFunction": {},
        "metrics": {"sampleRate": 0},
        "remotePlugins": [],
        "analyticsNextEnabled": True,
        "legacyVideoPluginsEnabled": False,
    }


def _find_protocol(head: RequestHead, host: str) -> str:
    """How the library is to come here. A proxy in front may speak TLS, and a page by TLS can send
    by nothing else: plain HTTP is it only where a port is named, and the page has no TLS."""
    has_port = host.rpartition("]")[2].rpartition(":")[2].isdigit() and not host.endswith(":443")
    return "http" if has_port and head.origin.startswith("http:") else "https"
