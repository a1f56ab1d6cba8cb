"""Rounds and the sites' ledgers: the coordinator remembers where each stood, and no old copy passes."""

from dataclasses import replace

import pytest
import torch

import server.rounds as rounds
from client.app import make_app
from client.ledger import Head, Ledger, close_all
from client.messages import facts_of
from fer_models.errors import PrivacyError
from server.books import Books
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import run_local
from simulations.grid import LocalGrid


class Killed(BaseException):
    pass


def interrupted(at):
    def observe(record):
        if record["round"] == at:
            raise Killed

    return observe


def run(plan, sites, folder, observer=None):
    return run_local(plan, sites, RunFolder(folder), "federated", 1, observer or (lambda _: None))


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put_back(folder, files):
    close_all()
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_a_ledger_restored_from_an_old_copy_stops_a_run_that_goes_on(
    plan_of, sites_of, tmp_path, monkeypatch
):
    """The checkpoint remembers where the ledgers stood; one that is ahead of it is right, one behind is not."""
    plan, ledgers, parts = plan_of(private=True, rounds=4), tmp_path / "ledger", tmp_path / "parts"
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
    copies = []
    for at in (1, 2):  # told in the round after, when the ledgers are written
        with pytest.raises(Killed):
            run(plan, sites_of(ledgers=ledgers), parts, interrupted(at))
        close_all()
        copies.append(held(ledgers))
    facts = RunFolder(parts).load_checkpoint("checkpoint-federated")[1]
    assert facts["round"] == 2
    told = {site: Head.of(text) for site, text in facts["ledgers"].items()}
    assert [head.number for head in told.values()] == [2, 2, 2]
    heads = {site: Ledger(ledgers / f"{site}.sqlite").head for site in told}
    assert [head.number for head in heads.values()] == [3, 3, 3], "ahead of the checkpoint"
    for site, head in told.items():
        Ledger(ledgers / f"{site}.sqlite", site).require_contains(head)

    whole = run(plan, sites_of(ledgers=ledgers), tmp_path / "parts")
    assert whole.vector.isfinite().all()
    put_back(ledgers, copies[0])
    (parts / "checkpoint-federated.safetensors").unlink()
    again = run(plan, sites_of(ledgers=ledgers), parts)  # from the start: the same releases over again
    assert torch.equal(again.vector, whole.vector)
    assert again.epsilon == whole.epsilon

    put_back(ledgers, copies[0])
    with pytest.raises(PrivacyError, match=r"older .*2 entries where 4 are known: restored from a copy\?"):
        run_on(plan, sites_of(ledgers=ledgers), parts)


def run_on(plan, sites, folder):
    """Ask for one round more than the checkpoint holds."""
    grid = LocalGrid(make_app(sites), {i + 1: {"partition-id": i} for i in range(3)})
    coordinator = Coordinator(plan, RunFolder(folder), "federated")
    nodes, sites = coordinator.begin(grid)
    coordinator._train(sites, nodes, 4)


def test_only_private_training_is_told_where_the_ledgers_stood(plan_of, sites_of, tmp_path):
    told = []

    class Watched(LocalGrid):
        def push_messages(self, messages):
            kept = list(messages)
            told.extend((m.metadata.message_type, m.content) for m in kept if "facts" in m.content)
            return super().push_messages(kept)

    for private in (True, False):
        told.clear()
        sites = sites_of()
        grid = Watched(make_app(sites), {i + 1: {"partition-id": i} for i in range(3)})
        Coordinator(plan_of(private=private, rounds=3), RunFolder(tmp_path / str(private)), "federated").run(
            grid
        )
        trained = [content for kind, content in told if kind == "train"]
        assert len(trained) == 9
        assert ["ledger" in facts_of(content) for content in trained] == [False] * 3 + [private] * 6
        assert not any("ledger" in facts_of(content) for kind, content in told if kind == "evaluate")
        assert len({id(content["vector"]) for content in trained}) == 3, "one vector a round, not one a site"
        numbers = [Head.of(facts_of(content)["ledger"]).number for content in trained[3:] if private]
        assert numbers == [1, 1, 1, 2, 2, 2][: len(numbers)]


def test_a_ledger_without_a_finite_epsilon_stops_the_run(plan_of, sites_of, tmp_path):
    plan = plan_of(private=True, rounds=1)
    plan = replace(plan, privacy=replace(plan.privacy, noise_multiplier=1e-200))
    with pytest.raises(PrivacyError, match="no finite epsilon"):
        run(plan, sites_of(), tmp_path)


def test_a_checkpoint_is_written_before_what_was_spent_is_worked_out(
    plan_of, sites_of, tmp_path, monkeypatch
):
    """That takes a while, in which a kill would take the round; what the sites told is kept, and worked out after."""
    plan = plan_of(private=True, rounds=3)
    plan = replace(plan, server=replace(plan.server, evaluate_every=3))
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
    account = Books.account

    def killed(self):
        if len(self.epsilon) == 3:  # the first ones of a run are before any sum
            raise Killed
        return account(self)

    monkeypatch.setattr(Books, "account", killed)
    with pytest.raises(Killed):
        run(plan, sites_of(ledgers=tmp_path / "ledger"), tmp_path / "parts")
    monkeypatch.setattr(Books, "account", account)
    facts = RunFolder(tmp_path / "parts").load_checkpoint("checkpoint-federated")[1]
    books = Books(plan)
    books.take_up({}, facts["ledgers"], facts["histories"])
    shorter = run(plan_of(private=True, rounds=2), sites_of(ledgers=tmp_path / "other"), tmp_path / "shorter")
    assert facts["round"] == 2
    assert books.account() == shorter.totals.epsilon
    assert books.epsilon == shorter.epsilon
