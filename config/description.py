"""How settings and what is wrong with them are shown to people."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from config import values
from pipeline import urls

PREFIX = "ANALYTICS_"
# Variables of the test suite; they configure tests, not the pipeline.
TEST_PREFIX = "ANALYTICS_TEST_"

_SHOWN_CHARACTERS = 80
_NEARLY = 0.65  # PORT and WEB_PORT are nearly the same, SEGMENT_WRITE_KEY and EVENT_WORKERS not
_UNSET = {
    "broker_url": "(Redis)",
    "postgres_schema": "(search_path)",
    "alarm_smtp_url": "smtp://localhost",
}
_UNSET |= dict.fromkeys(("user_id_secret", "alarm_webhook", "alarm_mail_to"), "(none)")


@dataclass(frozen=True)
class SettingRow:
    """One setting as people see it; secrets are masked."""

    name: str
    value: str
    default: str
    meaning: str


def name_variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


@dataclass(frozen=True)
class UnknownVariable:
    """A variable with our prefix that is not a setting; `meant` is the setting that it is nearly
    called, None where it may be another program's."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        if self.meant is not None:
            return f"{self.name}: there is no such setting; did you mean {self.meant}?"
        return f"{self.name}: there is no such setting; `analytics settings` lists them all"


def find_unknown_variables(names: Iterable[str]) -> Iterator[UnknownVariable]:
    """Each variable with our prefix that is none of these settings, but for what Kubernetes sets
    for services whose names begin like ours."""
    known = [name.upper() for name in names]
    for name in sorted(os.environ):
        upper = name.upper()
        own = upper.removeprefix(PREFIX)
        if not upper.startswith(PREFIX) or upper.startswith(TEST_PREFIX) or own in known:
            continue
        if values.is_service_variable(upper, os.environ[name]):
            continue
        close = difflib.get_close_matches(own, known, n=1, cutoff=_NEARLY)
        yield UnknownVariable(name, PREFIX + close[0] if close else None)


def explain_errors(error: ValidationError, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """A line for each setting that is wrong."""
    for details in _take_first_of_each(error):
        yield _explain(details, fields)


def show_value(name: str, value: object) -> str:
    """The value of a setting, secrets masked, long ones cut."""
    if value is None:
        return _UNSET.get(name, "(private server)")
    if name.endswith(("_secret", "_webhook")):  # the path of a webhook is its password
        return "***" if value else ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if name.endswith("_url"):
        return urls.mask_url(str(value))
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    shown = str(value)
    if not shown.isprintable():
        shown = ascii(shown)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"


def describe(settings: BaseSettings) -> list[SettingRow]:
    """Name, value in force, default and meaning of every setting, in the order of the class."""
    return [
        SettingRow(
            name=name_variable(name),
            value=show_value(name, getattr(settings, name)),
            default=show_value(name, field.get_default(call_default_factory=True)),
            meaning=field.description or "",
        )
        for name, field in type(settings).model_fields.items()
    ]


def _take_first_of_each(error: ValidationError) -> Iterator[ErrorDetails]:
    seen = set()
    for details in error.errors(include_url=False):
        name = details["loc"][0] if details["loc"] else ""
        if name not in seen:
            seen.add(name)
            yield details


def _explain(details: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    reason = str(details["ctx"]["error"]) if details["type"] == "value_error" else None
    if not details["loc"]:  # a rule between settings; it names them itself
        return reason or details["msg"]
    name = str(details["loc"][0])
    given = os.environ.get(name_variable(name), details["input"])
    rule = reason or values.describe_rule(fields[name])
    return f"{name_variable(name)}={show_value(name, given)}: {rule}"
