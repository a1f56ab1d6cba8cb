"""Private runs of other kinds than most, through the real command: persons and views, and layers that Opacus serves."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from client.ledger import Ledger, close_all
from fer_models import zoo
from fer_models.errors import PrivacyError

WORDS = ["simulate", "partition.sites=2", "server.rounds=1", "engine.workers=1", "privacy=dp"]
WORDS += ["local.rate=0.2", "local.amount=1", "privacy.allow_useless=true", "privacy.target_epsilon=6"]


@pytest.fixture
def ledgers():
    yield lambda folder: [Ledger(path, read_only=True) for path in sorted(folder.glob("ledger/*.sqlite"))]
    close_all()


def test_persons_are_protected_with_all_their_pictures_and_views(fedfer, tmp_path, ledgers):
    people = ["data.options.count=120", "data.options.pictures_per_person=3", "model=cnn_tiny"]
    unit = ["privacy.unit=subject", "privacy.views=2", "local.augment=true"]
    folder = tmp_path / "run"
    code, _, err = fedfer(*WORDS, *people, *unit, "--run-dir", str(folder))
    assert (code, err) == (0, "")
    plan = json.loads((folder / "plan.json").read_text())["plan"]["privacy"]
    assert (plan["unit"], plan["views"]) == ("subject", 2)
    for ledger in ledgers(folder):
        ((mechanism,),) = [ledger.history()]
        assert (mechanism.unit, mechanism.rate, mechanism.count) == ("subject", 0.2, 1)
    figures = json.loads((folder / "summary.json").read_text())["systems"]["federated"]
    assert figures["unit"] == "subject"
    assert 5.99 < figures["epsilon"] <= 6
    assert figures["epsilon_note"] is None
    page = (folder / "report.html").read_text()
    assert "for one person with all pictures of one site over all rounds" in page
    assert "differential privacy, per person" in page
    assert "a person with several pictures: the guarantee for the person is weaker" not in page
    assert "for one person with all pictures; a simulation" in (folder / "model" / "README.md").read_text()
    assert "subject" in fedfer("site", "ledger", str(folder))[1]
    one = fedfer("site", "ledger", str(folder), "--site", "site-0")[1]
    assert "whether one person with all pictures was among its training data with epsilon 6.00 at most" in one


class Rows(nn.Module):
    """A net with a layer for which Opacus has a formula and the book has none."""

    def __init__(self, classes):
        super().__init__()
        self.rows, self.head = nn.Conv1d(48, 6, 5, stride=3), nn.Linear(6, classes)

    def forward(self, x):
        return self.head(self.rows(x.reshape(len(x), 48, 48)).relu().mean(2))


def test_layers_that_the_book_does_not_know_need_leave(fedfer, refused, tmp_path, monkeypatch, ledgers):
    rows = zoo.Net(lambda spec: Rows(spec.classes), 0, "a test")
    monkeypatch.setitem(zoo.NETS, "rows", rows)  # type: ignore[arg-type]
    words = [*WORDS, "data.options.count=100", "model.name=rows", "--run-dir", str(tmp_path / "run")]
    refusal = fedfer(*words)
    assert refused(refusal, PrivacyError, "for Conv1d (rows.weight, rows.bias).", "privacy.allow_slow=true")
    assert not (tmp_path / "run").exists()
    assert fedfer(*words, "privacy.allow_slow=true")[::2] == (0, "")
    assert [len(ledger.events) for ledger in ledgers(tmp_path / "run")] == [1, 1]
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    assert plan["privacy"]["allow_slow"]
    start = zoo.build(zoo.ModelSpec(**plan["model"]), plan["seed"]).state_dict()
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert found.keys() == start.keys()
    assert all(bool(torch.isfinite(each).all()) for each in found.values())
    assert not any(torch.equal(found[name], start[name]) for name in start)
