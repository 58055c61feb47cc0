"""Where the dashboard's pages stand that others lead to."""

from __future__ import annotations

HOME = "/dashboard"
SIGN_IN = "/dashboard/sign-in"
SIGN_OUT = "/dashboard/sign-out"
EVENT_TYPE = "/dashboard/type"
USER = "/dashboard/user"
LIVE = "/dashboard/live"
LIVE_STREAM = "/dashboard/live/stream"
EXPLORE = "/dashboard/explore"
EXPLORE_CSV = "/dashboard/explore.csv"
