"""The page of an audit through each of the three doors."""

import re

import pytest


@pytest.fixture
def sections(fedfer, tmp_path):
    """Audit what the words name into a folder: the sections of its page, and its text."""

    def run(*words):
        code, _, err = fedfer("audit", *words, "--out", str(tmp_path / "audit"))
        assert (code, err) == (0, "")
        page = (tmp_path / "audit" / "audit.html").read_text()
        return re.findall(r'<section id="(\w+)"', page), page

    return run


def test_a_model_s_page(compared, words, sections):
    found, page = sections(f"model={compared}", *(word for word in words if not word.startswith("model=")))
    assert {"recall", "groups", "privacy", "data", "limits", "methods"} <= set(found)
    assert not {"sites", "pareto"} & set(found)
    assert "skin tone" in page
    assert str(compared.parent) not in page


def test_a_run_s_page(compared, sections):
    found, page = sections(f"run={compared}")
    assert {"recall", "groups", "sites", "pareto", "privacy", "data", "origin"} <= set(found)
    for text in ("test run", "Federated, epsilon 5.0", "Each site alone", "site-2", "Whom it asks to trust"):
        assert text in page
    assert str(compared.parent) not in page


def test_another_system_of_a_run_is_named(compared, sections):
    _, page = sections(f"run={compared}", "system=pooled")
    assert "<strong>test run</strong>: Pooled</p>" in page


def test_a_page_of_predictions(sections, tmp_path):
    rows = [("happy", guess, sex) for sex, right in (("f", 45), ("m", 20)) for guess in ["happy"] * right]
    rows += [("happy", "sad", sex) for sex, wrong in (("f", 5), ("m", 30)) for _ in range(wrong)]
    lines = "".join(",".join(row) + "\n" for row in rows)
    (tmp_path / "votes.csv").write_text("true,predicted,sex\n" + lines)
    found, page = sections(f"predictions={tmp_path / 'votes.csv'}")
    assert found[:2] == ["recall", "groups"]
    assert "It is right less often for “m” (sex) than for “f”" in page
    assert "votes.csv" in page
    assert str(tmp_path) not in page
