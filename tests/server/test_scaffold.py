"""SCAFFOLD against a few lines of numpy: the same way, plain and masked, with sites left out, lost and killed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.fairness import Fairness
from client.nets import net_of
from client.plan import Privacy, Secure
from client.scaffold import Correction
from fer_models.embedding import last_layer
from fer_models.errors import ConfigError, ModelError, PrivacyError, RunFolderError
from fer_models.flat import FlatModel
from fer_models.transforms import to_input
from server.drawing import cohort
from server.optimizers import ServerOptimizer
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import Sites, local_grid
from simulations.partition import Partition

RATE = 0.5
FULL = {"scope": "head", "rate": 1.0, "learning_rate": RATE, "gradient_clip": 0.0, "targets": "label"}
"""Softmax regression on what frozen layers see, in full batches: nothing is left to chance."""


@pytest.fixture(scope="session")
def scaffold_of(plan_of):
    """scaffold_of(steps, secure_sites=0, local={}, **server): a plan of full batches with SCAFFOLD."""

    def make(steps=3, secure_sites=0, local=None, **server):
        work = {**FULL, "amount": steps, "scaffold": True, **(local or {})}
        plan = plan_of(local=work, **{"rounds": 6, "weighting": "uniform", **server})
        if not secure_sites:
            return plan
        weight = 64 if plan.server.weighting == "size" else 1
        terms = Secure(secure_sites, 2 * secure_sites // 3 + 1, 3, clip=4.0, largest_weight=weight)
        return replace(plan, aggregation="secure", secure=terms)

    return make


@pytest.fixture(scope="session")
def sorted_sites(small):
    """Sites that differ as much as can be, each with one class or two: three of them alike in size, or five unlike."""

    def make(count=3, dropout=0.0, variates=None):
        sizes = (30, 30, 30) if count == 3 else (12, 24, 18, 9, 27)
        by_class = np.empty(len(small), np.int32)
        by_class[np.argsort(small.label, kind="stable")] = np.repeat(np.arange(count), sizes)
        division = Partition(by_class, count)
        return Sites(small, division, 7, None, dropout=dropout, variates=variates)

    return make


def run(plan, sites, folder, observer=None, workers=1):
    with local_grid(sites, workers) as grid:
        coordinator = Coordinator(
            plan, RunFolder(folder), "federated", observer or (lambda _: None), roster=sites.roster
        )
        return coordinator.run(grid), coordinator


def seen(plan, sites):
    """What frozen layers see of each site's training pictures, a one behind it, and what the pictures show."""
    net, found, kept = net_of(plan).eval(), [], []
    last_layer(net, plan.model).register_forward_hook(lambda _, given, __: kept.append(given[0]))
    for site in range(sites.partition.sites):
        rows = sites.partition.rows(site, sites.samples, "train")
        with torch.no_grad():
            net(to_input(sites.samples.pictures[rows]))
        x = kept[-1].double().numpy()
        found.append((np.hstack([x, np.ones((len(x), 1))]), np.eye(3)[sites.samples.label[rows]]))
    return found


def gradient(weights, x, y):
    logits = x @ weights.T
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return (chances / chances.sum(1, keepdims=True) - y).T @ x / len(x)


def reference(plan, data, start, corrected=True):
    """Algorithm 1 of the paper, option II, word for word; sites weigh alike or by their rows."""
    x, c, own = start.copy(), np.zeros_like(start), [np.zeros_like(start) for _ in data]
    shares = np.array([len(rows) if plan.server.weighting == "size" else 1.0 for rows, _ in data])
    steps, nodes = plan.local.amount, list(range(1, len(data) + 1))
    for number in range(1, plan.server.rounds + 1):
        chosen = [n - 1 for n in cohort(plan.seed, number, nodes, plan.server.participation)]
        moves, changes = np.zeros_like(x), np.zeros_like(x)
        for i in chosen:
            y = x.copy()
            for _ in range(steps):
                y -= RATE * (gradient(y, *data[i]) + ((c - own[i]) if corrected else 0.0))
            new = own[i] - c + (x - y) / (steps * RATE)
            moves += shares[i] / shares[chosen].sum() * (y - x)
            changes += shares[i] / shares.sum() * (new - own[i])
            own[i] = new
        x, c = x + plan.server.learning_rate * moves, c + changes
    return x


def start_of(plan):
    flat = FlatModel(net_of(plan))
    return split(flat.trained.take(flat.full_vector))


def split(trained):
    """Weights of the last layer (3, 16 + 1), the bias behind them, from its numbers in the flat order."""
    numbers = np.asarray(trained, np.float64)
    return np.hstack([numbers[:48].reshape(3, 16), numbers[48:].reshape(3, 1)])


def ended(result):
    return split(result.vector[-51:])


@pytest.mark.parametrize(
    ("count", "server"),
    [
        (3, {}),
        (5, {"weighting": "size", "learning_rate": 0.7}),
        (5, {"participation": 0.6, "rounds": 9}),
    ],
)
def test_a_run_goes_the_way_of_the_paper(scaffold_of, sorted_sites, tmp_path, count, server):
    plan, sites = scaffold_of(4, **server), sorted_sites(count)
    found = ended(run(plan, sites, tmp_path)[0])
    data, start = seen(plan, sites), start_of(plan)
    wanted = reference(plan, data, start)
    assert np.abs(wanted - start).max() > 0.3
    assert np.abs(found - wanted).max() < 2e-5
    assert np.abs(found - reference(plan, data, start, corrected=False)).max() > 0.02, "FedAvg goes elsewhere"


@pytest.mark.parametrize("weighting", ["uniform", "size"])
def test_with_one_step_it_is_federated_averaging(scaffold_of, sorted_sites, tmp_path, weighting):
    plan = scaffold_of(1, weighting=weighting, rounds=4)
    bare = replace(plan, local=replace(plan.local, scaffold=False))
    one, two = (run(p, sorted_sites(), tmp_path / str(i))[0] for i, p in enumerate((plan, bare)))
    assert (one.vector - two.vector).abs().max() < 1e-6
    assert (one.totals.bytes_up, one.totals.bytes_down) == (
        2 * two.totals.bytes_up,
        two.totals.bytes_down + two.totals.bytes_up,  # of what learns alone
    )


def test_it_ends_where_the_mean_gradient_does_and_averaging_does_not(scaffold_of, sorted_sites, tmp_path):
    plan = scaffold_of(5, rounds=15, evaluate_every=15, local={"weight_decay": 0.3})
    bare = replace(plan, local=replace(plan.local, scaffold=False))
    left = []
    for i, each in enumerate((plan, bare)):
        weights = ended(run(each, sorted_sites(), tmp_path / str(i))[0])
        slopes = [gradient(weights, *own) for own in seen(plan, sorted_sites())]
        left.append(np.linalg.norm(np.mean(slopes, axis=0) + 0.3 * weights))
    assert left[0] < 1e-3
    assert left[1] > 20 * left[0]


def test_masked_it_is_the_plain_run_up_to_the_grid(scaffold_of, sorted_sites, tmp_path):
    for weighting in ("uniform", "size"):
        plan = scaffold_of(3, 5, local={"gradient_clip": 5.0}, weighting=weighting)
        plain = replace(plan, aggregation="plain", secure=None)
        folder = tmp_path / weighting
        secure, plain = (run(p, sorted_sites(5), folder / str(i))[0] for i, p in enumerate((plan, plain)))
        assert not torch.equal(secure.vector, plain.vector)
        assert (secure.vector - plain.vector).abs().max() < 2e-6


def held(sites, plan, control):
    """The sum of what the sites hold after the rounds that were counted."""
    length, total = len(control._sum), 0
    for site, name in enumerate(sites.names):
        told = Correction(np.zeros(length, np.float32), control._counted.get(name, 0))
        total = total + sites.agent(site)._variates.of(plan, told, name).astype(np.float64)
    return torch.from_numpy(total)


def test_sites_that_drop_out_leave_the_mean_right(scaffold_of, sorted_sites, tmp_path):
    """Answers that are lost at any exchange are as if never given, on both sides."""
    plan, sites = scaffold_of(2, 5, rounds=10), sorted_sites(5, dropout=0.03)
    lines = []
    _, coordinator = run(plan, sites, tmp_path, lines.append)
    control = coordinator._control
    kept = [sites.agent(i)._variates._held[plan.digest] for i in range(5)]
    ahead = [max(each) != control._counted[name] for each, name in zip(kept, sites.names, strict=True)]
    assert any(ahead) or len(set(control._counted.values())) > 1, "something was lost"
    assert control._sum.abs().max() > 0.1
    assert torch.allclose(control._sum, held(sites, plan, control), atol=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("secure", [0, 3])
def test_a_run_that_is_killed_after_its_sites_have_answered_ends_the_same(
    scaffold_of, sorted_sites, tmp_path, monkeypatch, secure
):
    plan = scaffold_of(3, secure)
    whole = run(plan, sorted_sites(variates=tmp_path / "a"), tmp_path / "whole")[0]
    step = ServerOptimizer.step

    def killed(self, delta, number):
        if number in (3, 4) and number not in done:
            done.append(number)
            raise Killed
        step(self, delta, number)

    done = []
    monkeypatch.setattr(ServerOptimizer, "step", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            run(plan, sorted_sites(variates=tmp_path / "b"), tmp_path / "parts")
    again = run(plan, sorted_sites(variates=tmp_path / "b"), tmp_path / "parts", workers=2)[0]
    assert done == [3, 4]
    assert torch.equal(again.vector, whole.vector)


def test_a_site_that_has_lost_its_control_variate_is_told_of_and_ends_the_run(
    scaffold_of, sorted_sites, tmp_path, monkeypatch
):
    plan, folder = scaffold_of(), tmp_path / "kept"
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def stop(line):
        if line["round"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sorted_sites(variates=folder), tmp_path / "run", stop)
    (lost,) = (folder / "site-1").iterdir()
    lost.unlink()
    with pytest.raises(RunFolderError, match=r"control variate after round 2 is not there.*\(site-1\)"):
        run(plan, sorted_sites(variates=folder), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"local": {"momentum": 0.9}}, ConfigError, "local.momentum=0.9"),
        ({"local": {"proximal": 0.1}}, ConfigError, "local.proximal=0.1"),
        ({"local": {"optimizer": "adamw"}}, ConfigError, "local.optimizer=adamw"),
        ({"rule": "median"}, ConfigError, "mean of the sites'"),
        ({"participation": 0.5, "weighting": "size"}, ConfigError, "sizes of those that a round leaves out"),
    ],
)
def test_what_would_break_the_sum_is_refused(scaffold_of, changes, error, match):
    with pytest.raises(error, match=match):
        scaffold_of(**changes)


def test_privacy_fairness_and_running_statistics_are_refused(scaffold_of, tmp_path):
    plan = scaffold_of(3, 3)
    with pytest.raises(PrivacyError, match="no proof here bounds them"):
        replace(plan, privacy=Privacy(1.0, clip=1.0, delta=1e-3, nominal_units=20))
    with pytest.raises(ConfigError, match="fair training"):
        replace(plan, fairness=Fairness("age", weighting="groups"))
    kept = replace(plan, model=replace(plan.model, name="fer_nano", norm="bn"))
    with pytest.raises(ModelError, match="keeps statistics"):
        Coordinator(kept, RunFolder(tmp_path), "federated")


def test_a_plan_without_it_is_written_as_before(plan_of):
    assert "scaffold" not in plan_of().text
    assert '"scaffold":true' in plan_of(local={"scaffold": True}).text
