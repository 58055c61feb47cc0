"""What holds for whatever text or bytes a parser is given, without a server: tried by Hypothesis in
the test suite, and by a coverage-guided engine in `make fuzz` (`guided`)."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from config import description, settings
from config.options import pipeline_options
from pipeline.access.access_key import PresentedKey, create_key
from pipeline.cli.errors import explain
from pipeline.cli.files.formats.detection import FORMATS as FILE_FORMATS
from pipeline.cli.files.formats.detection import detect_format
from pipeline.cli.files.importing import Importer, LineIds, Report
from pipeline.cli.files.line_source import Line, LineSource
from pipeline.errors import InvalidConfiguration, UnreadableFile
from pipeline.event.model import Event
from pipeline.redis.keys import Keys
from pipeline.services import connect
from pipeline.web.collector.formats import plausible, posthog, segment, single_events
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents, ParsingSteps
from pipeline.web.collector.request_head import RequestHead, mask_address
from pipeline.web.errors import RequestRefused
from tasks.consumer.messages import read_message
from tests.fuzz.additions import check_additions
from tests.fuzz.strategies.files import files, format_names
from tests.fuzz.strategies.messages import event_messages
from tests.fuzz.strategies.requests import bodies, text, values

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _check_said(said: bool, error: Exception) -> None:
    """An error that is ours, with a remedy."""
    assert said, repr(error)


# -- files --


@given(content=files, packed=st.booleans(), cut=st.integers(0, 40), name=format_names)
def check_file(content: bytes, packed: bool, cut: int, name: str) -> None:
    """Every line is sent as a valid event, rejected with a reason, or holds none."""
    stored = gzip.compress(content) if packed else content
    if packed and cut < len(stored):
        stored = stored[: len(stored) - cut]
    sent: list[dict[str, Any]] = []
    with closing(Report()) as report:
        try:
            found: Iterable[Line] = open_stored(stored)
            if name == "auto":
                name, found = detect_format(found)
            parse = FILE_FORMATS[name]("page_view")
            Importer(parse, sent.extend, report, LineIds("x")).run(found)
        except UnreadableFile as error:
            _check_said(packed and "get the whole file again" in str(error), error)
        rejected = list(report.read_rejected())
        assert report.sent == len(sent)
        assert report.sent + len(rejected) <= report.lines
        assert all(f"{one['reason']}".isprintable() for one in rejected)
    for event in sent:
        Event.from_dict(event, now=datetime.now(UTC))


def open_stored(stored: bytes) -> LineSource:
    """The lines of a file that is stored like this."""
    return LineSource("a file", io.BufferedReader(io.BytesIO(stored)), len(stored))


# -- messages and bodies --


@given(raw=event_messages)
def check_message(raw: bytes) -> None:
    """A message is events, dead letters with a reason, or for Celery."""
    read = read_message("tag", raw, NOW)
    if read is not None:
        assert read.delivery.events or read.delivery.bad or read.delivery.raw
        assert all(bad.reason for bad in read.delivery.bad)


def _finish(parsed: ParsedEvents | ParsingSteps) -> ParsedEvents:
    if isinstance(parsed, ParsedEvents):
        return parsed
    return next(found for found in parsed if found is not None)


FORMATS: dict[str, Callable[[bytes, EventEncoder], Any]] = {
    "batch": segment.parse_batch,
    "track": lambda body, encoder: segment.parse_call("track", body, encoder),
    "page": lambda body, encoder: segment.parse_call("page", body, encoder),
    "alias": lambda body, encoder: segment.parse_call("alias", body, encoder),
    "plain": single_events.parse_plain,
    "plausible": plausible.parse_event,
    "pixel": single_events.parse_pixel,
    "posthog": lambda body, encoder: _finish(posthog.parse_events(body, encoder)),
}


@given(
    body=bodies() | st.binary(max_size=60),
    name=st.sampled_from(list(FORMATS)),
    agent=text,
    secret=st.sampled_from(["", "sixteen characters"]),
)
def check_body(body: bytes, name: str, agent: str, secret: str) -> None:
    """A body is events that a worker takes, or is refused with its field and a remedy."""
    encoder = EventEncoder(secret, agent, is_browser=True, referrer=agent, received_at=NOW)
    segment.find_write_key(body)
    posthog.find_api_key(body)
    try:
        parsed = FORMATS[name](body, encoder)
    except RequestRefused as refused:
        _check_said(refused.status in {400, 413} and bool(refused.message), refused)
        return
    assert all(rejected.reason for rejected in parsed.rejected)
    for event in parsed.events:
        Event.from_dict(msgspec.json.decode(event), now=datetime.now(UTC))
    check_additions(parsed.events, encoder, lambda other: FORMATS[name](body, other))


@given(
    authorization=st.binary(max_size=60)
    | text.map(lambda key: f"Bearer {key}".encode("utf-8", "replace")),
    query=st.binary(max_size=60) | st.just(b"key=%ff&key=a"),
    address=text | st.sampled_from(["::ffff:1.2.3.4", "fe80::1%eth0", "64:ff9b::1.2.3.4"]),
)
def check_head(authorization: bytes, query: bytes, address: str) -> None:
    """Any head has a key, which may be empty, and an address to be counted under."""
    headers = [(b"authorization", authorization), (b"content-length", query)]
    scope = {"method": "POST", "query_string": query, "headers": headers, "client": (address, 1)}
    head = RequestHead.parse(scope)
    PresentedKey.parse(head.find_key())
    assert mask_address(head.address) == head.address or ":" in address


_KEY, _SHOWN = create_key("write", "a", [], may_forget=False)


@given(
    presented=text
    | st.text(st.sampled_from("wrtk_" + _SHOWN), max_size=80)
    | st.builds("wk_{}_{}".format, st.just(_KEY.id) | text, text)
)
def check_access_key(presented: str) -> None:
    """No text but its own opens a key."""
    assert _KEY.is_valid_for("write", PresentedKey.parse(_SHOWN))
    assert presented == _SHOWN or not _KEY.is_valid_for("write", PresentedKey.parse(presented))


# -- Redis keys --

segments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@given(event_type=segments, user=segments, value=segments, day=st.dates(), name=text)
def check_redis_key(event_type: str, user: str, value: str, day: Any, name: str) -> None:
    """A counter's name leads back to it; any other name is refused in one way."""
    keys = Keys()
    for made in (
        keys.daily(event_type, f"{day}"),
        keys.user(user, event_type, f"{day}"),
        keys.value(event_type, user, value, f"{day}"),
    ):
        counter = keys.parse(made)
        assert {event_type, user, value} & set(map(str, astuple(counter)))
        assert keys.is_counter(made)
    if not keys.is_counter(name):
        with suppress(ValueError):
            keys.parse(name)


# -- settings --

NAMES = [f"ANALYTICS_{name.upper()}" for name in settings.Settings.model_fields]
_for_the_environment = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_urls = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(
        ["redis", "rediss", "sentinel", "postgresql", "postgres", "amqp", "amqps", "http"]
    ),
    st.sampled_from(["", "u:p@", ":p@", "u:%ff@", "@", "a@b@"]),
    st.sampled_from(["localhost", "[::1]", "[", "h:1", "h:99999", "h:x", "h1,h2", ""])
    | st.text(_for_the_environment, max_size=8),
    st.sampled_from(
        ["", "0", "x", "0?a=b", "?db=x", "db?host=/tmp", "0?socket_timeout=x", "16?master_name=m"]
    ),
)
setting_texts = (
    st.text(_for_the_environment, max_size=30)
    | _urls
    | st.sampled_from(
        ["0", "-1", "1e999", "NaN", "inf", "true", "9" * 400, "1_000", " 5 ", "٣", "all"]
    )
    | values.map(json.dumps)
)


@given(
    variables=st.dictionaries(
        st.sampled_from(NAMES)
        | st.text(st.sampled_from("ABYZ_09"), min_size=1, max_size=8).map("ANALYTICS_{}".format),
        setting_texts,
        min_size=1,
        max_size=4,
    )
)
def check_settings(variables: dict[str, str]) -> None:
    """Any variables are settings to start with, or a line for each that is wrong."""
    others = {
        name: given for name, given in os.environ.items() if not name.startswith("ANALYTICS_")
    }
    with patch.dict(os.environ, others | variables, clear=True):
        try:
            loaded = settings.load()
        except InvalidConfiguration as error:
            _check_lines(str(error), variables)
            return
        for row in description.describe(loaded):
            assert row.value.isprintable(), row
    try:
        urls = [url and url.get_secret_value() for url in (loaded.redis_url, loaded.postgres_url)]
        broker = loaded.broker_url and loaded.broker_url.get_secret_value()
        connect(
            pipeline_options(loaded),
            urls[0] or "redis://127.0.0.1:1/0",
            urls[1] or "postgresql://127.0.0.1:1/x",
            broker,
        ).close()
    except Exception as error:
        _check_said(bool(explain(error)), error)


def _check_lines(message: str, variables: dict[str, str]) -> None:
    lines = message.split("\n")
    assert len(lines) <= len(variables) + 1
    for line in lines:
        assert line.isprintable(), line
        assert "ANALYTICS_" in line
        assert len(line) < 1_000


PROPERTIES: dict[str, Callable[[], None]] = {
    "files": check_file,
    "messages": check_message,
    "bodies": check_body,
    "heads": check_head,
    "access-keys": check_access_key,
    "redis-keys": check_redis_key,
    "settings": check_settings,
}
