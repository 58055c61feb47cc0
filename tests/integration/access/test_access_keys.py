"""Keys: made, listed and revoked by command, and held by every process for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

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


def test_a_key_is_all_that_is_printed_so_that_a_shell_can_take_it(
    keys_command: Command, access: AccessKeyStore
) -> None:
    code, out, err = keys_command("create", "read", "--allow-forget")
    assert (code, err) == (0, "")
    key = access.check("read", out.strip())
    assert key is not None
    assert key.may_forget


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "write", "--origin", "shop.example"], 1, "is not the origin of a page"),
        (["create", "write", "--origin", "https://Shop.example"], 1, "in lower case"),
        (["create", "write", "--origin", "https://a.example/"], 1, "is not the origin"),
        (["create", "read", "--origin", "https://a.example"], 2, "is for write keys"),
        (["create", "write", "--allow-forget"], 2, "is for read tokens"),
        (["create", "admin"], 2, "admin"),
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
