"""Which format a file has."""

from __future__ import annotations

import json

import pytest

from pipeline.cli.files.formats.detection import FORMATS, detect_format
from pipeline.cli.files.line_source import Line
from tests.unit.cli.files.formats import test_cloud, test_combined, test_json_lines

FILES = {
    "combined": ["", test_combined.LINE],
    "ndjson": ['{"event_type": "sale"}'],
    "caddy": [json.dumps(test_json_lines.CADDY)],
    "traefik": [json.dumps(test_json_lines.TRAEFIK)],
    "nginx-json": [json.dumps(test_json_lines.NGINX)],
    "alb": [test_cloud.ALB],
    "cloudfront": ["#Version: 1.0", test_cloud.CLOUDFRONT_FIELDS, test_cloud.CLOUDFRONT],
    "w3c": ["#Software: Microsoft", test_cloud.IIS_FIELDS, test_cloud.IIS],
}


def number_lines(texts: list[str]) -> list[Line]:
    """The lines of a file."""
    return [Line(number, text.encode()) for number, text in enumerate(texts, start=1)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_known_by_its_first_good_line_and_keeps_all_of_its_lines(name: str) -> None:
    lines = number_lines(["broken", *FILES[name], "broken too"])

    found, rest = detect_format(lines)

    assert found == name
    assert list(rest) == lines


def test_a_file_with_a_byte_order_mark_is_known_too() -> None:
    assert detect_format([Line(1, b"\xef\xbb\xbf" + b'{"event_type": "a"}')])[0] == "ndjson"


def test_a_file_that_no_format_can_read_is_taken_for_a_combined_log() -> None:
    lines = number_lines(["broken"] * 300)

    found, rest = detect_format(lines)

    assert (found, list(rest)) == ("combined", lines)
