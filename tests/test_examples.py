"""The examples in docs/examples run as they stand, in an empty folder."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from fer_models.readers import read

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(text):
    """The words after fedfer of every line that begins with it."""
    return [shlex.split(line) for line in re.findall(r"^ *fedfer (.+)$", text, re.MULTILINE)]


def test_a_first_study(folder):
    runpy.run_path(str(EXAMPLES / "research.py"))
    table = pd.read_csv(folder / "study" / "table.csv")
    assert list(table.columns) == ["alpha", "system", "accuracy", "low", "high", "worst recall"]
    assert len(table) == 4
    assert (table.low <= table.accuracy).all() and (table.accuracy <= table.high).all()
    assert (folder / "study" / "curves.png").stat().st_size > 5000


def test_an_audit_of_what_somebody_else_s_system_said(folder, fedfer):
    shutil.copy(EXAMPLES / "predictions.csv", folder)
    told = [fedfer(*words) for words in commands((EXAMPLES / "audit_predictions.sh").read_text())]
    assert [(code, err) for code, _, err in told] == [(0, "")] * 5
    assert "female" in told[0][1]
    assert (folder / "audited" / "audit.html").is_file()
    (folder / "signed" / "audit.json").write_text("{}")
    assert fedfer("audit", "verify", "signed", "key=auditor.key.pub")[0] == 15, (
        "the last line checks something"
    )


def test_a_data_set_of_a_site_s_own_form(folder, fedfer):
    text = (EXAMPLES / "own_site.py").read_text()
    runpy.run_path(str(EXAMPLES / "own_site.py"), run_name="__main__")
    told = [fedfer(*words) for words in commands(text)]
    assert [(code, err) for code, _, err in told] == [(0, "")] * 4
    assert told[0][1] == "180 rows, nothing to correct\n"
    assert told[-1][1].endswith("ready\n")
    samples = read("imagefolder", folder / "ward", size=48, channels=1)
    assert len(samples) == 180
    assert set(samples.labels) == {"neutral", "happiness", "surprise"}
    assert "undisclosed" in set(samples.groups["age"])
