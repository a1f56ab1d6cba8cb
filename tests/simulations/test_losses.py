"""``fedfer losses``, and a whole run with a loss that has parameters of its own."""

import json
from pathlib import Path

from client.work import LocalWork
from fer_models.errors import ConfigError, PrivacyError
from fer_models.loss_table import TABLE

ROOT = Path(__file__).parent.parent.parent

SMALL = (
    "data.options.count=210",
    "model=fer_nano",
    "partition.sites=3",
    "server.rounds=2",
    "engine.workers=1",
)


def test_losses_are_told_with_the_guards_verdict(fedfer, tmp_path):
    file = tmp_path / "losses.json"
    code, out, _ = fedfer("losses", "mixup", "centre", "--json", str(file))
    assert code == 0
    assert "refused: the" in out
    told = {row["name"]: row for row in json.loads(file.read_text())["losses"]}
    assert told["centre"]["private"] and not told["centre"]["reason"]
    assert not told["mixup"]["private"]
    assert told["mixup"]["reason"] == "the loss of one picture reacts to another picture of the batch"


def test_an_unknown_loss_is_told_the_nearest(fedfer, refused):
    assert refused(fedfer("losses", "centr"), ConfigError, "Did you mean centre?")
    assert refused(
        fedfer("simulate", "local.loss=centr", *SMALL), ConfigError, "local.loss", "Did you mean centre"
    )


def test_every_loss_of_the_table_is_explained():
    page = (ROOT / "docs" / "losses.md").read_text()
    for name in TABLE:
        assert f"| `{name}` |" in page
    assert LocalWork().loss in TABLE


def test_centres_are_summed_under_masks_and_left_out_of_the_model(fedfer, tmp_path):
    words = (*SMALL, "aggregation=secure", "local.loss=centre", "--run-dir", str(tmp_path / "run"))
    code, _, err = fedfer("simulate", *words)
    assert (code, err) == (0, "")
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["parameters"] == 79_575
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["federated"]
    centres = 7 * 96
    assert told["bytes_up"] >= 2 * 3 * 4 * (79_575 + centres)


def test_a_coupled_loss_is_refused_before_a_run_folder_is_made(fedfer, refused, tmp_path):
    words = ("privacy=dp", "local=private", "server=fedadam_private", "local.loss=relative_uncertainty")
    found = fedfer("simulate", *SMALL, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, PrivacyError, "reacts to another picture")
    assert not (tmp_path / "run").exists()
