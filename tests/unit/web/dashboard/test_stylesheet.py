"""The stylesheet: contrast of every pair of colours, and what is served of it."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources

import pytest

from pipeline.web.dashboard.assets.assets import find_asset_url
from pipeline.web.dashboard.journeys.retention import SHADES

ASSETS = resources.files("pipeline.web.dashboard.assets")
STYLE = ASSETS.joinpath("dashboard.css").read_text("utf-8")
SCRIPTS = sorted(
    file.name
    for file in ASSETS.iterdir()
    if file.name.endswith(".js") and not file.name.startswith("vendored.")
)
MOST_SCRIPT_BYTES = 12 * 1024

SURFACES = ("page", "surface", "raised", "accent-soft")
TEXTS = [
    *((text, surface) for text in ("text", "muted", "accent") for surface in SURFACES),
    *((text, surface) for text in ("good", "bad") for surface in ("surface", "page")),
    ("text", "share"),
    ("accent", "share"),
    ("muted", "share"),
    *(("text", f"heat-{shade}") for shade in SHADES),
    ("on-accent", "accent"),
    ("warn", "warn-soft"),
    ("bad", "bad-soft"),
]
GRAPHICS = [
    *((line, "surface") for line in ("chart", "chart-before", "chart-mark", "field", "accent")),
    *((line, "chart-area") for line in ("chart", "chart-before", "chart-mark")),
    ("field", "page"),
]


def colours(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([a-z-]+): (#\w{6});", dark))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("one", "other", "least"), [*((*pair, 4.5) for pair in TEXTS), *((*p, 3.0) for p in GRAPHICS)]
)
def test_every_pair_of_colours_has_contrast(
    scheme: str, one: str, other: str, least: float
) -> None:
    found = colours(scheme)
    assert contrast(found[one], found[other]) >= least


def test_colours_stand_only_where_they_are_declared() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?!bb)", rules.replace("#bbb", ""))


def test_scripts_are_small_and_evaluate_nothing() -> None:
    assert {"dashboard.js", "charts.js", "live.js"} <= set(SCRIPTS)
    for name in SCRIPTS:
        assert find_asset_url(name), f"{name} is measured here and not served"
    texts = [ASSETS.joinpath(name).read_text("utf-8") for name in SCRIPTS]
    assert sum(len(text.encode()) for text in texts) <= MOST_SCRIPT_BYTES
    for text in texts:
        assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", text)


def test_what_is_vendored_is_what_the_lock_says() -> None:
    for entry in json.loads(ASSETS.joinpath("vendored.json").read_text()).values():
        for name, file in entry["files"].items():
            body = ASSETS.joinpath(name).read_bytes()
            assert hashlib.sha256(body).hexdigest() == file["sha256"], name


def test_the_name_of_a_file_has_its_digest() -> None:
    digest = hashlib.sha256(STYLE.encode()).hexdigest()[:12]
    assert find_asset_url("dashboard.css") == f"/dashboard/assets/dashboard.{digest}.css"
