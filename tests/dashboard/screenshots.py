"""The command behind `make screenshots`: the pictures of the dashboard and of Flower in the
documentation."""

from __future__ import annotations

import argparse
import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.upkeep.condition.history import take_sample
from tests.browser.site import need_chromium
from tests.dashboard import flower_pictures
from tests.dashboard.events import make_latest
from tests.dashboard.stage import DashboardStage, dashboard_stage
from tests.helpers.support import ROOT, count_events

FOLDER = ROOT / "docs/guides/dashboard/pictures"
SIZES = {"desktop": (1280, 1080), "phone": (375, 812)}
SCHEMES = ("light", "dark")
_RANGE = "from=2025-03-24&to=2025-04-20"
PAGES = {
    "overview": f"/dashboard?{_RANGE}&measure=sum:purchase:amount",
    "event-type": f"/dashboard/type?type=purchase&{_RANGE}",
    "live": "/dashboard/live",
    "funnels": "/dashboard/funnels?step1=page_view&step2=add_to_cart&step3=purchase"
    f"&window=7d&{_RANGE}",
    "retention": "/dashboard/retention?start=page_view&every=week&from=2025-02-17&to=2025-04-20",
    "pipeline": "/dashboard/pipeline",
}
_COLOURS = 256
_WAIT_MS = 30_000


def main() -> int:
    """Make the pictures that the command line asks for; returns 1 when one could not be made."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboard.screenshots")
    every = [*PAGES, *flower_pictures.PAGES]
    parser.add_argument("--only", nargs="+", choices=every, metavar="NAME", default=every)
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    options = parser.parse_args()
    of_flower = [name for name in options.only if name in flower_pictures.PAGES]
    options.only = [name for name in options.only if name in PAGES]
    with (
        dashboard_stage() as stage,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=need_chromium()) as browser,
    ):
        for size in SIZES if options.only else ():
            for scheme in SCHEMES:
                _take_all(browser, stage, (size, scheme), options)
        if of_flower:
            flower_pictures.take_pictures(browser, stage, of_flower, _shrink)
    return 0


def _take_all(
    browser: Browser, stage: DashboardStage, look: tuple[str, str], options: argparse.Namespace
) -> None:
    size, scheme = look
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{stage.web.origin}/dashboard/sign-in")
    page.fill("[name=token]", stage.token)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard")
    for name in options.only:
        _open(page, stage, name)
        file = options.output / size / f"{name}-{scheme}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_shrink(page.screenshot()))
        sys.stdout.write(f"{file}  {file.stat().st_size // 1024} kB\n")
    context.close()


def _open(page: Page, stage: DashboardStage, name: str) -> None:
    """Open a page and wait until it shows what it is about."""
    services = stage.services
    take_sample(services.redis, services.keys, with_queue=True)
    page.goto(f"{stage.web.origin}{PAGES[name]}")
    if name == "live":
        page.wait_for_selector("#live-state:has-text('As it happens')")
        for _ in range(3):
            events = make_latest(datetime.now(UTC))[-2:]
            count_events(services, *events)
            services.redis.hincrby(services.keys.totals, "published", len(events))
            page.wait_for_timeout(1_000)
    if name in ("funnels", "retention"):
        page.wait_for_selector("#result figure, #result table", timeout=_WAIT_MS)
        if page.viewport_size == dict(zip(("width", "height"), SIZES["phone"], strict=True)):
            page.locator("#result").evaluate("(card) => card.scrollIntoView()")


def _shrink(png: bytes) -> bytes:
    """The picture with its most frequent colours alone: surfaces are flat, and edges of letters may
    have the nearest one."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    found = sorted(picture.getcolors(picture.width * picture.height) or (), reverse=True)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in found[:_COLOURS] for part in colour])
    packed = io.BytesIO()
    few = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    few.save(packed, "png", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    sys.exit(main())
