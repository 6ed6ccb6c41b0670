"""The study of docs/interval_coverage.py, on a smaller scale."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import interval_coverage

    return interval_coverage


@pytest.mark.parametrize("pairing", ["random", "matched by strength", "ladder"])
def test_default_prior_covers_and_a_narrow_one_does_not(study, pairing):
    wide, _, fits = study.coverage(pairing, 10.0, games=1000, repeats=40)
    assert fits == 40
    assert 0.90 <= wide <= 0.99  # 95 % of 800, some 4 of each 20 independent
    narrow, _, _ = study.coverage(pairing, 1.0, games=1000, repeats=40)
    assert narrow < (0.9 if pairing == "random" else 0.5)


def test_page_is_that_of_the_study(study):
    text = (DOCS / "interval_coverage.md").read_text()
    numbers = {
        (pairing, games, prior): (0.5, 1.0, 500)
        for pairing in study.PAIRINGS
        for games in (300, 1000, 3000)
        for prior in study.PRIORS
    }
    expected = study.page(numbers, 500)

    def prose(page):
        return [line for line in page.split("\n") if not line.startswith("| ")]

    assert prose(text) == prose(expected)
    assert text.count("\n| ") == expected.count("\n| ")
