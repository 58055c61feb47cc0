"""The wire contract: names of tasks and queues, and the limits of events and messages.

Every process imports these from here, settings included, so this module imports nothing. The names
are fixed strings, not module paths: a producer in any language sends to them.
"""

from __future__ import annotations

import re
from datetime import timedelta

TRACK_EVENT = "analytics.track_event"
TRACK_EVENTS = "analytics.track_events"
FLUSH_COUNTERS = "analytics.flush_counters"
ARCHIVE_EVENTS = "analytics.archive_events"
MOVE_DEAD_LETTERS = "analytics.move_dead_letters"
REPAIR_COUNTERS = "analytics.repair_counters"
MAINTAIN = "analytics.maintain"
AUDIT = "analytics.audit"
RECOUNT = "analytics.recount"
PRUNE = "analytics.prune"
MAKE_REPORT = "analytics.make_report"

EVENTS_QUEUE = "analytics.events"
FLUSH_QUEUE = "analytics.flush"
MAINTENANCE_QUEUE = "analytics.maintenance"
"""The queues of the default installation; `pipeline.installation` has those of any other."""
CELERYS_DEFAULT_QUEUE = "celery"
"""Where clients of Celery send what they have no queue for."""

PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu's Redis transport keeps a list for each of four priorities of a queue."""

PLAIN_USER_IDS = "analytics_plain_user_ids"
"""Header of messages whose user ids are an application's own: a worker with a secret makes
pseudonyms of them all. Without it, an id that has the form of a pseudonym is taken for one."""

TAG_PREFIX = "analytics/"
"""Begins the delivery tag of every message that was published under a producer's number."""

MAX_EVENT_TYPE_CHARACTERS = 200
MAX_USER_ID_CHARACTERS = 256
MAX_EVENT_ID_CHARACTERS = 100
MAX_SOURCE_CHARACTERS = 100
MAX_PROPERTIES_BYTES = 32 * 1024
MAX_PROPERTIES_DEPTH = 100
BOT_PREFIX = "bot:"
"""What the event types of bots begin with."""
PAGE_PROPERTIES = ("referrer_host", "utm", "device", "browser", "system", "entry_page")
"""What the collector can add to page views; `utm` stands for the five of a campaign."""
MAX_AHEAD = timedelta(hours=24)
"""How far in the future an event's timestamp may lie."""
MAX_DELAY = timedelta(days=14)
"""How far in the future an event's eta may lie: far less than erased users are known."""
MAX_EVENTS_PER_MESSAGE = 1_000
MAX_MESSAGE_BYTES = 1024 * 1024

CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no event type holds: it is cleaned of it."""
