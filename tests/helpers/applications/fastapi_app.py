"""An application of FastAPI that tracks its requests, in threads and in the event loop."""

from __future__ import annotations

from fastapi import FastAPI

from tests.helpers.applications.tracked import track, track_async

app = FastAPI()


@app.get("/")
def page(user: str) -> str:
    return track(user)


@app.get("/async")
async def page_async(user: str) -> str:
    return await track_async(user)
