"""The command behind `make reference`: writes the pages that are made from the code."""

from __future__ import annotations

from tests.reference.pages import PAGES, REFERENCE


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
