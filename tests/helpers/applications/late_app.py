"""An application of FastAPI that imports its tracker with the first request, in a thread."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def page(user: str) -> str:
    from tests.helpers.applications.tracked import track

    return track(user)
