"""ANALYTICS_SUM: which properties are summed, and with how many decimals."""

from __future__ import annotations

import pytest

from tests.unit.config.test_settings import complaint, loaded


def test_what_is_summed_is_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, SUM='{"sale": {"total": 2, "tax": 0}, "view": {"s": 9}}')
    assert settings.sum == {"sale": {"total": 2, "tax": 0}, "view": {"s": 9}}
    assert loaded(monkeypatch, SUM="{}").sum == {}
    monkeypatch.delenv("ANALYTICS_SUM")
    assert loaded(monkeypatch).sum == {"time_on_page": {"seconds": 3}}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("sale:total", 'must be JSON such as {"sale": {"total": 2}}'),
        ('{"sale": {"total": 2}', 'must be JSON such as {"sale": {"total": 2}}'),
        *(
            (value, 'must be a JSON object of properties and decimals, such as {"sale": {"total": ')
            for value in (
                *('["sale"]', '"sale"', "2", '{"sale": ["total"]}', '{"sale": {"total": null}}'),
                *(
                    '{"sale": {"total": "2"}}',
                    '{"sale": {"total": 2.5}}',
                    '{"sale": {"total": []}}',
                ),
                '{"sale": {"total": true}}',
            )
        ),
        ('{"sale": {"total": -1}}', "'total' of 'sale' keeps -1 decimals; give 0 to 9"),
        ('{"sale": {"total": 10}}', "'total' of 'sale' keeps 10 decimals; give 0 to 9"),
        ('{"": {"total": 2}}', "'' cannot be an event type"),
        ('{"sale": {"": 2}}', "a property of 'sale' has no name"),
    ],
)
def test_sums_of_another_shape_are_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    assert f"ANALYTICS_SUM={value}: {reason}" in complaint(monkeypatch, SUM=value)
