import pytest

from pipeline.errors import InvalidEntry
from pipeline.sharing.texts import check_text


@pytest.mark.parametrize("said", ["a", "  Version 2 <b>went</b> out ", "x" * 10, "ü – 日本"])
def test_plain_text_is_kept_without_spaces_around_it(said: str) -> None:
    assert check_text("text", said, 30) == said.strip()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("x" * 31, "31 characters"),
        ("two\nlines", "one line"),
        ("a\x00b", "control"),
        ("\ud800", "control"),
    ],
)
def test_other_text_is_refused(said: str, why: str) -> None:
    with pytest.raises(InvalidEntry, match=f"^text: .*{why}"):
        check_text("text", said, 30)
