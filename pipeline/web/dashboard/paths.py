"""Where the dashboard's pages stand that others lead to."""

from __future__ import annotations

HOME = "/dashboard"
SIGN_IN = "/dashboard/sign-in"
SIGN_OUT = "/dashboard/sign-out"
