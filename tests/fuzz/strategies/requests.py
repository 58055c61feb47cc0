"""What anybody may send to the collector: sensible events, nonsense, and all between."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import strategies as st

PATHS = (
    *(f"/v1/{name}" for name in ("track", "batch", "import", "page", "screen")),
    *(f"/v1/{name}" for name in ("identify", "group", "alias")),
    *("/api/event", "/click", "/track", "/batch/", "/capture", "/sourceConfig", "/flags", "/k/x/e"),
)
FIELDS = (
    *("type", "event", "messageId", "userId", "anonymousId", "properties", "traits", "context"),
    *("timestamp", "sentAt", "name", "category", "groupId", "previousId", "writeKey", "batch"),
    *("event_type", "user_id", "event_id", "url", "domain", "referrer", "props", "key"),
    *("distinct_id", "uuid", "api_key", "$set", "sent_at", "n", "u", "e", "sd", "$", "h"),
)

# Any text that JSON can escape: control characters, NUL and lone surrogates too.
text = st.text(max_size=40) | st.text(st.characters(), max_size=10) | st.just("x" * 5_000)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()  # NaN and infinities, which json.dumps writes as no other language would
    | text
    | st.sampled_from(["", "track", "page_view", "2026-01-31T12:00:00Z", "0001-01-01", "9999"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """An event with the fields of any of the shapes, right or wrong."""
    fields = draw(st.dictionaries(st.sampled_from(FIELDS) | text, values, max_size=6))
    if draw(st.booleans()):
        fields |= {"type": "track", "event": "fuzzed", "event_type": "fuzzed"}
    if draw(st.booleans()):
        fields |= {"event": draw(st.sampled_from(["$identify", "$groupidentify", "$create_alias"]))}
    if draw(st.booleans()):
        fields |= {"name": "pageview", "url": draw(st.sampled_from(["/", "http://[", "x"]) | text)}
    return fields


batches = st.fixed_dictionaries(
    {"batch": st.lists(events() | values, max_size=6)}, optional={"sentAt": values}
)
contents = events() | values | batches
NESTINGS = ((b"[", b"]"), (b'{"batch":[', b"]}"), (b'{"a":', b"}"))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON or not, in an encoding or another, whole or cut."""
    kind = draw(st.sampled_from(["json", "json", "json", "bytes", "deep", "cut", "utf-16", "bom"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "deep":
        depth = draw(st.integers(1, 20_000))
        opening, closing = draw(st.sampled_from(NESTINGS))
        return opening * depth + b"1" + closing * depth
    written = json.dumps(draw(contents), ensure_ascii=draw(st.booleans()))
    encoded = written.encode(errors="surrogatepass")
    match kind:
        case "cut":
            return encoded[: draw(st.integers(0, len(encoded)))]
        case "utf-16":
            return written.encode("utf-16", errors="surrogatepass")
        case "bom":
            return b"\xef\xbb\xbf" + encoded
    return encoded


TYPES = ("application/json", "text/plain", "application/json; charset=latin-1", "x")
OTHER_ENCODINGS = ("br", "deflate", "identity", "", "ÿ")
HEADERS = ("User-Agent", "Referer", "Origin", "X-Forwarded-For", "Sec-Fetch-Mode")
METHODS = ("POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS")
QUERIES = ("", "", "?key=x", "?%ff=%00", "?" + "a=b&" * 200)
# What may stand in a header at all.
printable = st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, headers and body; the key is added by whoever sends it."""
    body = draw(bodies())
    headers = {"Content-Type": draw(st.sampled_from(TYPES))}
    match draw(st.sampled_from(["plain", "plain", "gzip", "not gzip", "other"])):
        case "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        case "not gzip":
            headers["Content-Encoding"] = "gzip"
        case "other":
            headers["Content-Encoding"] = draw(st.sampled_from(OTHER_ENCODINGS))
    for name in HEADERS:
        if draw(st.booleans()):
            headers[name] = draw(st.text(printable, max_size=30))
    target = draw(st.sampled_from(PATHS)) + draw(st.sampled_from(QUERIES))
    return draw(st.sampled_from(METHODS)), target, headers, body


parameters = st.tuples(
    st.sampled_from(FIELDS) | text, text | st.sampled_from(["1e999", "NaN", "-1"])
)
pixel_queries = st.lists(parameters, max_size=8)
