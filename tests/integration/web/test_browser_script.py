"""The browser script as it is served: small, cached, in a form that the client takes."""

from __future__ import annotations

import gzip

import pytest

from tests.helpers.support import ROOT
from tests.helpers.web_server import WebServer

SOURCE = ROOT / "pipeline" / "web" / "collector" / "static" / "analytics.js"
LARGEST_BYTES = 3 * 1024


def test_the_script_takes_less_than_three_kilobytes(web: WebServer) -> None:
    answer = web.send("GET", "/analytics.js", headers={"Accept-Encoding": "br, gzip;q=0.8"})

    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < LARGEST_BYTES
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br, *;q=0"])
def test_who_takes_no_gzip_gets_the_same_script(web: WebServer, accepted: str) -> None:
    packed = web.send("GET", "/analytics.js", headers={"Accept-Encoding": "gzip"})

    plain = web.send("GET", "/analytics.js", headers={"Accept-Encoding": accepted})

    assert "content-encoding" not in plain.headers
    assert plain.body == gzip.decompress(packed.body)
    assert plain.headers["vary"] == "Accept-Encoding"
    assert plain.headers["etag"] != packed.headers["etag"]


def test_a_script_that_the_browser_has_is_not_sent_again(web: WebServer) -> None:
    first = web.send("GET", "/analytics.js")

    again = web.send(
        "GET", "/analytics.js", headers={"If-None-Match": f'"x", {first.headers["etag"]}'}
    )

    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert "max-age=3600" in again.headers["cache-control"]


def test_only_comments_and_indentation_are_left_out(web: WebServer) -> None:
    served = web.send("GET", "/analytics.js").body.decode()

    lines = [line.strip() for line in SOURCE.read_text(encoding="utf-8").splitlines()]
    assert served.splitlines() == [line for line in lines if line and line[:2] != "//"]
    assert "`\n" not in served  # a text over several lines would lose its indentation


def test_pages_of_any_site_may_load_it(web: WebServer) -> None:
    answer = web.send("GET", "/analytics.js", headers={"Origin": "https://shop.example"})

    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
