"""What `make docs` adds to mkdocs: pages and pictures that lie outside docs/, and their links.

Links in the sources are those of the tree, so that they work where the repository is shown. A
picture with a dark version becomes two, of which the site shows the one of its palette.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "explanation/how-benchmarks-measure.md",
    "benchmarks/results.png": "explanation/pictures/results.png",
    "benchmarks/growth.png": "explanation/pictures/growth.png",
}
"""Path in the tree -> path in the site."""

_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
_PICTURE = re.compile(
    r'<picture>\s*<source[^>]*srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">\s*</picture>'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/."""
    for path, uri in _OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(_ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links across the border of docs/ at their pages in the site."""
    places = {uri: path for path, uri in _OUTSIDE.items()}
    uri = page.file.src_uri
    here = posixpath.dirname(places.get(uri, f"docs/{uri}"))

    def point(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, link[1]))
        if path in _OUTSIDE:
            to = _OUTSIDE[path]
        elif uri in places and path.startswith("docs/"):
            to = path.removeprefix("docs/")
        else:
            return link[1]
        return posixpath.relpath(to, posixpath.dirname(uri) or ".")

    markdown = _PICTURE.sub(r"![\2](\3#only-light)\n![\2](\1#only-dark)", markdown)
    return _LINK.sub(point, markdown)
