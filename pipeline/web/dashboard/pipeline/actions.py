"""What the buttons of the Pipeline page do. Each may be pressed twice: a repeat does no harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from kombu.exceptions import OperationalError

from pipeline.access.access_key import AccessKey
from pipeline.contract import AUDIT
from pipeline.errors import BatchesLeft, RedisWentBack
from pipeline.installation import queues_of
from pipeline.lanes.lanes import Lanes
from pipeline.producer.runs import ask_for_run
from pipeline.upkeep.dead_letter_groups import Replayed, drop_group, replay_group
from pipeline.upkeep.dead_letters import DeadLetter
from pipeline.upkeep.replaying import publish_again
from pipeline.web.dashboard.page import Action, Sources
from pipeline.web.errors import InvalidParameter

PATH = "/dashboard/pipeline"
LETTERS_PATH = f"{PATH}/dead-letters"
_REPLAY_FOR_S = 60.0


def create_actions(user_id_secret: str) -> Sequence[Action]:
    """The forms of the page."""
    replay = partial(replay_letters, user_id_secret)
    return [
        Action(f"{PATH}/flush", "may_operate", flush, PATH),
        Action(f"{PATH}/archive", "may_operate", archive, PATH),
        Action(f"{PATH}/audit", "may_operate", ask_for_audit, PATH),
        Action(f"{LETTERS_PATH}/replay", "may_operate", replay, PATH),
        Action(f"{LETTERS_PATH}/drop", "may_operate", drop_letters, PATH),
    ]


def flush(sources: Sources, _: AccessKey, __: Mapping[str, str]) -> str:
    """Flush here and now, as a read that asks for fresh numbers does."""
    try:
        stored = sources.services.flush()
    except (BatchesLeft, RedisWentBack) as error:
        return f"Not everything was stored: {error}."
    return f"{_count(stored, 'counter')} stored in Postgres."


def archive(sources: Sources, _: AccessKey, __: Mapping[str, str]) -> str:
    """Archive here and now."""
    return f"{_count(sources.services.archive_events(), 'event')} archived."


def ask_for_audit(sources: Sources, _: AccessKey, __: Mapping[str, str]) -> str:
    """Ask a flush worker for an audit of the last days, which may take minutes."""
    services = sources.services
    queue = queues_of(services.keys.prefix).maintenance
    in_redis = queue if services.broker_url is None else None
    if Lanes(services.redis, services.keys).ask(AUDIT, in_redis) is None:
        return "An audit is asked for already; it begins when a flush worker is free."
    try:
        ask_for_run(AUDIT, queue)
    except OperationalError:
        return "The audit could not be asked for: the broker does not answer. Try again shortly."
    return "An audit is asked for: a flush worker compares archive and counters of the last 7 days."


def replay_letters(
    user_id_secret: str, sources: Sources, _: AccessKey, form: Mapping[str, str]
) -> str:
    """Send the dead letters of a group again that came until the viewer was asked."""
    group, until = _read_form(form)
    engine = sources.services.engine

    def publish(letter: DeadLetter) -> None:
        publish_again(letter, user_id_secret)

    try:
        found = replay_group(engine, group, until, publish, _REPLAY_FOR_S)
    except OperationalError:
        return "The broker does not answer: letters that were not sent again are here still."
    return _describe(found)


def drop_letters(sources: Sources, _: AccessKey, form: Mapping[str, str]) -> str:
    """Delete the dead letters of a group that came until the viewer was asked."""
    group, until = _read_form(form)
    return f"{_count(drop_group(sources.services.engine, group, until), 'dead letter')} dropped."


def _read_form(form: Mapping[str, str]) -> tuple[str, datetime]:
    try:
        until = datetime.fromisoformat(form.get("until", ""))
    except ValueError as error:
        raise InvalidParameter("until", "must be a time; press the button of the page") from error
    if until.tzinfo is None:
        raise InvalidParameter("until", "must have a UTC offset; press the button of the page")
    return form.get("group", ""), until


def _describe(found: Replayed) -> str:
    said = f"{_count(found.sent, 'dead letter')} sent again."
    if found.refused:
        said += f" {found.refused:,} cannot be: {found.why}."
    if not found.is_whole:
        said += " There are more: replay again."
    return said


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
