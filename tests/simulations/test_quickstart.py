"""What make demo runs, with fewer pictures and rounds, up to the page in a real browser."""

import json

import numpy as np
import pytest
from PIL import Image

from simulations.cli import main

LESS = ["data.options.count=1600", "server.rounds=6", "server.evaluate_every=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("quickstart") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["compare", "experiment=quickstart", *LESS, "engine.workers=2", "--run-dir", str(path)])
    assert ended.value.code == 0
    return path


@pytest.mark.slow
def test_the_quickstart_compares_private_federation_with_its_baselines(folder):
    summary = json.loads((folder / "summary.json").read_text())
    systems = summary["systems"]
    assert set(systems) == {
        "pooled",
        "local_only",
        "federated_without_privacy",
        "pooled_private",
        "federated",
    }
    assert summary["data"]["sites"] == len(systems["federated"]["per_site"]) == 8
    assert 0 < systems["federated"]["epsilon"] <= 8
    chance = 1 / summary["data"]["classes"]
    assert systems["pooled"]["accuracy"] > 1.5 * chance
    assert systems["pooled"]["accuracy"] >= systems["local_only"]["accuracy"]
    assert json.loads((folder / "state.json").read_text()) == {"status": "complete"}


@pytest.mark.slow
@pytest.mark.browser
def test_its_report_opens_in_a_real_browser(folder, browse, tmp_path):
    picture = tmp_path / "page.png"
    out, log = browse(tmp_path, folder / "report.html", "--dump-dom")
    assert "CONSOLE" not in log
    for words in ("quickstart", "site-7", "disgust", "epsilon"):
        assert words in out
    browse(tmp_path, folder / "report.html", f"--screenshot={picture}", "--window-size=1200,3000")
    with Image.open(picture) as image:
        gray = np.asarray(image.convert("L"), np.int16)
    ink = np.abs(gray - np.median(gray)) > 80
    assert 0.005 < ink.mean() < 0.4
    assert all(part.any() for part in np.array_split(ink, 15))
