"""The restore drill: both servers are lost and come back from backups, of one moment or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.postgres import find_installation
from pipeline.errors import CannotBackUp, RedisWentBack
from pipeline.event.model import Event
from pipeline.services import Services
from pipeline.upkeep.backups import redis_copy
from pipeline.upkeep.backups.backup import MANIFEST, POSTGRES, REDIS, Installation, make_backup
from pipeline.upkeep.backups.postgres_copy import PostgresPrograms
from tests.conftest import chosen_programs
from tests.helpers.support import QUEUE, TODAY, count_events, event, execute

Analytics = Callable[..., tuple[int, str, str]]
BIN = find_installation(chosen_programs()["postgres_bin_dir"], Path("/nonexistent")).bin_dir


def events(count: int) -> list[Event]:
    return [event(user_id=f"u{n % 5}", properties={"path": f"/{n % 3}"}) for n in range(count)]


def counts(services: Services) -> dict[str, Any]:
    """What is read of the day: totals, users and values."""
    stats = services.stats
    return {
        "total": stats.count("page_view", TODAY, TODAY),
        "users": [stats.user_count(f"u{n}", "page_view", TODAY, TODAY) for n in range(5)],
        "archived": execute(services, "SELECT count(*) FROM events")[0][0],
    }


def copy(services: Services, postgres_url: str, directory: Path) -> Path:
    """A backup without the flush that the command makes before, which leaves more in Redis."""
    programs = PostgresPrograms(BIN, postgres_url)
    source = Installation(services.redis, services.keys, services.engine, programs)
    make_backup(source, directory)
    return directory


def lose_both(services: Services) -> None:
    services.redis.flushdb()
    execute(services, "DROP SCHEMA public CASCADE")
    execute(services, "CREATE SCHEMA public")


def test_a_pair_of_one_moment_goes_on_as_if_nothing_had_been(
    services: Services, analytics: Analytics, tmp_path: Path
) -> None:
    count_events(services, *events(40))
    services.redis.lpush(QUEUE, b"a message")
    services.redis.xadd(services.keys.dead, {"kind": "event", "body": "x", "reason": "", "at_s": 1})
    made = tmp_path / "backups" / "first"
    code, out, err = analytics("backup", f"{made}", "--postgres-bin", f"{BIN}")
    assert (code, err) == (0, "")
    assert f"Backed up into {made}, as of 20" in out
    assert {one.name for one in made.iterdir()} == {MANIFEST, POSTGRES, REDIS}
    assert {one.stat().st_mode & 0o077 for one in (made, *made.iterdir())} == {0}
    before, books = counts(services), services.redis.hgetall(services.keys.totals)

    count_events(services, *events(25))
    services.flush()
    lose_both(services)
    code, out, err = analytics("restore", f"{made}", "--postgres-bin", f"{BIN}")

    assert (code, err) == (0, "")
    assert out.startswith("Restored Redis and Postgres as of 20")
    assert services.redis.hgetall(services.keys.totals) == books
    assert services.redis.lrange(QUEUE, 0, -1) == [b"a message"]
    assert counts(services) == before
    services.flush()
    services.archive_events()
    assert services.move_dead_letters() == 1
    assert counts(services) == before
    assert services.audit(TODAY, TODAY) == []
    count_events(services, *events(2))  # tables, sequences and partitions are whole
    services.flush()
    services.maintain(datetime.now(UTC))
    assert services.audit(TODAY, TODAY) == []


def test_a_pair_of_two_moments_is_found_by_the_guard_and_mended_by_a_rebuild(
    services: Services, analytics: Analytics, postgres_url: str, tmp_path: Path
) -> None:
    count_events(services, *events(40))
    earlier = copy(services, postgres_url, tmp_path / "earlier")  # 40 are live in Redis
    services.flush()
    services.archive_events()
    count_events(services, *events(25))
    services.flush()
    services.archive_events()
    later = copy(services, postgres_url, tmp_path / "later")
    before = counts(services)
    lose_both(services)

    tools = ("--postgres-bin", f"{BIN}")
    assert analytics("restore", f"{later}", "--only", "postgres", *tools)[0] == 0
    code, out, err = analytics("restore", f"{earlier}", "--only", "redis", "--json")
    assert (code, json.loads(out)["of_one_moment"]) == (0, False)
    assert "Redis is older than Postgres" in err
    assert "accept-redis-state" in err
    with pytest.raises(RedisWentBack):
        services.flush()

    assert analytics("accept-redis-state")[0] == 0
    services.flush()
    assert counts(services)["total"] == 40 + 65, "what Redis held again was counted twice"
    assert services.audit(TODAY, TODAY) != []
    assert analytics("rebuild", "--from", f"{TODAY}", "--to", f"{TODAY}")[0] == 0

    assert counts(services) == before
    assert before["total"] == before["archived"] == 65
    assert services.audit(TODAY, TODAY) == []


def test_a_postgres_older_than_redis_is_found_too(
    services: Services, analytics: Analytics, postgres_url: str, tmp_path: Path
) -> None:
    count_events(services, *events(4))
    earlier = copy(services, postgres_url, tmp_path / "earlier")
    services.flush()
    later = copy(services, postgres_url, tmp_path / "later")
    lose_both(services)

    assert analytics("restore", f"{earlier}", "--only", "postgres")[0] == 0
    code, _, err = analytics("restore", f"{later}", "--only", "redis")

    assert code == 0
    assert "Postgres is older than Redis: 1 batches that were stored are not in its ledger" in err


def test_a_backup_taken_while_a_flush_is_half_done_is_of_one_moment(
    services: Services, postgres_url: str, analytics: Analytics, tmp_path: Path
) -> None:
    """Claimed, and not stored: the batch is in the copy of Redis, and is stored after it."""
    count_events(services, *events(10))
    before = counts(services)
    services.claims.claim("half-done", 1_000, (0, 0))
    made = copy(services, postgres_url, tmp_path / "made")
    services.flush()
    lose_both(services)
    assert analytics("restore", f"{made}")[::2] == (0, "")
    assert services.claims.open_batches() == ["half-done"]
    services.flush()
    assert counts(services)["total"] == before["total"] == 10


# What is refused


def test_nothing_is_restored_over_what_is_there(
    services: Services, analytics: Analytics, postgres_url: str, tmp_path: Path
) -> None:
    count_events(services, *events(1))
    made = copy(services, postgres_url, tmp_path / "made")
    for only, what in (("redis", "Redis holds keys"), ("postgres", "Postgres has the table")):
        code, _, err = analytics("restore", f"{made}", "--only", only)
        assert code == 1
        assert err.startswith(f"analytics: {what}")
    code, _, err = analytics("backup", f"{made}")
    assert (code, "is not empty" in err) == (1, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prefix": "shop:"}, "set ANALYTICS_PREFIX=shop:"),
        ({"form": 9}, "made by a later version"),
        ({"claims": "many"}, "is damaged"),
        (None, "is no backup"),
    ],
)
def test_what_is_no_backup_of_this_installation_is_refused(
    analytics: Analytics, tmp_path: Path, change: dict[str, Any] | None, said: str
) -> None:
    manifest = {"made_at": "2026-01-31T00:00:00Z", "prefix": "analytics:", "tables_version": "0008"}
    manifest |= {"epoch": 0, "claims": 1, "redis_keys": 1}  # type: ignore[dict-item]
    if change is not None:
        (tmp_path / MANIFEST).write_text(json.dumps(manifest | change))
    code, _, err = analytics("restore", f"{tmp_path}")
    assert code == 1
    assert said in err


def test_a_redis_that_would_be_held_too_long_is_not_copied(services: Services) -> None:
    services.redis.xadd(services.keys.dead, {"body": "x" * 20_000})
    with pytest.raises(CannotBackUp, match="see that events are flushed and archived"):
        redis_copy.copy_keys(services.redis, services.keys, most_bytes=100)


def test_only_keys_of_this_installation_are_copied(services: Services) -> None:
    client, keys = services.redis, services.keys
    count_events(services, *events(1))
    for name in ("other", "analytics.other", "analytics:shop:totals", "shop:totals"):
        client.set(name, 1, ex=60)
    client.set("analytics:salt", "x", px=60_000)
    copied = {one.name: one for one in redis_copy.copy_keys(client, keys)}
    assert b"analytics:totals" in copied
    assert set(copied) & {b"other", b"analytics.other", b"shop:totals"} == set()
    assert b"analytics:shop:totals" not in copied
    assert copied[b"analytics:totals"].expires_ms == -1
    now_ms = datetime.now(UTC).timestamp() * 1000
    assert 0 < copied[b"analytics:salt"].expires_ms - now_ms <= 60_000
