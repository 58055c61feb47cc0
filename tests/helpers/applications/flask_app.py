"""An application of Flask that tracks its requests."""

from __future__ import annotations

from flask import Flask, request

from tests.helpers.applications.tracked import track

app = Flask(__name__)


@app.get("/")
def page() -> str:
    return track(request.args["user"])
