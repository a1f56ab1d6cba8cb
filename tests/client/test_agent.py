# pyright: reportArgumentType=false
"""The agent: what leaves a site, and what must have happened before."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from client import agent as module
from client import evaluation
from client.agent import Agent, Update
from client.judging import evaluate_sites
from client.ledger import Ledger, fingerprint
from client.mechanisms import gaussian, merged
from client.one_pass import train_sites
from client.plan import Attribute
from client.randomness import KeyedStream, SeededEntropy, SystemEntropy
from client.training import train_plain
from client.workbench import Benches
from fer_models.errors import DataError, EvaluationError, ModelError, PrivacyError, TrainingError
from fer_models.transforms import to_input
from fer_models.zoo import build

CPU = torch.device("cpu")


def vector_for(bench_of, plan):
    return bench_of(plan).flat.full_vector.clone().numpy()


def test_an_update_is_the_weights_after_minus_before(plan_of, bench_of, rows_of, agent_of):
    plan, agent = plan_of(local={"batch": 7}), agent_of()
    start = vector_for(bench_of, plan)
    update = agent.train(plan, 3, start)
    bench = bench_of(plan)
    done = train_plain(bench, rows_of(range(50)), plan.local, 3, agent._entropy, "")
    assert np.array_equal(update.delta, bench.flat.full_vector.numpy() - start)
    assert update.delta.dtype == np.float32
    assert np.abs(update.delta).max() > 1e-4
    assert update == replace(update, weight=50.0, visits=28, loss=done.loss, history=())
    assert np.array_equal(start, vector_for(bench_of, plan)), "the round's weights are not written to"


def test_statistics_of_batch_norm_are_part_of_an_update(plan_of, bench_of, agent_of):
    plan = plan_of("fer_nano", norm="bn")
    bench = bench_of(plan)
    update = agent_of().train(plan, 1, bench.flat.full_vector.clone().numpy())
    assert np.abs(update.delta[len(bench.flat.vector) :]).max() > 0


def test_training_starts_from_the_vector_and_not_from_the_last_round(plan_of, bench_of, agent_of):
    plan = plan_of("fer_nano", dropout=0.5, local={"augment": True, "momentum": 0.9})
    start, agent = vector_for(bench_of, plan), agent_of()
    first = agent.train(plan, 1, start).delta
    agent.train(plan, 2, start)
    assert np.array_equal(agent.train(plan, 1, start).delta, first)
    assert np.array_equal(agent_of().train(plan, 1, start).delta, first)


@pytest.mark.parametrize(("weighting", "weight"), [("size", 50.0), ("uniform", 1.0)])
def test_weights_are_sizes_or_uniform(weighting, weight, plan_of, bench_of, agent_of):
    plan = plan_of(server={"weighting": weighting})
    assert agent_of().train(plan, 1, vector_for(bench_of, plan)).weight == weight


def test_targets_are_those_of_the_plan(plan_of, bench_of, agent_of, samples):
    plans = [plan_of(local={"targets": targets}) for targets in ("votes", "label")]
    agent, start = agent_of(), vector_for(bench_of, plans[0])
    votes, label, again = (agent.train(plan, 1, start) for plan in (*plans, plans[0]))
    assert np.abs(votes.delta - label.delta).max() > 1e-4
    assert np.array_equal(votes.delta, again.delta), "one plan's targets are not kept for another"
    alone = agent_of(table=replace(samples, votes=None)).train(plans[0], 1, start)
    assert np.array_equal(label.delta, alone.delta), "without votes the label is the target"


def test_a_class_that_no_row_knows_is_left_where_it_was(plan_of, bench_of, agent_of, samples):
    plan, known = plan_of(local={"targets": "label"}), np.ones((len(samples), 3), bool)
    known[:, 2] = False
    table = replace(samples, label=samples.label % 2, votes=None)
    start, whole = vector_for(bench_of, plan), agent_of(table=table)
    apart = agent_of(table=replace(table, known=known))
    for train in (
        lambda agent: agent.train(plan, 1, start),
        lambda agent: train_sites([agent], plan, 1, start)[0],
    ):
        assert train(whole).delta[-1] != 0, "the last class's bias"
        moved = train(apart).delta[-3:]
        assert moved[0] != 0 and moved[2] == 0


def test_the_ledger_is_on_disk_before_training(tmp_path, plan_of, bench_of, agent_of, monkeypatch):
    plan, path = plan_of(local={"amount": 2}, privacy={}), tmp_path / "site.sqlite"
    held, train = [], module.train_private

    def watched(*arguments):
        held.append(list(Ledger(path, read_only=True).events))
        return train(*arguments)

    monkeypatch.setattr(module, "train_private", watched)
    update = agent_of(path=path).train(plan, 4, vector_for(bench_of, plan))
    ((event,),) = held
    assert (event.kind, event.run, event.plan, event.round) == ("training", plan.run, plan.digest, 4)
    assert (event.mechanism,) == gaussian(1.0, 0.2, 2) == update.history
    assert event.delta == plan.privacy.delta
    assert update.head == Ledger(path).head


def test_the_ledger_keeps_its_entry_when_training_fails(tmp_path, plan_of, bench_of, agent_of):
    plan = plan_of(local={"learning_rate": 3e38}, privacy={"noise_multiplier": 1e9})
    path = tmp_path / "site.sqlite"
    with pytest.raises(TrainingError, match=r"\(site-0, round 1\)"):
        agent_of(path=path).train(plan, 1, vector_for(bench_of, plan))
    assert Ledger(path).history() == gaussian(1e9, 0.2, 4)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"name": "fer_nano", "norm": "bn"}, PrivacyError),
        ({"labels": None}, DataError),
        ({"rows": 0}, DataError),
    ],
)
def test_a_refusal_costs_nothing(changes, kind, tmp_path, plan_of, bench_of, agent_of):
    """A plan that is refused before any picture is looked at leaves no entry in the ledger."""
    path, net = tmp_path / "site.sqlite", {k: v for k, v in changes.items() if k in ("name", "norm")}
    plan = plan_of(**net, privacy={})
    if "labels" in changes:
        plan = replace(plan, labels=("a", "b", "c"))
    agent = agent_of(path=path, train=range(changes.get("rows", 50)))
    with pytest.raises(kind):
        agent.train(plan, 1, vector_for(bench_of, replace(plan, privacy=None)))
    assert not path.exists()


def test_a_vector_of_another_model_is_refused_and_costs_nothing(tmp_path, plan_of, agent_of):
    path = tmp_path / "site.sqlite"
    with pytest.raises(ModelError, match="numbers of"):
        agent_of(path=path).train(plan_of(privacy={}), 1, np.zeros(7, np.float32))
    assert not path.exists()


def test_the_history_holds_all_plans_of_the_site(plan_of, bench_of, agent_of):
    one, two = plan_of(privacy={}), plan_of(local={"amount": 1}, privacy={"noise_multiplier": 2.0})
    agent, start = agent_of(), vector_for(bench_of, one)
    agent.train(one, 1, start)
    agent.train(two, 1, start)
    assert agent.train(one, 2, start).history == merged((*gaussian(1.0, 0.2, 8), *gaussian(2.0, 0.2, 1)))


def test_a_private_update_tells_neither_loss_nor_how_many_pictures(plan_of, bench_of, agent_of):
    """All that leaves besides the noisy weights follows from the plan: equal for any two sites."""
    plan = plan_of(local={"amount": 5}, privacy={"noise_multiplier": 1e3})
    start = vector_for(bench_of, plan)
    told = [
        replace(agent_of(train=rows).train(plan, 1, start), delta=None, head=None)
        for rows in (range(1), range(90), [7] * 40)
    ]
    assert told[0] == told[1] == told[2] == Update(None, 1.0, round(5 * 0.2 * 50), 0.0, gaussian(1e3, 0.2, 5))


def noise_of(update):
    return update.delta.astype(float)


@pytest.mark.parametrize("repeat", [True, False])
def test_noise_repeats_only_where_round_plan_and_weights_do(repeat, plan_of, bench_of, agent_of):
    plan = plan_of(local={"amount": 1, "learning_rate": 1.0}, privacy={"noise_multiplier": 1e3})
    start = vector_for(bench_of, plan)
    first = agent_of().train(plan, 1, start)
    if repeat:
        assert np.array_equal(agent_of().train(plan, 1, start).delta, first.delta)
        return
    near = start.copy()
    near[0] += 1e-3
    others = {
        "site": agent_of("site-1").train(plan, 1, start),
        "seed": agent_of(seed=1).train(plan, 1, start),
        "round": agent_of().train(plan, 2, start),
        "weights": agent_of().train(plan, 1, near),
        "plan": agent_of().train(replace(plan, seed=9), 1, start),
        "deployment": agent_of(entropy=SystemEntropy()).train(plan, 1, start),
    }
    limit = 5 / math.sqrt(len(start))
    for what, other in others.items():
        assert abs(np.corrcoef(noise_of(first), noise_of(other))[0, 1]) < limit, what
        assert noise_of(other).std() == pytest.approx(1e3 / 10, rel=0.05), what


def test_the_same_question_is_charged_once_with_a_seed_and_twice_without(plan_of, bench_of, agent_of):
    plan = plan_of(privacy={})
    start = vector_for(bench_of, plan)
    near = start + np.float32(1e-3)
    seeded, deployed = agent_of(), agent_of(entropy=SystemEntropy())
    for _ in range(2):
        repeated, again = seeded.train(plan, 1, start), deployed.train(plan, 1, start)
    assert repeated.history == gaussian(1.0, 0.2, 4)
    assert again.history == gaussian(1.0, 0.2, 8)
    assert seeded.train(plan, 1, near).history == gaussian(1.0, 0.2, 8), "other weights are another release"


def test_the_entry_names_the_key_of_the_noise_that_was_used(tmp_path, plan_of, bench_of, agent_of):
    used = []

    class Drawn(SystemEntropy):
        """The system's keys, counted."""

        def key(self, round_number, purpose):
            used.append(purpose)
            return super().key(round_number, purpose)

    path = tmp_path / "site.sqlite"
    plan = plan_of(local={"amount": 1, "learning_rate": 1.0, "rate": 1e-9}, privacy={"noise_multiplier": 2.0})
    keys, stream = [], KeyedStream.__init__

    def noted(self, key):
        keys.append(key)
        stream(self, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyedStream, "__init__", noted)
        agent_of(path=path, entropy=Drawn()).train(plan, 1, vector_for(bench_of, plan))
    assert used.count("noise") == 1
    (event,) = Ledger(path).events
    assert event.key in {fingerprint(key) for key in keys}


def test_labels_must_agree(plan_of, bench_of, agent_of):
    plan = replace(plan_of(), labels=("neutral", "surprise", "happiness"))
    start, agent = vector_for(bench_of, plan), agent_of("clinic")
    uses = (
        lambda: agent.train(plan, 1, start),
        lambda: train_sites([agent], plan, 1, start),
        lambda: evaluate_sites([agent], plan, start, prove=False),
    )
    for use in uses:
        with pytest.raises(
            DataError, match=r"surprise, happiness, the site's are .* \(clinic\)\. Use one list"
        ):
            use()


@pytest.mark.parametrize("changes", [{"channels": 3}, {"size": 64}])
def test_pictures_must_fit_the_net(changes, plan_of, agent_of):
    plan = plan_of("fer_nano")
    plan = replace(plan, model=replace(plan.model, **changes))
    with pytest.raises(DataError, match=r"the site's pictures are 1 x 48 x 48 \(site-0\)"):
        agent_of().train(plan, 1, np.zeros(1, np.float32))


def test_a_site_without_pictures_is_refused_by_name(plan_of, bench_of, agent_of):
    plan, agent = plan_of(), agent_of("empty", train=[])
    for use in (agent.train, lambda *a: train_sites([agent], *a)):
        with pytest.raises(DataError, match=r"without training pictures \(empty\)"):
            use(plan, 1, vector_for(bench_of, plan))


def by_hand(plan, samples, rows):
    """Return overall counts [true, predicted] by a plain forward of each picture and its mirror image."""
    net = build(plan.model, plan.seed).eval()
    counts = np.zeros((3, 3), int)
    for row in rows:
        x = to_input(samples.pictures[[row]])
        with torch.no_grad():
            p = torch.softmax(net(x), 1) + torch.softmax(net(x.flip(3)), 1)
        counts[samples.label[row], int(p.argmax())] += 1
    return counts


@pytest.mark.parametrize("kind", [{"name": "cnn_tiny"}, {"name": "fer_nano", "norm": "bn", "dropout": 0.5}])
def test_counts_are_those_of_a_direct_count(kind, plan_of, bench_of, agent_of, samples, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 16)  # several batches, over the sites' borders
    plan = plan_of(**kind)
    tests = [range(100, 137), range(90, 99), range(140, 150)]
    agents = [agent_of(f"site-{i}", test=test) for i, test in enumerate(tests)]
    agents[1:] = [
        Agent(
            a.name, samples, a._train, a.test, entropy=a._entropy, ledger=Ledger(), benches=agents[0]._benches
        )
        for a in agents[1:]
    ]
    found = evaluate_sites(agents, plan, vector_for(bench_of, plan), prove=True)
    for counts, test in zip(found, tests, strict=True):
        assert counts.overall.tolist() == by_hand(plan, samples, test).tolist()
        table = counts.by_group["age"]
        values = ("old", "undisclosed", "young")
        for index, value in enumerate(values):
            rows = [row for row in test if samples.groups["age"][row] == value]
            assert table[index].tolist() == by_hand(plan, samples, rows).tolist()


def test_a_site_that_has_opted_out_counts_its_test_pictures_as_undisclosed(plan_of, bench_of, agent_of):
    plan = plan_of()
    open_, silent = agent_of("open", test=range(100, 120)), agent_of("silent", test=range(120, 150))
    silent._benches, told = open_._benches, plan.attributes["age"].index("undisclosed")
    (alone,) = evaluate_sites([silent], plan, vector_for(bench_of, plan), prove=False)
    silent.opted_out = True
    first, second = evaluate_sites([open_, silent], plan, vector_for(bench_of, plan), prove=False)
    assert second.overall.tolist() == alone.overall.tolist()
    assert second.by_group["age"][told].tolist() == alone.overall.tolist()
    assert first.by_group["age"].sum((1, 2))[told] < 20
    closed = replace(plan, groups=(Attribute("age", ("old", "young")),))
    with pytest.raises(DataError, match="no place for pictures whose age is undisclosed"):
        silent.require_willing(closed)
    # A real site does not say so to whoever asks: it would be told apart from those that have not opted out.
    real = agent_of("real", entropy=SystemEntropy())
    real.require_willing(closed)
    real.opted_out = True
    with pytest.raises(PrivacyError, match="the site takes no part in this plan") as error:
        real.require_willing(closed)
    assert "disclose" not in str(error.value)


def test_evaluation_leaves_the_net_in_training_mode(plan_of, bench_of, agent_of):
    plan, agent = plan_of("fer_nano", dropout=0.5), agent_of()
    start = vector_for(bench_of, plan)
    first = agent.train(plan, 1, start).delta
    evaluate_sites([agent], plan, start, prove=False)
    assert np.array_equal(agent.train(plan, 1, start).delta, first)
    net = agent._benches.of(plan).flat.module
    for training in (True, False):
        evaluation.predict(net.train(training), agent.samples, agent.test, device=CPU, prove=False)
        assert all(layer.training == training for layer in net.modules())


def test_a_site_without_test_pictures_counts_nothing(plan_of, bench_of, agent_of):
    plan = plan_of()
    (counts,) = evaluate_sites([agent_of(test=[])], plan, vector_for(bench_of, plan), prove=True)
    assert counts.rows == 0


def test_an_unknown_attribute_is_refused(plan_of, bench_of, agent_of):
    plan = plan_of(groups=(Attribute("age", ("old", "young", "undisclosed")), Attribute("tone", ("a",))))
    with pytest.raises(DataError, match=r"counts by tone, which no column tells \(drawn\)\. Count by age\."):
        evaluate_sites([agent_of()], plan, vector_for(bench_of, plan), prove=False)


def test_a_net_that_mixes_its_batch_is_not_evaluated(samples):
    class Mixed(torch.nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :3]
            return logits - logits.mean(0)

    rows = np.arange(30)
    with pytest.raises(EvaluationError, match="batch size 1"):
        evaluation.evaluate(Mixed(), samples, rows, {}, device=CPU, prove=True)
    assert evaluation.evaluate(Mixed(), samples, rows, {}, device=CPU, prove=False).rows == 30


def test_sites_in_one_pass_are_sites_one_by_one(plan_of, bench_of, samples):
    benches, plan = Benches(CPU), plan_of(local={"batch": 8})
    start = vector_for(bench_of, plan)
    agents = [
        Agent(
            f"site-{i}",
            samples,
            np.asarray(rows),
            np.arange(0),
            entropy=SeededEntropy(0, f"site-{i}"),
            ledger=Ledger(),
            benches=benches,
        )
        for i, rows in enumerate((range(4), range(10, 45)))
    ]
    for found, agent in zip(train_sites(agents, plan, 1, start), agents, strict=True):
        alone = agent.train(plan, 1, start)
        assert np.linalg.norm(found.delta - alone.delta) < 1e-5 * np.linalg.norm(alone.delta)
        assert (found.weight, found.visits, found.history) == (alone.weight, alone.visits, ())
        assert found.loss == pytest.approx(alone.loss, rel=1e-5)


def test_one_net_a_plan(plan_of):
    benches, plan = Benches(CPU), plan_of()
    bench = benches.of(plan)
    assert benches.of(plan_of()) is bench
    assert benches.of(plan_of(seed=1)) is not bench
