"""Settings: every rule, and that what is wrong is said with its name, its value and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.description import describe
from config.settings import Settings, load
from pipeline.errors import InvalidConfiguration


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("ANALYTICS_"):
            monkeypatch.delenv(name)


def complaint(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What `load` says of these variables (named without ANALYTICS_)."""
    for name, value in variables.items():
        monkeypatch.setenv(f"ANALYTICS_{name}", value)
    with pytest.raises(InvalidConfiguration) as caught:
        load()
    return str(caught.value)


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"ANALYTICS_{name}", value)
    return load()


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load()
    assert settings.redis_url is None
    assert settings.postgres_url is None
    assert settings.data_dir == Path(".analytics")
    assert settings.prefix == "analytics:"
    assert settings.count_by == {}
    assert settings.flush_interval_s == 300
    assert settings.appendfsync == "always"


def test_every_setting_is_described_with_a_meaning() -> None:
    for row in describe(load()):
        assert row.name.startswith("ANALYTICS_")
        assert len(row.meaning) > 15, row.name


def test_settings_cannot_be_changed_after_loading() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.values_cap = 5


# What is wrong, and what is said


NUMBERS_OUT_OF_RANGE = [
    ("VALUES_CAP", "0", "must be a whole number of 1 or more, at most 10000000 (default 10000)"),
    (
        "VALUES_CAP",
        "10000001",
        "must be a whole number of 1 or more, at most 10000000 (default 10000)",
    ),
    ("VALUES_CAP", "many", "must be a whole number of 1 or more, at most 10000000 (default 10000)"),
    ("VALUES_CAP", "1.5", "must be a whole number of 1 or more, at most 10000000 (default 10000)"),
    (
        "DEDUP_WINDOW_S",
        "59",
        "must be a whole number of 60 or more, at most 2678400 (default 86400)",
    ),
    (
        "DEDUP_WINDOW_S",
        "2678401",
        "must be a whole number of 60 or more, at most 2678400 (default 86400)",
    ),
    ("COUNTER_TTL_S", "-1", "must be a whole number of 0 or more (default 0)"),
    ("FLUSH_INTERVAL_S", "0", "must be a number of 0.1 or more, at most 86400 (default 300)"),
    ("FLUSH_INTERVAL_S", "86401", "must be a number of 0.1 or more, at most 86400 (default 300)"),
    ("FLUSH_INTERVAL_S", "inf", "must be a number of 0.1 or more, at most 86400 (default 300)"),
    ("FLUSH_INTERVAL_S", "nan", "must be a number of 0.1 or more, at most 86400 (default 300)"),
    (
        "FLUSH_BATCH_SIZE",
        "0",
        "must be a whole number of 1 or more, at most 100000 (default 10000)",
    ),
    (
        "FLUSH_BATCH_SIZE",
        "100001",
        "must be a whole number of 1 or more, at most 100000 (default 10000)",
    ),
    ("FLUSH_THRESHOLD", "0", "must be a whole number of 1 or more (default 50000)"),
    ("LEDGER_DAYS", "6", "must be a whole number of 7 or more, at most 3650 (default 90)"),
    ("LEDGER_DAYS", "3651", "must be a whole number of 7 or more, at most 3650 (default 90)"),
    ("PARTITIONS_AHEAD_MONTHS", "0", "must be a whole number of 1 or more, at most 24 (default 3)"),
    (
        "PARTITIONS_AHEAD_MONTHS",
        "25",
        "must be a whole number of 1 or more, at most 24 (default 3)",
    ),
    ("VISIBILITY_TIMEOUT_S", "0", "must be a whole number of 1 or more, at most 3600 (default 60)"),
    (
        "VISIBILITY_TIMEOUT_S",
        "3601",
        "must be a whole number of 1 or more, at most 3600 (default 60)",
    ),
    ("PUBLISH_TIMEOUT_S", "0", "must be a number above 0, at most 600 (default 30)"),
    ("PUBLISH_TIMEOUT_S", "601", "must be a number above 0, at most 600 (default 30)"),
    ("EVENT_WORKERS", "0", "must be a whole number of 1 or more, at most 256 (default 1)"),
    ("EVENT_WORKERS", "257", "must be a whole number of 1 or more, at most 256 (default 1)"),
    ("FLOWER_PORT", "-1", "must be a whole number of 0 or more, at most 65535 (default 5555)"),
    ("FLOWER_PORT", "65536", "must be a whole number of 0 or more, at most 65535 (default 5555)"),
]


@pytest.mark.parametrize(("name", "value", "rule"), NUMBERS_OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused_with_the_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    assert complaint(monkeypatch, **{name: value}) == f"ANALYTICS_{name}={value}: {rule}"


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("APPENDFSYNC", "no", "always, everysec (default always)"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR, CRITICAL (default INFO)"),
        ("LOG_FORMAT", "xml", "text, json (default text)"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, choices: str
) -> None:
    expected = f"ANALYTICS_{name}={value}: must be one of: {choices}"
    assert complaint(monkeypatch, **{name: value}) == expected


def test_a_switch_says_what_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_ENABLED", "maybe")
    with pytest.raises(InvalidConfiguration, match=r"ENABLED=maybe: must be 1 or 0 \(default 1\)"):
        load()


def test_a_log_level_may_be_written_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, LOG_LEVEL="debug").log_level == "DEBUG"


def test_every_wrong_variable_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = complaint(monkeypatch, VALUES_CAP="0", LOG_FORMAT="xml", PREFIX="x", REDIS_UR="y")
    assert [line.partition("=")[0].partition(":")[0] for line in said.splitlines()] == [
        "ANALYTICS_REDIS_UR",
        "ANALYTICS_PREFIX",
        "ANALYTICS_VALUES_CAP",
        "ANALYTICS_LOG_FORMAT",
    ]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_is_refused_and_not_taken_as_unset(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    said = complaint(monkeypatch, **{name.upper(): ""})
    assert said == (
        f"ANALYTICS_{name.upper()}=: must not be empty; give a value, or unset the variable"
    )


def test_a_misspelt_variable_is_refused_with_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert complaint(monkeypatch, FLUSH_INTERVALS="5") == (
        "ANALYTICS_FLUSH_INTERVALS: there is no such setting; "
        "did you mean ANALYTICS_FLUSH_INTERVAL_S?"
    )


def test_variables_of_the_test_suite_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, TEST_ANYTHING="1") == Settings()


def test_a_long_value_is_cut_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(complaint(monkeypatch, VALUES_CAP="9" * 3_000)) < 200


def test_a_value_with_a_line_break_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(complaint(monkeypatch, PREFIX="a:\nb:").splitlines()) == 1


# The prefix of the keys


@pytest.mark.parametrize("prefix", ["a:", "analytics:", "shop.eu-1:analytics_2:"])
def test_a_prefix_of_letters_digits_and_few_signs_is_taken(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    assert loaded(monkeypatch, PREFIX=prefix).prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["analytics", ":", "a::", "{a}:", "a b:", "a%:", "a*:", "a?:", "[a]:", "é:", "a:\n"]
)
def test_a_prefix_that_could_not_be_parsed_back_is_refused(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    said = complaint(monkeypatch, PREFIX=prefix)
    assert "ANALYTICS_PREFIX=" in said
    assert "must end with ':' and consist of letters, digits" in said


def test_a_prefix_longer_than_64_characters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "must have at most 64 characters" in complaint(monkeypatch, PREFIX="a" * 64 + ":")


# Which properties are counted


def test_count_by_is_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, COUNT_BY='{"page_view": ["path", "country"]}')
    assert settings.count_by == {"page_view": ["path", "country"]}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("page_view:path", 'must be JSON such as {"page_view": ["path"]}'),
        ('["page_view"]', "must be a JSON object of lists of names"),
        ('{"page_view": "path"}', "must be a JSON object of lists of names"),
        ('{"page_view": [1]}', "must be a JSON object of lists of names"),
        ('{"": ["path"]}', "'' cannot be an event type"),
        ('{"page_view": [""]}', "a property of 'page_view' has no name"),
        ('{"page_view": ["path", "path"]}', "'page_view' names a property twice"),
    ],
)
def test_a_count_by_of_another_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    assert f"ANALYTICS_COUNT_BY={value}: {reason}" in complaint(monkeypatch, COUNT_BY=value)


# Rules between settings


def test_a_counter_must_not_expire_before_it_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint(monkeypatch, COUNTER_TTL_S="599") == (
        "ANALYTICS_COUNTER_TTL_S=599: counters would expire before they are flushed; give 0 "
        "(no lifetime), or at least twice ANALYTICS_FLUSH_INTERVAL_S (300)"
    )


def test_a_counter_may_expire_after_two_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, COUNTER_TTL_S="600").counter_ttl_s == 600


# The directory


def test_a_file_in_place_of_the_data_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    assert complaint(monkeypatch, DATA_DIR=str(occupied)).endswith("is a file; name a directory")


def test_a_tilde_in_the_data_directory_is_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loaded(monkeypatch, DATA_DIR="~/counts").data_dir == tmp_path / "counts"


# Addresses


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_postgres_url_is_given_our_driver(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    settings = loaded(monkeypatch, POSTGRES_URL=f"{scheme}://me:secret@db:5432/counts?x=y")
    assert settings.postgres_url is not None
    assert settings.postgres_url.get_secret_value() == (
        "postgresql+psycopg://me:secret@db:5432/counts?x=y"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg2://db/counts", "must begin with postgresql://"),
        ("mysql://db/counts", "must begin with postgresql://"),
        ("postgresql://db:5432", "names no database"),
        ("postgresql://db:port/counts", "cannot be read as a URL"),
    ],
)
def test_a_postgres_url_that_cannot_work_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    assert reason in complaint(monkeypatch, POSTGRES_URL=url)


@pytest.mark.parametrize("name", ["REDIS_URL", "POSTGRES_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@host:1/0",
        "redis://:s3cret",
        "redis://:s3/cret@host:99999/0",
        "redis://:s3cret#x@host:6379/0",
        "postgresql://me:p@s3cret@host:x/counts",
        "postgresql://me:s3cret@host",
        "redis://host/0?password=s3cret",
        "sentinel://:s3cret@one:26379;sentinel://:s3cret@two:26379/0",
        "redis://me:\ns3cret@host:x",
        "s3cret@",
        "redis:/:s3cret@host:6379/0",
    ],
)
def test_no_part_of_a_password_is_shown_when_a_url_is_wrong(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    said = complaint(monkeypatch, **{name: url})
    assert f"ANALYTICS_{name}=" in said
    assert "s3" not in said
    assert "cret" not in said
    assert len(said.splitlines()) == 1


def test_a_description_masks_the_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        REDIS_URL="redis://:s3cret@redis:6379/0",
        POSTGRES_URL="postgres://me:s3cret@db:5432/counts",
    )
    values = {row.name: row.value for row in describe(settings)}
    assert values["ANALYTICS_REDIS_URL"] == "redis://:***@redis:6379/0"
    assert values["ANALYTICS_POSTGRES_URL"] == "postgresql+psycopg://me:***@db:5432/counts"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALARM_WEBHOOK", "ftp://hooks.example/x", r"=\*\*\*: must be a URL such as https://HOST"),
        ("ALARM_WEBHOOK", "https://", "must be a URL"),
        ("ALARM_SMTP_URL", "http://mail", "must be a URL such as smtp://HOST"),
        ("ALARM_MAIL_TO", "a@b.c,", "must be addresses of mail"),
        ("ALARM_MAIL_TO", "ops", "must be addresses of mail"),
    ],
)
def test_where_alarms_go_is_checked(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"ANALYTICS_{name}", value)
    with pytest.raises(InvalidConfiguration, match=f"ANALYTICS_{name}.*{said}"):
        load()


def test_where_alarms_go_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_ALARM_WEBHOOK", "https://hooks.example/s3cret")
    monkeypatch.setenv("ANALYTICS_ALARM_SMTP_URL", "smtp://u:s3cret@mail:587")
    monkeypatch.setenv("ANALYTICS_ALARM_MAIL_TO", "a@b.example, c@d.example")
    assert not any("s3cret" in row.value for row in describe(load()))
