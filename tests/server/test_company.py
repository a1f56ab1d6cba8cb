"""The same exact counts in sums over other sites would tell of single sites by subtraction; no site agrees to them."""

import json
from dataclasses import replace

import pytest
import torch

from client.app import make_app
from client.messages import facts_of
from client.plan import Attribute, Secure, Statistics
from client.secagg.codec import session_of
from client.secure_site import from_text
from client.told import NOTHING
from fer_models.errors import PolicyError, SecureAggregationError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.asking import EVERYBODY, Judging
from server.rounds import Coordinator
from server.run_folder import RunFolder
from server.sessions import WORK
from simulations.grid import LocalGrid

SIZES = (18, 18, 18, 18, 18)


@pytest.fixture
def secure_of(plan_of):
    """secure_of(**plan_of's): a plan of five sites, four of which can take masks off."""

    def make(**options):
        return replace(
            plan_of(**options), aggregation="secure", secure=Secure(5, 4, 3, clip=4.0, largest_weight=64)
        )

    return make


@pytest.fixture
def coordinator_of(tmp_path):
    """coordinator_of(plan, sites, name, lost, told): a coordinator, and a grid that loses what it is told to."""

    def make(plan, sites, name="run", lost=lambda _: False, told=lambda _: None):
        class Watched(LocalGrid):
            def push_messages(self, messages):
                kept = list(messages)
                sent.extend(kept)
                return super().push_messages(kept)

        sent = []
        grid = Watched(
            make_app(sites, sites.secure), {i + 1: {"partition-id": i} for i in range(5)}, lost=lost
        )
        coordinator = Coordinator(plan, RunFolder(tmp_path / name), "federated", told, roster=sites.roster)
        return coordinator, grid, sent

    return make


def silent(nodes, session, exchange):
    """Return what loses a message of a session's exchange for some nodes."""

    def lost(message):
        facts = facts_of(message.content)
        held = exchange in facts and session_of(from_text(facts[exchange])) == session
        return held and message.metadata.dst_node_id in nodes

    return lost


@pytest.mark.parametrize("again", ["another run", "with the update"])
def test_the_same_weights_in_other_company_give_no_site_s_counts_by_subtraction(
    secure_of, sites_of, coordinator_of, again
):
    """Once over all five sites and once over four: the difference is what the fifth answers to its test pictures."""
    plan, sites = secure_of(rounds=2), sites_of(SIZES)
    weights = torch.from_numpy(FlatModel(build(plan.model, 0)).full_vector.numpy().copy())

    def asking(plan, name):
        coordinator, grid, _ = coordinator_of(plan, sites, name)
        return coordinator.begin(grid)

    nodes, asked = asking(plan, "first")
    whole = asked.evaluate(nodes, Judging(weights, prove=False), 2)
    assert whole.counts[EVERYBODY].rows == len(sites.samples.rows("test"))
    if again == "another run":
        nodes, asked = asking(replace(plan, run="another"), "second")
        part = asked.evaluate(nodes[:-1], Judging(weights, prove=False), 2)
    else:
        part = asked.train(nodes[:-1], 2, weights, NOTHING, Judging(weights, prove=False))
    assert part.counts == {}
    assert part.mean is None
    assert "4 are needed" in part.lost
    assert "exact counts that the site has told in a sum over other sites" in part.lost
    # In the same company they are told again, and other weights in any.
    nodes, asked = asking(replace(plan, run="third"), "third")
    assert asked.evaluate(nodes, Judging(weights, prove=False), 2).counts == whole.counts
    assert asked.train(nodes[:-1], 2, weights, NOTHING, Judging(weights + 1, prove=False)).counts


def test_the_same_tables_in_other_company_give_no_site_s_table_by_subtraction(
    secure_of, sites_of, coordinator_of
):
    sites = sites_of(SIZES)
    plan = replace(secure_of(adjustment=1.0), statistics=Statistics(smallest=1))

    def asking(run):
        coordinator, grid, _ = coordinator_of(replace(plan, run=run), sites, run)
        return coordinator.begin(grid)

    nodes, asked = asking("first")  # which asks all for the statistics
    with pytest.raises(SecureAggregationError, match="4 are needed"):
        asked.label_counts(nodes[:-1])
    nodes, asked = asking("second")
    assert asked.label_counts(nodes).sum() == len(sites.samples.rows("train"))


def test_tables_from_other_numbers_on_give_no_site_s_count_by_and_by(secure_of, sites_of, coordinator_of):
    """From a number on that only the largest site reaches, the sum is that site's own count."""
    sites, plan = sites_of((34, 20, 16, 12, 8)), replace(secure_of(), statistics=Statistics(smallest=1))

    def table(run, smallest):
        asked = replace(plan, run=run, statistics=Statistics(smallest=smallest))
        coordinator, grid, _ = coordinator_of(asked, sites, run)
        coordinator.begin(grid)
        return json.loads((coordinator.folder.path / "statistics.json").read_text())["tables"][""]["all"]

    whole = table("first", 1)
    with pytest.raises(PolicyError, match="from 7 pictures on, which the site tells from 1 on"):
        table("second", 7)
    assert table("third", 1) == whole


def test_tables_of_other_groups_give_no_small_count_by_subtraction(secure_of, sites_of, coordinator_of):
    plan, sites = replace(secure_of(), statistics=Statistics(("age",), 10)), sites_of(SIZES)

    def table(run, *groups):
        asked = replace(plan, run=run, groups=(Attribute("age", groups),))
        coordinator, grid, _ = coordinator_of(asked, sites, run)
        coordinator.begin(grid)
        return json.loads((coordinator.folder.path / "statistics.json").read_text())["tables"]["age"]

    whole = table("first", "old", "young")
    with pytest.raises(
        PolicyError, match="by age of the groups old, which the site tells of old, young since"
    ):
        table("second", "old", "undisclosed")
    assert table("third", "young", "old", "undisclosed") == whole


def test_label_counts_beside_tables_give_no_small_class_by_subtraction(secure_of, sites_of, coordinator_of):
    """In one plan they agree; tables that left a small class out are followed by no label counts, nor the reverse."""
    both = replace(secure_of(adjustment=1.0), statistics=Statistics(smallest=8))
    sites = sites_of(SIZES)

    def asking(plan, run):
        coordinator, grid, _ = coordinator_of(replace(plan, run=run), sites, run)
        nodes, asked = coordinator.begin(grid)
        return nodes, asked, coordinator.folder.path / "statistics.json"

    nodes, asked, kept = asking(both, "first")
    counts = asked.label_counts(nodes)
    shown = json.loads(kept.read_text())["tables"][""]["all"]
    assert [count or 0 for count in shown] == [count if count >= 8 else 0 for count in counts.tolist()]
    alone = replace(secure_of(), statistics=Statistics(smallest=8))
    with pytest.raises(
        PolicyError, match="tables that leave small classes out, of which the site has told exact"
    ):
        asking(alone, "second")
    sites = sites_of(SIZES)
    asking(alone, "third")
    with pytest.raises(PolicyError, match="beside tables in which the site has left small classes out"):
        asking(secure_of(adjustment=1.0), "fourth")[1].label_counts(nodes)


def test_after_a_sum_that_was_lost_late_the_next_round_does_without_its_counts(
    secure_of, sites_of, coordinator_of
):
    """Sites have agreed to a sum with the weights of round 1 when two fall silent; then a third is away."""
    plan, sites, told = secure_of(rounds=4), sites_of(SIZES), []
    late, away = silent((2, 4), 1, "consents"), silent((5,), 3, "offer")
    coordinator, grid, sent = coordinator_of(plan, sites, lost=lambda m: late(m) or away(m), told=told.append)
    result = coordinator.run(grid)
    lines = {record["round"]: record for record in told}
    assert "are needed" in lines[2]["lost"]
    assert not any("lost" in lines[number] for number in (1, 3, 4))
    judged = ["judged" in facts_of(m.content) for m in sent if m.metadata.message_type == WORK["train"]]
    assert judged == [False] * 5 + [True] * 5 + [False] * 4 + [True] * 5
    assert "accuracy" in lines[3]
    assert "accuracy" not in lines[2]
    assert result.overall.rows == len(sites.samples.rows("test"))
