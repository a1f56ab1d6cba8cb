"""What a run keeps or is told, changed into something else: one typed error that names the place, never a traceback."""

import json

import pytest

import server.rounds as rounds
from client.messages import with_fact
from fer_models.errors import ConfigError, RunFolderError
from server.books import Books
from server.run_folder import RunFolder
from simulations.federated import run_local

DAMAGED = {
    "no round": lambda facts: facts.pop("round"),
    "a round of words": lambda facts: facts.update(round="two"),
    "no totals": lambda facts: facts.update(totals=None),
    "totals of another version": lambda facts: facts["totals"].update(joules=1.0),
    "epsilons as a list": lambda facts: facts.update(epsilon=[1.0]),
    "an epsilon of words": lambda facts: facts["epsilon"].update({"site-0": "little"}),
    "ledgers as a list": lambda facts: facts.update(ledgers=["site-0"]),
    "a prior of words": lambda facts: facts.update(prior=["much"]),
    "counts that are none": lambda facts: facts.update(counts={"site-0": {"labels": 3}}),
    "a line of words": lambda facts: facts.update(pending="soon"),
    "no time": lambda facts: facts.pop("seconds"),
}


class Killed(BaseException):
    pass


def stop(record):
    if record["round"] == 1:
        raise Killed


@pytest.fixture(scope="module")
def begun(tmp_path_factory, plan_of, sites_of):
    """A private run that was killed after its first round: its plan, sites and folder."""
    path = tmp_path_factory.mktemp("damaged")
    plan, sites = plan_of(private=True, rounds=3), sites_of(ledgers=path / "ledger")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
        run_local(plan, sites, RunFolder(path / "run"), "federated", 1, stop)
    return plan, sites, RunFolder(path / "run")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_checkpoint_that_holds_something_else_is_refused(begun, tmp_path, kind):
    plan, sites, folder = begun
    tensors, facts = folder.load_checkpoint("checkpoint-federated")
    assert facts["round"] == 1
    DAMAGED[kind](facts)
    changed = RunFolder(tmp_path)
    changed.save_checkpoint("checkpoint-federated", tensors, facts)
    with pytest.raises(RunFolderError, match=r"a damaged file .*checkpoint-federated\.safetensors") as error:
        run_local(plan, sites, changed, "federated", 1, lambda _: None)
    assert error.value.cure == "Delete it to start again."


def test_tensors_of_another_net_are_refused(begun, tmp_path):
    plan, sites, folder = begun
    tensors, facts = folder.load_checkpoint("checkpoint-federated")
    changed = RunFolder(tmp_path)
    changed.save_checkpoint("checkpoint-federated", {k: v[:-1] for k, v in tensors.items() if v.dim()}, facts)
    with pytest.raises(RunFolderError, match="a damaged file"):
        run_local(plan, sites, changed, "federated", 1, lambda _: None)


LINES = ["7", "[]", '{"round": 1}', '{"system": "federated"}', '{"system": "federated", "round": "1"}']


@pytest.mark.parametrize("line", LINES)
def test_lines_that_are_no_records_are_refused(tmp_path, line):
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(RunFolderError, match=r"a damaged file .*metrics\.jsonl"):
        folder.forget_after("federated", 3)


@pytest.mark.parametrize("content", ["7", "[]", "null", '{"status": 3}'])
def test_a_state_that_says_nothing_is_not_complete(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    assert not RunFolder(tmp_path).complete


@pytest.mark.parametrize("given", ["{", "[[1.0, 0.1, 3]]", json.dumps([{"name": "gaussian", "noise": -1.0}])])
def test_a_history_that_is_none_is_refused_with_its_site(plan_of, sites_of, tmp_path, monkeypatch, given):
    plan = plan_of(private=True, rounds=1)
    charge = Books.charge
    monkeypatch.setattr(
        Books, "charge", lambda self, content: charge(self, with_fact(content, "history", given))
    )
    with pytest.raises(ConfigError, match=r"\(history of site-0") as error:
        run_local(
            plan, sites_of(ledgers=tmp_path / "ledger"), RunFolder(tmp_path / "run"), "federated", 1, print
        )
    assert "\n" not in str(error.value)
    assert error.value.cure
