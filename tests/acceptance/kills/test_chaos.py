"""The short form of the campaign in `tests/chaos`: everything is killed, every count is right."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers.support import ROOT, environment_without_settings

KILLS = 44
LIMIT_S = 170


@pytest.mark.timeout(LIMIT_S + 20)
def test_nothing_is_lost_or_counted_twice_while_everything_is_killed() -> None:
    campaign = subprocess.run(
        [sys.executable, "-m", "tests.chaos", f"--kills={KILLS}", "--events=10000"],
        cwd=ROOT,
        env=environment_without_settings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = campaign.stdout
    assert campaign.returncode == 0, said
    assert "crash points that never fired" not in said, said
    *_, last = said.strip().splitlines()
    found = re.fullmatch(
        r"kills (\d+), events (\d+), unknown \d+, lost 0, doubled 0, seed \d+", last
    )
    assert found is not None, said
    assert int(found[1]) >= KILLS
    assert int(found[2]) >= 10_000
