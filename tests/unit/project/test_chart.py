"""The Helm chart: helm itself lints and renders it, and what it renders keeps to the schemas of
Kubernetes and to what the rest of the tree says. `make helm-lint` fetches helm and the schemas."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from config.description import name_variable
from config.settings import Settings, load
from pipeline.installation import queues_of
from tasks.consumer.lane import ENDS_WITHIN_S

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "analytics-pipeline"
FETCHED = ROOT / ".venv" / "deploying"
OF_THE_CHART = {
    *("redis_url", "postgres_url", "broker_url", "user_id_secret", "data_dir", "enabled"),
    *("metrics_port", "metrics_address", "flower_port", "web_port", "event_workers"),
    *("alarm_webhook", "alarm_smtp_url"),
}
"""Settings that are values of their own, or of no use in a cluster."""
HOSTS = ("--set", "collector.ingress.host=t.example", "--set", "flower.ingress.host=f.example")
VARIANTS: dict[str, Sequence[str]] = {
    "as it is": (),
    "scaled": ("--set", "events.keda.enabled=true", "--set", "settings.prefix=shop:"),
    "reached": (*HOSTS, "--set", "collector.ingress.tlsSecret=tls", "--set", "listenOn=::"),
    "all optional": (
        *("--set", "secrets.brokerUrl.name=a", "--set", "secrets.userIdSecret.name=a"),
        *("--set", "settings.count_by.sale={plan}", "--set", "settings.sessions=true"),
        *(
            "--set",
            "settings.event_log_max_bytes=1073741824",
            "--set",
            "image.pullSecrets[0].name=a",
        ),
        *(
            "--set",
            "podLabels.team=a",
            "--set",
            "tolerations[0].key=a",
            "--set",
            "nodeSelector.a=b",
        ),
    ),
    "watched": (
        *("--set", "watch.replicas=1", "--set", "settings.alarm_mail_to=ops@shop.example"),
        *("--set", "secrets.alarmWebhook.name=a", "--set", "secrets.alarmSmtpUrl.name=a"),
    ),
    "least": ("--set", "flower.replicas=0,metrics.replicas=0,metricsPort=0,events.replicas=1"),
}

Document = dict[str, Any]


def need_helm() -> str:
    """The program. Where there is none, skips; where CI is set, fails."""
    fetched = FETCHED / "helm"
    found = str(fetched) if fetched.exists() else shutil.which("helm")
    if found is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("helm is not here: `make helm-lint` fetches it")
    return str(found)


@cache
def render(*options: str) -> list[Document]:
    """What helm makes of the chart."""
    command = [need_helm(), "template", "demo", CHART, *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [one for one in yaml.safe_load_all(ran.stdout) if one]


@cache
def read_schema(name: str) -> Resource[Any]:
    """One of the schemas that were fetched, by its file."""
    with zipfile.ZipFile(FETCHED / "schemas.zip") as packed:
        contents = json.loads(packed.read(name.rpartition("/")[2]))
    return Resource.from_contents(contents, DRAFT7)


@pytest.fixture(params=VARIANTS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(*VARIANTS[request.param])


def of_kind(documents: Sequence[Document], *kinds: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] in kinds}


def pods(documents: Sequence[Document]) -> dict[str, Document]:
    """The specification of the pods of each component."""
    found = of_kind(documents, "Deployment", "Job")
    return {
        name.removeprefix("demo-"): one["spec"]["template"]["spec"] for name, one in found.items()
    }


def containers(documents: Sequence[Document]) -> Iterator[Document]:
    for pod in pods(documents).values():
        yield from pod["containers"]


# What helm and Kubernetes take


def test_helm_finds_no_fault() -> None:
    command = [need_helm(), "lint", "--strict", CHART]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_it_renders_keeps_to_the_schemas_of_kubernetes(documents: list[Document]) -> None:
    if not (FETCHED / "schemas.zip").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("`make helm-lint` fetches them")
    registry: Any = Registry(retrieve=read_schema)  # type: ignore[call-arg]
    for one in documents:
        if "keda.sh" in one["apiVersion"]:
            continue  # a kind that KEDA adds
        group, _, version = one["apiVersion"].rpartition("/")
        parts = [one["kind"].lower(), *([group.split(".")[0]] if group else []), version]
        schema = {"$ref": f"{'-'.join(parts)}.json"}
        jsonschema.Draft7Validator(schema, registry=registry).validate(one)


def test_an_unknown_field_breaks_the_schema() -> None:
    """So the check above is one."""
    documents = json.loads(json.dumps(render()))
    [job] = of_kind(documents, "Job").values()
    job["spec"]["template"]["spec"]["readOnlyRootFilesystem"] = True
    with pytest.raises(jsonschema.ValidationError, match="readOnlyRootFilesystem"):
        test_what_it_renders_keeps_to_the_schemas_of_kubernetes([job])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("settings.redis_url=redis://:secret@redis", "redis_url"),
        ("settings.count=1", "count"),
        ("secrets.redisUrl.name=", "minLength"),
        ("collector.replica=3", "replica"),
        ("metrics.replicas=2", "maximum"),
        ("metricsPort=8080", "metricsPort"),
        ("reader.env[0].name=ANALYTICS_POSTGRES_URL", "not"),
    ],
)
def test_a_value_that_cannot_be_is_refused(value: str, said: str) -> None:
    command = [need_helm(), "template", "demo", CHART, "--set", value]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode
    assert said in ran.stderr


def test_every_setting_of_the_schema_is_one_and_none_is_missing() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = set(Settings.model_fields)
    assert known >= OF_THE_CHART
    named = set(schema["properties"]["settings"]["properties"])
    assert named == known - OF_THE_CHART, "enter it in values.schema.json, or in OF_THE_CHART"


# What it renders


def test_secrets_are_there_by_reference_only(documents: list[Document]) -> None:
    assert not of_kind(documents, "Secret", "ConfigMap")
    secret = {name_variable(name) for name in ("redis_url", "postgres_url", "broker_url")}
    alarms = {name_variable(name) for name in ("alarm_webhook", "alarm_smtp_url")}
    secret |= {name_variable("user_id_secret"), "FLOWER_BASIC_AUTH", *alarms}
    for container in containers(documents):
        by_reference = {one["name"] for one in container["env"] if "valueFrom" in one}
        assert {one["name"] for one in container["env"]} & secret == by_reference
        assert {name_variable("redis_url"), name_variable("postgres_url")} <= by_reference
        assert ("FLOWER_BASIC_AUTH" in by_reference) == (container["name"] == "flower")
        assert container["name"] == "watch" or not by_reference & alarms


def test_every_container_is_confined(documents: list[Document]) -> None:
    user = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert user is not None
    for name, pod in pods(documents).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert [one["mountPath"] for one in container["volumeMounts"]] == ["/tmp"]


def test_collecting_needs_redis_only_and_reading_needs_both(documents: list[Document]) -> None:
    probes = {one["name"]: one for one in containers(documents)}
    for name, purpose in (("collector", "collecting"), ("reader", "reading")):
        assert probes[name]["readinessProbe"]["httpGet"]["path"] == f"/readyz?for={purpose}"
        assert probes[name]["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert probes[name]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    for name in set(probes) - {"migrate", "watch"}:
        assert "livenessProbe" in probes[name], name


def test_a_redis_that_is_away_for_minutes_restarts_no_worker(documents: list[Document]) -> None:
    asked = {one["name"]: one.get("livenessProbe", {}) for one in containers(documents)}
    for name in ("events", "flush", "beat"):
        probe = asked[name]
        assert probe["exec"]["command"][-1].endswith(
            f"{name.replace('beat', 'celerybeat')}@$HOSTNAME"
        )
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 600


def test_there_is_time_for_a_warm_end(documents: list[Document]) -> None:
    grace = {name: pod["terminationGracePeriodSeconds"] for name, pod in pods(documents).items()}
    assert grace["events"] >= 2 * ENDS_WITHIN_S
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for ours, theirs in {"events": "events", "flush": "flush", "collector": "web"}.items():
        assert grace[ours] >= int(compose[theirs]["stop_grace_period"].removesuffix("s")), ours


def test_a_budget_and_a_service_choose_the_pods_of_one_deployment(
    documents: list[Document],
) -> None:
    deployments = of_kind(documents, "Deployment")
    budgets, services = of_kind(documents, "PodDisruptionBudget"), of_kind(documents, "Service")
    assert {"demo-collector", "demo-reader", "demo-events", "demo-flush"} == set(budgets)
    chosen = {name: one["spec"]["selector"]["matchLabels"] for name, one in budgets.items()}
    chosen |= {name: one["spec"]["selector"] for name, one in services.items()}
    for name, labels in chosen.items():
        wearing = [
            other
            for other, one in deployments.items()
            if labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert wearing == [name]
    for one in of_kind(documents, "Ingress").values():
        for rule in one["spec"]["rules"]:
            assert rule["http"]["paths"][0]["backend"]["service"]["name"] in services


def test_the_tables_are_migrated_before_a_release(documents: list[Document]) -> None:
    [job] = of_kind(documents, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["analytics", "migrate"]


def test_keda_scales_the_event_workers_by_their_queue() -> None:
    documents = render(*VARIANTS["scaled"])
    [scaled] = of_kind(documents, "ScaledObject").values()
    target = of_kind(documents, "Deployment")[scaled["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"]
    assert target["metadata"]["name"] == "demo-events"
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"] == {
        "listName": queues_of("shop:").events,
        "listLength": "50000",
        "databaseIndex": "0",
        "enableTLS": "false",
    }
    [login] = of_kind(documents, "TriggerAuthentication").values()
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    assert {one["parameter"] for one in login["spec"]["secretTargetRef"]} == {"address", "password"}
    plain = render("--set", "events.keda.enabled=true")
    [trigger] = next(iter(of_kind(plain, "ScaledObject").values()))["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == queues_of("analytics:").events


def test_the_settings_given_to_containers_are_accepted(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {
        "REDIS": "redis://r",
        "POSTGRES": "postgresql://u@p/a",
        "BROKER": "amqp://r",
        "ALARM_WEBHOOK": "https://w",
        "ALARM_SMTP": "smtp://m",
    }
    for name in os.environ:
        if name.startswith("ANALYTICS_"):
            monkeypatch.delenv(name)
    for container in containers(documents):
        for one in container["env"]:
            name = one["name"].removeprefix("ANALYTICS_").removesuffix("_URL")
            of_secret = urls.get(name, "a secret of some length")
            monkeypatch.setenv(one["name"], one.get("value", of_secret))
        settings = load()
        if "ANALYTICS_COUNT_BY" in {one["name"] for one in container["env"]}:
            assert settings.count_by == {"sale": ["plan"]}
            assert settings.event_log_max_bytes == 1_073_741_824


def test_the_chart_has_the_version_of_the_project() -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (declared[1], declared[1])
