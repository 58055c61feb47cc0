"""Keys: made, listed and revoked by command, and held by every process for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pipeline.access.access_key import AccessKey, KeyKind, change_key
from pipeline.access.key_store import AccessKeyStore
from pipeline.cli import main
from pipeline.embedded import PrivateServers
from pipeline.errors import InvalidConfiguration, NoSuchAccessKey, ServerUnavailable
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keys_command(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs `analytics keys ARGUMENTS` on the test's Redis; returns exit code, output and errors."""
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["keys", *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def access(client: redis.Redis) -> AccessKeyStore:
    return AccessKeyStore(client, Keys())


def test_a_key_is_made_listed_without_its_secret_and_revoked(keys_command: Command) -> None:
    def run(*arguments: str) -> Any:
        code, out, err = keys_command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    made = run("create", "write", "--name", "shop", "--origin", "https://a.example")
    assert made["key"].startswith(f"wk_{made['id']}_")
    _, listed, _ = keys_command("list")
    assert made["id"] in listed
    assert made["key"].split("_", 2)[2] not in listed
    revoked = run("revoke", made["id"])
    assert revoked["revoked_at"]
    assert run("revoke", made["id"]) == revoked
    assert run("list")["keys"] == [revoked]
    assert (revoked["name"], revoked["origins"]) == ("shop", ["https://a.example"])


def test_the_scope_of_a_key_is_made_shown_and_changed(keys_command: Command) -> None:
    def run(*arguments: str) -> Any:
        code, out, err = keys_command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def scope(key: Any) -> list[Any]:
        names = ("origins", "event_types", "max_age_s", "events_per_s", "source")
        return [key[name] for name in names]

    types = ("--event-type", "page_view", "--event-type", "click")
    page = ("create", "write", "--origin", "https://a.example")
    made = run(*page, *types, "--max-age", "1h", "--events-per-s", "100", "--source", "shop")
    assert scope(made) == [["https://a.example"], ["page_view", "click"], 3_600, 100, "shop"]
    _, listed, _ = keys_command("list")
    assert "page_view, click; up to 1 h old; 100 a second; ids of shop" in listed

    changed = run("change", made["id"], "--any-event-type", "--max-age", "any", "--origin", "*")
    assert scope(changed) == [["*"], [], None, 100, "shop"]
    changed = run("change", made["id"], "--events-per-s", "default", "--event-type", "sale")
    assert scope(changed) == [["*"], ["sale"], None, None, "shop"]
    assert run("list")["keys"] == [changed]

    usual = run(*page)
    assert scope(usual) == [["https://a.example"], [], 7 * 86_400, None, usual["id"]]
    assert scope(run("create", "write")) == [[], [], None, None, ""]
    assert scope(run(*page, "--max-age", "any"))[2] is None


def test_a_key_that_is_revoked_while_it_is_changed_stays_revoked(
    client: redis.Redis, access: AccessKeyStore
) -> None:
    key, _ = access.create("write", "")
    other = AccessKeyStore(client, Keys())
    calls = []

    def edit(found: AccessKey) -> AccessKey:
        calls.append(found)
        if len(calls) == 1:
            other.revoke(key.id)
        return change_key(found, {"max_age_s": 60})

    changed = access.change(key.id, edit)

    assert len(calls) == 2
    assert changed.revoked_at is not None
    assert changed.max_age_s == 60
    assert other.list() == [changed]


def test_a_key_is_all_that_is_printed_so_that_a_shell_can_take_it(
    keys_command: Command, access: AccessKeyStore
) -> None:
    code, out, err = keys_command("create", "read", "--allow-forget")
    assert (code, err) == (0, "")
    key = access.check("read", out.strip())
    assert key is not None
    assert key.may_forget


@pytest.mark.parametrize("right", ["forget", "operate", "edit"])
def test_a_read_token_has_the_rights_that_it_was_given_and_no_other(
    keys_command: Command, access: AccessKeyStore, right: str
) -> None:
    code, out, err = keys_command("create", "read", f"--allow-{right}", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    expected = {f"may_{other}": other == right for other in ("forget", "operate", "edit")}
    assert {name: shown[name] for name in expected} == expected
    key = access.check("read", shown["key"])
    assert key is not None
    assert {name: getattr(key, name) for name in expected} == expected
    assert f"read, may {right}" in keys_command("list")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "write", "--origin", "shop.example"], 1, "is not the origin of a page"),
        (["create", "write", "--origin", "https://Shop.example"], 1, "in lower case"),
        (["create", "write", "--origin", "https://a.example/"], 1, "is not the origin"),
        (["create", "read", "--origin", "https://a.example"], 2, "is for write keys"),
        (["create", "write", "--allow-forget"], 2, "is for read tokens"),
        (["create", "write", "--allow-operate"], 2, "is for read tokens"),
        (["create", "write", "--allow-edit"], 2, "is for read tokens"),
        (["create", "admin"], 2, "admin"),
        (["create", "write", "--max-age", "7 days"], 2, "'7 days' is not an age"),
        (["create", "write", "--max-age", "0s"], 1, "give at least 1 s"),
        (["create", "write", "--events-per-s", "-1"], 2, "'-1' is not a rate"),
        (["create", "write", "--event-type", "a\tb"], 1, "must not contain"),
        (["create", "write", "--source", "a b"], 1, "is not the name of a source"),
        (["create", "read", "--event-type", "a"], 2, "is for write keys"),
        (["create", "read", "--source", "a"], 2, "is for write keys"),
        (["change", "nothing", "--max-age", "1d"], 1, "there is no key"),
        (["change", "nothing"], 2, "nothing to change"),
        (["change", "a", "--any-event-type", "--event-type", "b"], 2, "leave one of them out"),
        (["revoke", "nothing"], 1, "there is no key"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    keys_command: Command, arguments: list[str], code: int, said: str
) -> None:
    got, out, err = keys_command(*arguments)
    assert (got, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_key_is_valid_for_its_kind_only(access: AccessKeyStore) -> None:
    _, write = access.create("write", "")
    _, read = access.create("read", "")
    assert access.check("write", write) is not None
    assert access.check("read", read) is not None
    assert access.check("read", write) is None
    assert access.check("write", read) is None
    assert access.check("write", read.replace("rt_", "wk_")) is None


@pytest.mark.parametrize("presented", ["", "wk", "wk_", "wk__", "_", "wk_a_b", "\ud800", "wk_é_ü"])
def test_what_is_no_key_is_none(access: AccessKeyStore, presented: str) -> None:
    assert access.check("write", presented) is None
    assert asyncio.run(access.check_async("write", presented)) is None


def test_a_key_made_by_another_process_is_found(
    client: redis.Redis, access: AccessKeyStore
) -> None:
    assert access.list() == []
    _, key = AccessKeyStore(client, Keys()).create("write", "")
    assert asyncio.run(access.check_async("write", key)) is not None


def test_whoever_revokes_a_key_that_is_not_there_is_told(access: AccessKeyStore) -> None:
    with pytest.raises(NoSuchAccessKey, match="keys list"):
        access.revoke("a")


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("read", {"max_age_s": 60}, "is a read token"),
        ("write", {"origins": ("*",)}, "is a server's key"),
        ("write", {"max_age_s": 0}, "at least 1 s"),
    ],
)
def test_what_cannot_be_changed_is_left_as_it_was(
    access: AccessKeyStore, kind: KeyKind, changes: dict[str, object], said: str
) -> None:
    key, _ = access.create(kind, "")
    with pytest.raises(InvalidConfiguration, match=said):
        access.change(key.id, lambda found: change_key(found, changes))
    assert access.list() == [key]


def test_an_origin_with_a_wildcard_inside_is_refused(access: AccessKeyStore) -> None:
    with pytest.raises(InvalidConfiguration, match="is not the origin"):
        access.create("write", "", ["https://*.example"])


def test_while_redis_is_away_known_keys_are_believed_for_a_moment_and_new_ones_are_not_made(
    own_servers: PrivateServers,
) -> None:
    assert own_servers.redis_url is not None
    with redis_client(own_servers.redis_url, 1) as own:
        access, other = AccessKeyStore(own, Keys()), AccessKeyStore(own, Keys())
        _, key = access.create("write", "")
        assert access.check("write", key) is not None
        own_servers.redis.kill()
        assert access.check("write", key) is not None
        assert access.check("write", "wk_unknown_secret") is None
        for _ in range(3):
            with pytest.raises(ServerUnavailable):
                other.check("write", key)
        with pytest.raises(ServerUnavailable):
            access.create("write", "")
