"""The login of Flower where the operator names none: made once, and kept in the data directory."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InvalidConfiguration
from pipeline.system.file_locks import lock_directory
from pipeline.system.private_files import make_private_directory, write_private

FILE = "flower-login.json"
USER = "analytics"
OWN_LOGIN_VARIABLES = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")
"""Set by an operator who wants another login; Flower reads them itself."""


@dataclass(frozen=True)
class FlowerLogin:
    """A user name and its password, and the file that holds both."""

    user: str
    password: str = field(repr=False)
    path: Path


def load_flower_login(data_dir: Path) -> FlowerLogin:
    """The login kept in `data_dir`, made now when there is none; a repeat returns the same.

    Raises `InvalidConfiguration` when it can be neither read nor kept there.
    """
    path = data_dir.absolute() / FILE
    try:
        make_private_directory(path.parent, passable=os.geteuid() == 0)
        with lock_directory(path.parent):  # two first starts make one password
            if not path.exists():
                fields = {"user": USER, "password": secrets.token_urlsafe(24)}
                write_private(path, json.dumps(fields, indent=2) + "\n")
            kept = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfiguration(
            f"Flower has no login, and none can be kept in {path} ({error.strerror}): set "
            "FLOWER_BASIC_AUTH=NAME:PASSWORD, or ANALYTICS_DATA_DIR to a directory of this user"
        ) from error
    except ValueError as error:
        raise _damaged(path) from error
    match kept:
        case {"user": str(user), "password": str(password)} if user and password:
            return FlowerLogin(user, password, path)
    raise _damaged(path)


def _damaged(path: Path) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"{path}, the login of Flower, is damaged: delete it, and the next start makes another"
    )
