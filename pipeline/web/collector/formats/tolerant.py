"""JSON that the usual decoder refuses as a whole, read as far as it goes. Pure.

Takes ten to a hundred times as long as the usual decoder, which is always tried first. Every step
is linear in the size of its input, and brackets are bounded: see
docs/explanation/collector-limits.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\x80-\x9f]")
"""A character of several bytes in UTF-8, or a byte that is no letter in Latin-1."""
_PART = re.compile(
    # What stands before a bracket: strings, of which the last may lack its end, and all else. Cut
    # after some hundred of them, so that none takes long.
    rb'((?:"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[^"{}\[\]]++){0,500}+)([{}\[\]]?)',
    re.DOTALL,
)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[^",\s]++', re.DOTALL)
_VALUE = re.compile(rb'\s{0,20}:\s{0,20}("[^"\\]{0,200}"|[^",\s]{1,50})')
_BATCH_BEGINS = re.compile(rb'(?:\A|[,\s])"batch"\s*:\s*\Z')
_LONGEST_NAME = 100
_MOST_KEYS = 1_100
_MOST_PARTS = 50_000
_STEP_PARTS, _STEP_BYTES = 2_000, 32 * 1024
_PARTNERS = {b"}": b"{", b"]": b"["}


def decode_text(raw: bytes) -> str:
    """The text of a body, by `decode_bytes` or as its byte order mark says."""
    return decode_bytes(_to_utf_8(raw))


def decode_bytes(raw: bytes) -> str:
    """The text of bytes that are UTF-8, or Latin-1 where all of them can be that; any other byte
    becomes U+FFFD."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace") if _MULTIBYTE.search(raw) else raw.decode("latin-1")


def _to_utf_8(raw: bytes) -> bytes:
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "replace").encode()
    if b"\x00" in raw[:2]:
        return raw.decode("utf-16-be" if raw[:1] == b"\x00" else "utf-16-le", "replace").encode()
    return raw


def load_tolerant(raw: bytes | memoryview) -> Any:
    """The value of a JSON text that may hold NaN and infinities, lone surrogates, control
    characters, and bytes that are no UTF-8. Raises ValueError and RecursionError."""
    return json.loads(decode_text(bytes(raw)), strict=False)


def find_any_key(body: bytes, *names: str) -> str:
    """The key of a body that cannot be decoded, under one of these names: the one beside the
    events, where several stand in it; "" when there is none."""
    body = _to_utf_8(body)
    tail, head = body[body.rfind(b"]") + 1 :], body[: max(0, body.find(b'"batch"'))]
    for part in (tail, head, body):
        for name in names:
            if found := _find_values(part, f'"{name}"'.encode()):
                return found[-1].decode("latin-1").strip('"')
    return ""


def _find_values(part: bytes, name: bytes) -> list[bytes]:
    """The values that stand behind a name, which comes with its quotation marks."""
    found: list[bytes] = []
    at = part.find(name)
    for _ in range(_MOST_KEYS):
        if at < 0:
            break
        value = _VALUE.match(part, at + len(name))
        if value and part[at - 1 : at] != b"\\":
            found.append(value[1])
        at = part.find(name, at + len(name))
    return found


@dataclass(slots=True)
class SplitBatch:
    """A batch split into the texts of its elements, and the `sentAt` beside it."""

    body: bytes
    batch: list[bytes] = field(default_factory=list)
    sent_at: Any = None
    is_found: bool = False
    """Whether there is a batch at all."""
    _is_inside: bool = False
    _is_over: bool = False
    _element_at: int = 0
    _open: bytearray = field(default_factory=bytearray)
    """The brackets that are open."""
    _beside: list[bytes] = field(default_factory=list)

    def add_text(self, text: bytes, bracket: bytes, most: int) -> None:
        """Take note of what stands before a bracket. Raises ValueError outside of the object."""
        match len(self._open):
            case 0 if text.strip() or bracket not in ((b"",) if self._is_over else (b"{", b"")):
                raise ValueError("it is more than one object, or none")
            case 1:
                self._beside.append(text)
            case 2 if self._is_inside and text.strip(b", \t\r\n"):
                # Elements without brackets.
                self.batch += islice((match[0] for match in _SCALAR.finditer(text)), most + 1)

    def open(self, part: re.Match[bytes]) -> None:
        """A bracket opens; that of the batch too. Of two batches the last has the say."""
        depth = len(self._open)
        if depth == 1 and part[2] == b"[" and _BATCH_BEGINS.search(part[1][-_LONGEST_NAME:]):
            self.batch, self.is_found, self._is_inside = [], True, True
        elif depth == 2:
            self._element_at = part.start(2)
        self._open += part[2]

    def close(self, part: re.Match[bytes]) -> None:
        """A bracket closes, and those within it whose end is missing; all at the body's end."""
        depth = len(self._open)
        if self._is_inside and depth == 2 and part[2] == b"}":
            return  # one too many, of the element before
        at = self._open.rfind(_PARTNERS.get(part[2], b""))
        del self._open[at if at >= 0 else -1 :]
        if not part[2]:
            self._open.clear()
        if self._is_inside and depth > 2 >= len(self._open):
            # An element whose own end is missing ends before the end of the batch.
            is_whole = len(self._open) == 2
            self.batch.append(self.body[self._element_at : part.end() if is_whole else part.end(1)])
        self._is_inside = self._is_inside and len(self._open) >= 2
        self._is_over = not self._open

    def read_time(self) -> None:
        """Find `sentAt`."""
        beside = b" ".join(self._beside)
        for name in (b'"sentAt"', b'"sent_at"'):
            for value in _find_values(beside, name)[-1:]:
                with suppress(ValueError):
                    self.sent_at = json.loads(value)


def split_batch(body: bytes, most: int) -> Iterator[SplitBatch | None]:
    """Split the batch of a body that cannot be decoded: yields None now and then, and in the end
    what was found. Stops at more than `most` elements.

    Raises ValueError for a body of too many parts, or with something behind its end.
    """
    body = _to_utf_8(body)
    found = SplitBatch(body)
    pause_at, pause_at_part = _STEP_BYTES, _STEP_PARTS
    for number, part in enumerate(_PART.finditer(body)):
        if number >= _MOST_PARTS:
            raise ValueError(f"it holds more than {_MOST_PARTS} brackets")
        if number >= pause_at_part or part.end() >= pause_at:
            pause_at, pause_at_part = part.end() + _STEP_BYTES, number + _STEP_PARTS
            yield None
        found.add_text(part[1], part[2], most)
        if len(found.batch) > most:
            break
        if part[2] in (b"{", b"["):
            found.open(part)
        elif part[2] or part.end() == len(body):
            found.close(part)
    found.read_time()
    yield found
