"""RabbitMQ's address as a setting, and what Celery is told of it."""

from __future__ import annotations

import ssl

import pytest
from celery import Celery

from config.description import describe
from config.settings import load
from pipeline.errors import InvalidConfiguration
from pipeline.producer import rabbitmq
from pipeline.producer.settings import ProducerSettings

URL = "amqp://events:secret@rabbit:5672/shop"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANALYTICS_BROKER_URL", raising=False)


@pytest.mark.parametrize(
    "url",
    [URL, "amqps://rabbit/?ssl_ca_certs=/ca.pem", "amqp://one:5672//;amqp://two:5672//"],
)
def test_an_address_of_rabbitmq_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ANALYTICS_BROKER_URL", url)
    taken = load().broker_url
    assert taken is not None
    assert taken.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("redis://:s@r:6379/0", "redis://:***@r:6379/0", "must begin with amqp://, amqps://"),
        ("amqp://u:s@:5672/", "amqp://u:***@:5672/", "names no host"),
        ("amqp://u:s@r/?ssl_ca_certs=/x", "amqp://u:***@r/?…", "'ssl_ca_certs' is not supported"),
        ("amqps://r/?ssl_cert_reqs=maybe", "amqps://r/?…", "ssl_cert_reqs must be one of"),
        ("amqp://one/;amqps://two/", "amqp://one/;amqps://two/", "must all begin with amqp://"),
    ],
)
def test_an_address_that_cannot_work_is_refused_in_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str, reason: str
) -> None:
    monkeypatch.setenv("ANALYTICS_BROKER_URL", url)
    with pytest.raises(InvalidConfiguration) as caught:
        load()
    said = str(caught.value)
    assert said.startswith(f"ANALYTICS_BROKER_URL={shown}: ")
    assert reason in said
    assert "\n" not in said


def test_a_description_masks_the_password_and_names_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANALYTICS_BROKER_URL", URL)
    (row,) = [row for row in describe(load()) if row.name == "ANALYTICS_BROKER_URL"]
    assert row.value == "amqp://events:***@rabbit:5672/shop"
    assert row.default == "(Redis)"


def configured(url: str) -> Celery:
    app = Celery("test", set_as_current=False)
    options = rabbitmq.celery_options(url, ["analytics.events"])
    app.conf.update(options, task_default_exchange="")
    return app


def test_publishes_are_confirmed_and_queues_are_quorum_queues_without_an_exchange() -> None:
    app = configured(URL)
    assert app.conf.broker_transport_options["confirm_publish"] is True
    (queue,) = app.amqp.queues.values()
    assert queue.queue_arguments["x-queue-type"] == "quorum"
    assert (queue.exchange.name, queue.routing_key) == ("", "analytics.events")
    with app.connection_for_write() as connection:
        assert (connection.virtual_host, connection.password) == ("shop", "secret")
        assert not connection.ssl


def test_a_message_may_come_back_without_end_in_every_version_of_rabbitmq() -> None:
    # 4 drops after 20 times when nothing is said, 3.10 at once when -1 is.
    assert rabbitmq.QUEUE_ARGUMENTS["x-delivery-limit"] == 1_000_000_000


def test_a_certificate_is_verified_for_its_host_unless_the_url_says_otherwise() -> None:
    strict = configured("amqps://rabbit//").conf.broker_use_ssl
    assert strict == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    lax = configured("amqps://rabbit//?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem").conf
    assert lax.broker_use_ssl == {"cert_reqs": ssl.CERT_NONE, "ca_certs": "/ca.pem"}
    assert "?" not in lax.broker_url


def test_a_producer_reads_the_address_from_the_environment_and_does_not_show_it() -> None:
    settings = ProducerSettings.from_environment({"ANALYTICS_BROKER_URL": URL})
    assert settings.broker_url == URL
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host:6379/0",
        "redis://:with@secret@host:6379/0",
        "http://host/?password=secret",
    ],
)
def test_a_producer_refuses_a_broker_that_is_not_rabbitmq_without_the_password(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="not one of RabbitMQ") as caught:
        rabbitmq.celery_options(url, [])
    assert "secret" not in str(caught.value)
