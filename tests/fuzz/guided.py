"""The properties of `properties.py` guided by coverage: inputs that reach code not yet run are kept
and changed further.

    python -m tests.fuzz.guided NAME --seconds 60

The engine is atheris, which is large and made for Linux alone, so it is not among what every
developer installs: `make fuzz` puts it into build/, checked by its hash, and goes on without it
where it cannot be had. What it finds fails with the input's traceback, and Hypothesis shows it
again in the tests.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "build/atheris"
PINNED = Path(__file__).with_name("atheris.lock")
LONGEST_INPUT_BYTES = 4_096


def main() -> int:
    """Run one property, or with no name all by turns; returns 1 when one does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("name", nargs="?", help="the property; all, one after the other, if none")
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    options = parser.parse_args()
    if not install():
        print("atheris cannot be installed here: nothing is guided by coverage", file=sys.stderr)
        return 0
    if options.name:
        run(options.name, options.seconds)  # does not return
    from tests.fuzz.properties import PROPERTIES

    share = max(1, options.seconds // len(PROPERTIES))
    command = [sys.executable, "-m", "tests.fuzz.guided", "--seconds", str(share)]
    return max(
        min(1, subprocess.run([*command, name], cwd=ROOT, check=False).returncode)
        for name in PROPERTIES
    )


def install() -> bool:
    """Have the engine in build/; False where there is none for this machine."""
    if not (ENGINE / "atheris").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        command = [*pip, "--target", str(ENGINE), "--requirement", str(PINNED)]
        return subprocess.run(command, check=False).returncode == 0
    return True


def run(name: str, seconds: int) -> None:
    """Try one property for so long, and end this process as it went."""
    sys.path.append(str(ENGINE))
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["config", "pipeline", "tasks"]):
        properties = importlib.import_module("tests.fuzz.properties")
    check = properties.PROPERTIES[name]
    corpus = ROOT / "build/fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    bounds = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT_BYTES}", "-verbosity=0"]
    print(f"guided by coverage: {name}, {seconds} s", flush=True)
    atheris.Setup([sys.argv[0], str(corpus), *bounds], check.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
