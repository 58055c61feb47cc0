"""The access keys of the web server that `analytics up` makes for a new private Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.context import open_access, open_services
from pipeline.system.private_files import write_private

if TYPE_CHECKING:
    from config.settings import Settings

FILE = "web-keys.json"


@dataclass(frozen=True)
class FirstKeys:
    """A write key that pages of any origin may use, a read token, and the file that holds them."""

    write: str = field(repr=False)
    read: str = field(repr=False)
    path: Path


def load_first_keys(settings: Settings) -> FirstKeys:
    """The keys of the first start, from their file; made now where Redis does not know them."""
    from pipeline.access.access_key import PAGE_KEY_MAX_AGE_S, KeyScope

    path = settings.data_dir.absolute() / FILE
    keys = _read(path)
    with open_access() as access:
        known = {key.id for key in access.list()}
        if keys is None or not {key.split("_")[1] for key in (keys.write, keys.read)} <= known:
            scope = KeyScope(max_age_s=PAGE_KEY_MAX_AGE_S)
            _, write = access.create("write", "made by analytics up", ["*"], scope=scope)
            _, read = access.create("read", "made by analytics up", may_operate=True, may_edit=True)
            keys = FirstKeys(write, read, path)
            text = json.dumps({"write": write, "read": read}, indent=2)
            write_private(path, text + "\n")
    return keys


def make_sign_in_link(origin: str, keys: FirstKeys) -> str:
    """A link that signs in to the dashboard with the read token, once and within ten minutes."""
    from pipeline.access.sessions import SessionStore

    with open_services() as services:
        code = SessionStore(services.redis, services.keys).make_sign_in(keys.read.split("_")[1])
    return f"{origin}/dashboard/sign-in/{code}"


def _read(path: Path) -> FirstKeys | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return FirstKeys(str(kept["write"]), str(kept["read"]), path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
