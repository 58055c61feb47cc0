"""Whether the installed libraries are of the versions that this package names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

PACKAGE = "analytics-pipeline"
_EXTRAS = ("", "server")


def find_unfit_libraries() -> list[str]:
    """Those that are not, each as "redis 4.0 (wanted: >=5)"; none where this package itself is not
    installed but run from its sources."""
    try:
        wanted = requires(PACKAGE) or []
    except PackageNotFoundError:
        return []
    found: dict[str, str] = {}
    for requirement in map(Requirement, wanted):
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": one}) for one in _EXTRAS):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            continue  # it says so itself when it is needed
        if not requirement.specifier.contains(installed, prereleases=True):
            found[requirement.name] = f"{installed} (wanted: {requirement.specifier})"
    return [f"{name} {what}" for name, what in sorted(found.items())]
