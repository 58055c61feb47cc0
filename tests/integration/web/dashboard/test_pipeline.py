"""The Pipeline page: the numbers of the API, the sentence in each outage, and its buttons."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from html import unescape

import httpx
import pytest

from config.options import pipeline_options
from config.settings import Settings
from pipeline import track_event
from pipeline.access.key_store import AccessKeyStore
from pipeline.contract import AUDIT, FLUSH_COUNTERS
from pipeline.counting.batch import BadEvent
from pipeline.embedded import PrivateServers
from pipeline.intake.unacknowledged import Unacknowledged
from pipeline.lanes.lanes import Lanes
from pipeline.lanes.ticks import note_tick
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.schema import migrate
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.redis.client import redis_client
from pipeline.services import Services, connect
from pipeline.upkeep import dead_letters, heartbeats
from pipeline.upkeep.condition.discarding import note_discarding
from pipeline.upkeep.condition.history import take_sample
from pipeline.web.dependencies import WebDependencies, WebOptions
from tasks.consumer.messages import read_message
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.support import Workers, count_events, event, eventually, fetch, message
from tests.helpers.web_process import WebProcess
from tests.integration.web.dashboard.conftest import DashboardSite, sign_in

PAGE = "/dashboard/pipeline"
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WELL = "All events are accounted for."


def bury(services: Services, *bad: BadEvent) -> None:
    services.counters.apply([message(bad=bad)], datetime.now(UTC))
    services.move_dead_letters()


def live(services: Services) -> None:
    note_tick(services.redis, services.keys)
    for kind in ("events", "flush"):
        heartbeats.beat(services.redis, services.keys, kind, f"{kind}@here")  # type: ignore[arg-type]


def read(browser: httpx.Client, path: str = PAGE) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def sentence(page: str) -> str:
    return page.partition('<p class="sentence">')[2].partition("</p>")[0].strip()


def post(site: DashboardSite, path: str, **form: str) -> httpx.Response:
    headers = {"Origin": site.origin, **FORM}  # browsers name the type of an empty form too
    return site.operator.post(path, data=form, headers=headers, follow_redirects=True)


def test_numbers_are_those_of_the_api(site: DashboardSite, services: Services) -> None:
    count_events(services, *[event() for _ in range(5)])
    services.flush()
    count_events(services, event(), event())
    take_sample(services.redis, services.keys, with_queue=True)
    live(services)
    page = read(site.viewer)
    assert sentence(page) == WELL
    headers = {"Authorization": f"Bearer {site.token}"}
    status = site.stranger.get("/api/status", headers=headers).json()
    assert status["summary"] == WELL
    assert status["findings"] == status["alarms"] == []
    numbers = {one["name"]: one["number"] for one in status["stages"]}
    units = {one["name"]: one["unit"] for one in status["stages"]}
    assert numbers["counted"] == status["books"]["counted"] == 7
    assert numbers["pending"] == services.claims.pending() > 0
    assert numbers["stored"] == status["last_flush"]["counters"] > 0
    assert numbers["event_log"] == 7
    for name in ("counted", "pending", "event_log"):
        assert f'title="{numbers[name]} {units[name]}"' in page
    workers = site.stranger.get("/api/workers", headers=headers).json()["workers"]
    assert {(one["kind"], one["is_seen"]) for one in workers} == {("events", True), ("flush", True)}
    assert all(one["name"] in page and one["version"] in page for one in workers)


def test_what_came_since_the_last_sample_is_of_the_last_hour(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, event())
    take_sample(services.redis, services.keys, with_queue=True)
    count_events(services, *[event() for _ in range(1_234)])
    headers = {"Authorization": f"Bearer {site.token}"}
    stages = site.stranger.get("/api/status", headers=headers).json()["stages"]
    counted = next(one for one in stages if one["name"] == "counted")
    assert sum(grown or 0 for grown in counted["last_hour"]) == 1_234
    assert counted["rate_per_s"] > 0
    assert "1,234 in the last hour." in read(site.viewer)


def test_a_part_is_answered_alone_and_a_wrong_parameter_is_named(site: DashboardSite) -> None:
    assert site.viewer.get(f"{PAGE}?card=now").text.strip().startswith('<div id="now">')
    for path in (f"{PAGE}?over=year", f"{PAGE}?card=x", f"{PAGE}/dead-letters?do=eat&group=x"):
        assert site.viewer.get(path).status_code == 422
    assert "Last day" in read(site.viewer, f"{PAGE}?over=day")


def test_what_is_wrong_is_said_with_what_to_do(site: DashboardSite, services: Services) -> None:
    assert sentence(read(site.viewer)).startswith("No event worker was seen for 45 s")
    headers = {"Authorization": f"Bearer {site.token}"}
    status = site.stranger.get("/api/status", headers=headers).json()
    assert status["alarms"] == ["no_event_worker", "no_flush_worker", "beat_silent"]
    live(services)
    assert sentence(read(site.viewer)) == WELL
    services.redis.hincrby(services.keys.totals, "published_messages", 3)
    assert sentence(read(site.viewer)).startswith("3 messages are missing")
    services.redis.hincrby(services.keys.totals, "published_messages", -3)
    count_events(services, event())
    services.flush()
    services.redis.hset(services.keys.totals, "claims", 0)
    page = read(site.viewer)
    assert sentence(page).startswith("Redis is older than what Postgres has stored")
    assert "<code>analytics accept-redis-state</code>" in page
    services.accept_redis_state()
    assert sentence(read(site.viewer)) == WELL
    count_events(services, event())
    services.redis.hset(services.keys.totals, "pending_since_s", int(time.time()) - 3_000)
    assert sentence(read(site.viewer)).startswith("Flush has not been asked for")
    Lanes(services.redis, services.keys).ask(FLUSH_COUNTERS, None)
    assert sentence(read(site.viewer)).startswith("Flush is ")


@pytest.mark.usefixtures("sending")
def test_what_expired_or_is_not_due_is_accounted_for(
    site: DashboardSite, services: Services
) -> None:
    live(services)
    for options in ({"countdown": 3_600}, {"countdown": 3_600}, {"expires": 0.001}):
        track_event.apply_async(("page_view",), **options)
    fetched = fetch(services)
    reads = [read_message(tag, raw, datetime.now(UTC)) for tag, raw in fetched]
    wait = [(str(one.delivery.tag), one.due_s) for one in reads if one.due_s is not None]
    assert not Unacknowledged(services.redis, services.keys).postpone(wait)
    services.counters.apply([reads[2].delivery], datetime.now(UTC))

    page = " ".join(read(site.viewer).split())
    assert sentence(page) == WELL
    assert 'expired</th><td class="number">1</td>' in page
    assert 'wait until they are due</th><td class="number">2</td>' in page
    headers = {"Authorization": f"Bearer {site.token}"}
    status = site.stranger.get("/api/status", headers=headers).json()
    assert (status["books"]["expired"], status["events_delayed"]) == (1, 2)
    assert status["summary"] == WELL


def test_workers_that_would_discard_events_are_named(
    site: DashboardSite, services: Services
) -> None:
    live(services)
    note_discarding(services.redis, services.keys, [f"{HOSTILE}@here"])
    assert HOSTILE not in site.viewer.get(PAGE).text
    said = f"{HOSTILE}@here of another application listens on Celery's default queue, celery, and "
    page = read(site.viewer)
    assert sentence(page) == WELL
    assert said in unescape(page)
    headers = {"Authorization": f"Bearer {site.token}"}
    [finding] = site.stranger.get("/api/status", headers=headers).json()["findings"]
    assert (finding["gravity"], finding["what"][: len(said)]) == ("possible", said)
    note_discarding(services.redis, services.keys, [])
    assert said not in unescape(read(site.viewer))


def test_hostile_reasons_are_text(site: DashboardSite, services: Services) -> None:
    bury(services, BadEvent(HOSTILE.encode(), HOSTILE))
    for browser in (site.viewer, site.operator):
        assert "<script>alert" not in browser.get(PAGE).text
        assert HOSTILE in read(browser)
    url = confirmation(site, "drop")
    assert "<script>alert" not in site.operator.get(url).text
    # What came may name users: only those see it who may replay it.
    assert read(site.operator, url).count(HOSTILE) == 2
    assert read(site.viewer, url).count(HOSTILE) == 1


def confirmation(site: DashboardSite, doing: str) -> str:
    page = read(site.operator)
    url = page.partition(f'href="{PAGE}/dead-letters?do={doing}&')[2].partition('"')[0]
    return f"{PAGE}/dead-letters?do={doing}&{url}"


def fields(page: str) -> dict[str, str]:
    return {
        name: page.partition(f'name="{name}" value="')[2].partition('"')[0]
        for name in ("group", "until")
    }


def test_dead_letters_are_replayed_as_many_as_were_confirmed(
    site: DashboardSite, services: Services
) -> None:
    live(services)
    good = [BadEvent(b'{"event_type": "late", "user_id": "u%d"}' % n, "too old") for n in range(3)]
    bury(services, *good, BadEvent(b'{"event_type": ""}', "no type"))
    page = read(site.operator)
    assert sentence(page).startswith("4 dead letters wait")
    page = read(site.operator, confirmation(site, "replay"))
    assert "Replay 3 dead letters" in page
    form = fields(page)
    answer = post(site, f"{PAGE}/dead-letters/replay", **form)
    assert "3 dead letters sent again." in answer.text
    assert services.queue_depth() == 3
    assert dead_letters.count_stored(services.engine) == 1
    assert "0 dead letters sent again." in post(site, f"{PAGE}/dead-letters/replay", **form).text
    answer = post(
        site,
        f"{PAGE}/dead-letters/replay",
        **fields(read(site.operator, confirmation(site, "replay"))),
    )
    assert "0 dead letters sent again. 1 cannot be:" in answer.text
    assert "left" in read(site.operator, f"{PAGE}/dead-letters?do=drop&group={form['group']}")


def test_dead_letters_that_came_after_the_question_are_not_dropped(
    site: DashboardSite, services: Services
) -> None:
    bury(services, *[BadEvent(b"x%d" % n, "why", kind="message") for n in range(2)])
    page = read(site.operator, confirmation(site, "drop"))
    assert "Drop 2 dead letters" in page
    time.sleep(1.1)  # they have seconds
    bury(services, BadEvent(b"y", "why", kind="message"))
    answer = post(site, f"{PAGE}/dead-letters/drop", **fields(page))
    assert "2 dead letters dropped." in answer.text
    assert dead_letters.count_stored(services.engine) == 1


def test_buttons_flush_archive_and_ask_for_an_audit(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, event(), event())
    pending = services.claims.pending()
    assert f"{pending} counters stored in Postgres." in post(site, f"{PAGE}/flush").text
    assert services.claims.pending() == 0
    assert "2 events archived." in post(site, f"{PAGE}/archive").text
    assert "An audit is asked for: " in post(site, f"{PAGE}/audit").text
    assert "asked for already" in post(site, f"{PAGE}/audit").text
    [waiting] = services.redis.lrange("analytics.maintenance", 0, -1)
    assert AUDIT.encode() in waiting


def test_without_the_right_nothing_can_be_pressed(site: DashboardSite, services: Services) -> None:
    bury(services, BadEvent(b"x", "why"))
    page = read(site.viewer)
    assert "Flush now" not in page
    assert "Drop…" not in page
    group = fields(read(site.operator, confirmation(site, "drop")))
    actions = ("flush", "archive", "audit", "dead-letters/replay", "dead-letters/drop")
    for action in actions:
        path = f"{PAGE}/{action}"
        answer = site.viewer.post(path, data=group, headers={"Origin": site.origin})
        assert answer.status_code == 403
        assert "--allow-operate" in answer.text
        cross = site.operator.post(path, data=group, headers={"Origin": "https://evil.example"})
        assert cross.status_code == 403
    assert dead_letters.count_stored(services.engine) == 1
    for wrong in ("", "yesterday", "2025-01-01"):
        answer = post(site, f"{PAGE}/dead-letters/drop", group=group["group"], until=wrong)
        assert answer.status_code == 422


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_the_sentence_is_right_while_a_server_is_away(
    own_servers: PrivateServers, server: str
) -> None:
    assert own_servers.redis_url is not None
    assert own_servers.postgres_url is not None
    configure(ProducerSettings(redis_url=own_servers.redis_url))
    engine = postgres_engine(own_servers.postgres_url)
    migrate(engine)
    engine.dispose()
    services = connect(
        pipeline_options(Settings()), own_servers.redis_url, own_servers.postgres_url
    )
    client = redis_client(own_servers.redis_url, 1.0)
    access = AccessKeyStore(client, services.keys)
    _, token = access.create("read", "viewer")
    dependencies = WebDependencies(services, client, access, WebOptions())
    with (
        served(dependencies) as origin,
        httpx.Client(base_url=origin, timeout=30, verify=NO_TLS) as browser,
    ):
        sign_in(browser, token)
        count_events(services, event())
        live(services)
        assert sentence(read(browser)) == WELL
        running = getattr(own_servers, server)
        running.kill()
        answer = browser.get(PAGE)
        page = unescape(answer.text)
        assert WELL not in page
        if server == "postgres":
            assert answer.status_code == 200, page
            assert sentence(page).startswith("Postgres does not answer: events are counted")
            assert 'title="1 event"' in page
            headers = {"Authorization": f"Bearer {token}"}
            status = browser.get("/api/status", headers=headers).json()
            assert status["summary"] == sentence(page)
            assert "127.0.0.1" not in f"{status['findings']}"
        else:
            assert answer.status_code == 503
            assert sentence(page).startswith("Redis does not answer: nothing is taken")
    services.close()
    client.close()


def test_the_real_processes_agree(workers: Workers, services: Services) -> None:
    web = WebProcess(workers).start()
    workers.start("flush")
    workers.start("events")
    note_tick(services.redis, services.keys)
    _, token = AccessKeyStore(services.redis, services.keys).create(
        "read", "reader", may_operate=True
    )
    with httpx.Client(base_url=web.origin, timeout=30, verify=NO_TLS) as browser:
        sign_in(browser, token)
        eventually(lambda: sentence(read(browser)) == WELL, 30)
        headers = {"Origin": web.origin, **FORM}
        answer = browser.post(f"{PAGE}/audit", headers=headers, follow_redirects=True)
        assert "An audit is asked for: " in answer.text
        eventually(lambda: ": nothing differs" in read(browser), 30)
        audit = browser.get("/api/status", headers={"Authorization": f"Bearer {token}"}).json()
        assert audit["last_audit"]["took_s"] >= 0
        assert "flush2@tests" in read(browser)
