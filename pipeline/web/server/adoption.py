"""The application for a server that this package does not start: `uvicorn --factory`.

The limits on slow clients lie below the application, and so do the access log, which would hold
keys and addresses, and the belief in X-Forwarded-For. So the application takes over the server that
starts it, and refuses to run in one where it cannot.
"""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web.errors import Unavailable
from pipeline.web.responses import error_response

_REFUSED = (
    "pipeline.web.main:app runs under uvicorn alone, with its lifespan and without trace logs: "
    "elsewhere nothing would bound slow clients, and keys could reach an access log. "
    "Run `analytics web` instead"
)


class AdoptingApplication:
    """Makes the uvicorn that starts it serve `config` instead: its application and protocol."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            # A server that has been taken over never comes here.
            await error_response(Unavailable(_REFUSED))(scope, receive, send)
            return
        running = getattr(getattr(receive, "__self__", None), "config", None)
        if not isinstance(running, uvicorn.Config):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": _REFUSED})
            return
        application = self._adopt(running)
        await application(scope, receive, send)

    def _adopt(self, running: uvicorn.Config) -> ASGIApp:
        """Connections are made after this, from what `running` then holds."""
        ours = self._config
        ours.load()
        running.loaded_app, running.interface = ours.loaded_app, ours.interface
        running.http_protocol_class = ours.http_protocol_class
        running.ws_protocol_class = ours.ws_protocol_class
        application: ASGIApp = ours.loaded_app
        return application
