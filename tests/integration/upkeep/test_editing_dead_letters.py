"""A dead letter is shown, corrected by options or in an editor, replayed, and counted once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.counting.batch import BadEvent
from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.helpers.support import counted_here, execute, fetch, message

Analytics = Callable[..., tuple[int, str, str]]
NAMELESS = {"event_type": "", "user_id": "u1", "properties": {"path": "/", "total": "five"}}


@pytest.fixture
def bury(services: Services) -> Callable[[object], str]:
    """Makes a dead letter of a bad event; returns its id."""

    def make(body: object) -> str:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        bad = BadEvent(raw, "event_type: must have 1 to 200 characters")
        services.counters.apply([message(bad=[bad])], datetime.now(UTC))
        services.move_dead_letters()
        newest = "SELECT id FROM dead_letters ORDER BY created_at DESC, id DESC LIMIT 1"
        return str(execute(services, newest)[0][0])

    return make


def count_what_was_sent(services: Services) -> dict[str, int]:
    now = datetime.now(UTC)
    reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
    services.counters.apply([read.delivery for read in reads if read], now)
    return counted_here(services.redis)


def test_a_letter_is_edited_and_replayed_and_a_repeat_replays_nothing(
    services: Services, analytics: Analytics, bury: Callable[[object], str]
) -> None:
    letter = bury(NAMELESS)
    code, out, _ = analytics("dead-letters", "show", letter)
    assert code == 0
    assert "reason: event_type: must have 1 to 200 characters" in out
    assert '  "user_id": "u1"' in out

    code, _, err = analytics("dead-letters", "replay", letter)
    assert code == 1
    assert f"correct it with `analytics dead-letters edit {letter}`, or drop it" in err

    changes = ("--set", "event_type=sale", "--set", "properties.total=5", "--unset")
    code, out, err = analytics(
        "dead-letters", "edit", letter, *changes, "properties.path", "--json"
    )
    assert (code, err) == (0, "")
    fields = {"event_type": "sale", "user_id": "u1", "properties": {"total": 5}}
    assert json.loads(json.loads(out)["body"]) == fields

    assert json.loads(analytics("dead-letters", "replay", letter, "--json")[1]) == {"replayed": 1}
    code, out, _ = analytics("dead-letters", "replay", letter)
    assert (code, out) == (0, "Sent again: 0. Replayed before: 1.\n")
    assert count_what_was_sent(services) == {"sale": 1}
    code, _, err = analytics("dead-letters", "edit", letter, "--set", "event_type=other")
    assert (code, "what was sent cannot be edited" in err) == (1, True)


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        (["--set", "user_id=u2"], 1, "is still no valid event (event_type: must have 1 to 200"),
        (["--set", "event_type=sale", "--set", "timestamp=soon"], 1, "timestamp: "),
        (["--set", "event_type"], 2, "write FIELD=VALUE"),
        (["--set", "colour=red", "--set", "event_type=sale"], 1, "colour"),
    ],
)
def test_what_would_be_no_valid_event_is_not_saved(
    services: Services,
    analytics: Analytics,
    bury: Callable[[object], str],
    changes: list[str],
    status: int,
    said: str,
) -> None:
    letter = bury(NAMELESS)
    code, _, err = analytics("dead-letters", "edit", letter, *changes)
    assert code == status
    assert said in err
    body = execute(services, "SELECT body FROM dead_letters")[0][0]
    assert json.loads(bytes(body)) == NAMELESS


def test_an_edit_after_a_replay_that_was_cut_off_cannot_count_twice(
    services: Services, analytics: Analytics, bury: Callable[[object], str]
) -> None:
    letter = bury(NAMELESS)
    assert analytics("dead-letters", "edit", letter, "--set", "event_type=sale")[0] == 0
    assert analytics("dead-letters", "replay", letter)[0] == 0
    execute(services, "UPDATE dead_letters SET replayed_at = NULL")  # as if it had been cut off
    for change in ("event_type=other", "event_id=mine", "source=page"):
        code, _, err = analytics("dead-letters", "edit", letter, "--set", change)
        assert (code, "may have been sent" in err) == (1, True)
    assert analytics("dead-letters", "edit", letter, "--set", "user_id=u2")[0] == 0
    assert analytics("dead-letters", "replay", letter)[0] == 0
    assert count_what_was_sent(services) == {"sale": 1}


@pytest.fixture
def use_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a shell script the editor of the user."""

    def use(script: str) -> None:
        path = tmp_path / "editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setenv("EDITOR", f"{path}")

    monkeypatch.delenv("VISUAL", raising=False)
    return use


def test_an_editor_gets_the_reason_and_what_came(
    analytics: Analytics,
    bury: Callable[[object], str],
    use_editor: Callable[[str], None],
    tmp_path: Path,
) -> None:
    letter = bury(b"\xff no JSON")
    seen = tmp_path / "seen"
    fields = json.dumps({"event_type": "sale"})
    use_editor(f'cp "$1" {seen}; echo \'// a comment\' > "$1"; echo \'{fields}\' >> "$1"')
    code, out, err = analytics("dead-letters", "edit", letter)
    assert (code, err) == (0, "")
    assert out.startswith(f"Saved: {fields}\n")
    assert seen.read_text().startswith(
        "// event_type: must have 1 to 200 characters\n\\xff no JSON"
    )


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("exit 1", 1, "nothing was changed"),
        ("echo '[1]' > \"$1\"", 2, "no JSON object: nothing was changed"),
        (":", 1, "is still no valid event"),
    ],
)
def test_an_editor_that_fails_changes_nothing(
    analytics: Analytics,
    bury: Callable[[object], str],
    use_editor: Callable[[str], None],
    script: str,
    status: int,
    said: str,
) -> None:
    letter = bury(NAMELESS)
    use_editor(script)
    code, _, err = analytics("dead-letters", "edit", letter)
    assert code == status
    assert said in err
    shown = json.loads(analytics("dead-letters", "show", letter, "--json")[1])
    assert json.loads(shown["body"]) == NAMELESS
