"""An access key: what it may do, and that keys stored by earlier versions read on."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.access.access_key import AccessKey, KeyScope, create_key
from pipeline.errors import InvalidConfiguration

STORED_BEFORE = (
    b'{"id":"3f9c2a7be001","kind":"write","name":"shop","hash":"00","origins":%s,'
    b'"may_forget":false,"created_at":"2025-03-14T12:00:00Z","revoked_at":null}'
)


@pytest.mark.parametrize(
    ("origins", "source"), [(b"[]", ""), (b'["https://shop.example"]', "3f9c2a7be001")]
)
def test_a_key_stored_before_it_had_a_scope_may_do_what_it_could(
    origins: bytes, source: str
) -> None:
    key = msgspec.json.decode(STORED_BEFORE % origins, type=AccessKey)

    assert (key.event_types, key.max_age_s, key.events_per_s) == ((), None, None)
    assert key.id_source == source
    assert (key.may_forget, key.may_operate, key.may_edit) == (False, False, False)


def test_a_scope_is_stored_with_the_key_and_read_again() -> None:
    scope = KeyScope("shop", ("page_view", "click"), 3_600, 100)

    key, _ = create_key("write", "", ["https://a.example"], may_forget=False, scope=scope)

    assert msgspec.json.decode(msgspec.json.encode(key), type=AccessKey) == key
    assert (key.event_types, key.max_age_s, key.events_per_s) == scope[1:]


@pytest.mark.parametrize(
    ("origins", "source", "shared"),
    [([], "", True), ([], "shop", False), (["https://a.example"], "", False)],
)
def test_event_ids_of_a_server_are_shared_and_those_of_a_page_are_not(
    origins: list[str], source: str, shared: bool
) -> None:
    key, _ = create_key("write", "", origins, may_forget=False, scope=KeyScope(source))

    assert (key.id_source == "") is shared
    assert key.id_source == (source or (key.id if origins else ""))


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (KeyScope(source="a b"), "'a b' is not the name of a source"),
        (KeyScope(source="x" * 65), "1 to 64"),
        (KeyScope(event_types=("",)), "event_type: must have 1 to 200 characters"),
        (KeyScope(event_types=("click", "a\nb")), "no event has such a type; give 'a b'"),
        (KeyScope(event_types=(" click",)), "give 'click'"),
        (KeyScope(max_age_s=0), "give at least 1 s"),
        (KeyScope(events_per_s=-1), "give a rate, or 0"),
    ],
)
def test_a_scope_that_cannot_be_is_refused(scope: KeyScope, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        create_key("write", "", [], may_forget=False, scope=scope)
