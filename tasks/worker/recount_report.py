"""What a recount found, in the log once; and the audit, repeated until what it found is mended."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from pipeline.errors import TooMuchWaiting
from pipeline.postgres.fitness import report_misfit
from pipeline.server_errors import report_errors
from pipeline.services import Services
from pipeline.upkeep.audits.recount import Recounter
from pipeline.upkeep.audits.recount_state import (
    RecountState,
    describe_found,
    read_recount_state,
    write_recount_state,
)
from tasks.worker.audit_report import report_audit

_AUDITS_REST = 20
"""An audit is repeated after so many times as long as it took."""
_SHOWN = 20
_FLUSH_ENDS_WITHIN_S = 20.0
_LOOK_AGAIN_S = 0.1

logger = logging.getLogger(__name__)


def report_recount(services: Services, now: datetime) -> int:
    """Recount, and log what is new; returns how many counters differ. Where the last audit found
    something and nothing differs by now, audits again, so that its alarm ends with the fault.

    Raises `ServerUnavailable` when a server is away.
    """
    recounter = Recounter(services.counters, services.event_log, services.engine)
    client, engine = services.redis, services.engine
    _let_flush_end(services)
    with report_errors(redis=client, postgres=engine), report_misfit(engine):
        before = describe_found(read_recount_state(client, services.keys))
        state = recounter.recount(now)
    if state is None:
        logger.info("no recount now: another transaction is in the way")
        return int(before["differences"])
    found = describe_found(state)
    if found["lines"] != before["lines"]:
        for line in found["lines"][:_SHOWN]:
            logger.error("recount: %s differ from their events", line)
        if not found["lines"]:
            logger.warning("recount: nothing differs any more")
    if not found["lines"]:
        _audit_again(services, state, now)
    return int(found["differences"])


def _let_flush_end(services: Services) -> None:
    """Wait for a flush under way, for a while: the recount holds off the next."""
    until_s = time.monotonic() + _FLUSH_ENDS_WITHIN_S
    with report_errors(redis=services.redis):
        while services.redis.exists(services.keys.lane("flush")) and time.monotonic() < until_s:
            time.sleep(_LOOK_AGAIN_S)


def _audit_again(services: Services, state: RecountState, now: datetime) -> None:
    with report_errors(redis=services.redis):
        drift = services.redis.hget(services.keys.totals, "audit_drift")
    rest_s = now.timestamp() - state.audited_s
    if not int(drift or 0) or rest_s < _AUDITS_REST * state.audit_took_s:
        return
    began_s = time.monotonic()
    try:
        report_audit(services, now.date())
    except TooMuchWaiting as error:
        logger.info("no audit now: %s", error)
    state.audited_s, state.audit_took_s = now.timestamp(), time.monotonic() - began_s
    with report_errors(redis=services.redis):
        write_recount_state(services.redis, services.keys, state)
