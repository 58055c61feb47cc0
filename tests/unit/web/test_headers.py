"""Headers that several routes read: ETags, and the weights of what a client accepts."""

from __future__ import annotations

import pytest

from pipeline.web.headers import encode_headers, make_etag, matches_etag, parse_weights


def test_bodies_that_differ_have_different_etags() -> None:
    assert make_etag(b"a") == make_etag(b"a")
    assert make_etag(b"a") != make_etag(b"b")
    assert make_etag(b"a")[0] == make_etag(b"a")[-1] == '"'


@pytest.mark.parametrize("header", ['"a"', 'W/"a"', '"b", "a"', '"b",W/"a" ', "*"])
def test_a_client_has_what_its_if_none_match_names(header: str) -> None:
    assert matches_etag('"a"', header)


@pytest.mark.parametrize("header", ["", '"b"', "a", '"A"', '"a'])
def test_a_client_does_not_have_what_its_if_none_match_does_not_name(header: str) -> None:
    assert not matches_etag('"a"', header)


@pytest.mark.parametrize(
    ("header", "weights"),
    [
        ("", {}),
        ("gzip", {"gzip": 1.0}),
        ("GZip ; Q=0.5, br;q=1.0", {"gzip": 0.5, "br": 1.0}),
        ("gzip; q=0", {"gzip": 0.0}),
        ("gzip;q=much", {"gzip": 0.0}),
        ("text/csv; header=present; q=0.3, */*", {"text/csv": 0.3, "*/*": 1.0}),
        ("text/csvx", {"text/csvx": 1.0}),
    ],
)
def test_what_is_accepted_has_a_weight(header: str, weights: dict[str, float]) -> None:
    assert parse_weights(header) == weights


def test_headers_are_sent_in_lower_case() -> None:
    assert encode_headers({"Retry-After": "2"}) == [(b"retry-after", b"2")]
