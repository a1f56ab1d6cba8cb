"""An attack on what the coordinator sees: which of two groups does a site of a single group hold?

The rule reads the critic's update (Hong et al. 2021 has each site send one): a critic that learns from pictures of one
group alone raises that group's answer, so the larger of the last bias's changes names it. In the clear it is always
right. Behind secure aggregation the same rule, and a rule that is learned from what some sites' vectors look like, are
no better than a coin.
"""

from dataclasses import replace

import numpy as np
import pytest

from client.app import make_app
from client.fairness import Fairness
from client.messages import facts_of, vector_of
from client.nets import critic_range
from client.plan import Attribute, Secure
from client.secagg.layout import session_layout
from client.secagg.terms import least_threshold
from client.secagg.wire import Masked
from client.told import Told
from fer_models.labels import UNDISCLOSED
from fer_models.probes import Shown, probe
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import Sites
from simulations.grid import LocalGrid
from simulations.partition import Partition

SITES, ROUNDS, ROWS = 16, 40, 9
GROUPS = ("old", "young")


class Watched(LocalGrid):
    """A grid that notes every answer."""

    def __init__(self, sites):
        nodes = {i + 1: {"partition-id": i} for i in range(SITES)}
        super().__init__(make_app(sites, sites.secure), nodes)
        self.replies = []

    def _answer(self, message):
        reply = super()._answer(message)
        self.replies.append(reply)
        return reply


@pytest.fixture(scope="module")
def truth():
    """The group of each site: half of the sites hold each, in a mixed order."""
    return np.random.default_rng(5).permutation(np.arange(SITES) % 2)


@pytest.fixture(scope="module")
def samples(small, truth):
    """Small samples, as many rows for each site, each site's of its one group."""
    rows = np.resize(np.arange(len(small)), SITES * ROWS)
    held = small.take(rows)
    groups = np.array(GROUPS)[np.repeat(truth, ROWS)]
    split = np.where(np.arange(len(rows)) % ROWS < ROWS - 1, "train", "test")
    return replace(held, groups={"age": groups}, split=split)


@pytest.fixture
def sites(samples):
    return Sites(samples, Partition(np.repeat(np.arange(SITES), ROWS).astype(np.int32), SITES), 7, None)


@pytest.fixture(scope="module")
def plan_with(plan_of):
    """plan_with(adversary, private=False): one step a round, as many rounds as the test looks at."""

    def make(adversary, private=False, rounds=ROUNDS):
        plan = plan_of(private=private, rounds=rounds, evaluate_every=rounds, weighting="uniform")
        plan = replace(plan, local=replace(plan.local, amount=1))
        terms = Secure(SITES, least_threshold(SITES, "malicious"), 3, clip=16.0)
        weighting = "errors" if adversary == "critic" else "none"
        fairness = Fairness("age", adversary=adversary, weighting=weighting, ramp=0.0)
        privacy = plan.privacy and replace(plan.privacy, counts_epsilon=0.5)
        return replace(plan, aggregation="secure", secure=terms, fairness=fairness, privacy=privacy)

    return make


def told_group(critic):
    """The attack: of a linear critic's update, weights then biases, the group whose bias rose more."""
    return int(critic[-1] > critic[-2])


def in_the_clear(plan, sites, rounds):
    """Return what each site would send without secure aggregation, by round and site."""
    bench = sites._benches.of(plan)
    start = bench.flat.full_vector.clone().numpy()
    told = Told((), 1.0, (), (1.0, 1.0), (1.0, 1.0))
    return [
        [sites.agent(site).train(plan, number, start, told=told).delta for site in range(SITES)]
        for number in range(1, rounds + 1)
    ]


def read(plan, bench, body):
    """Return what stands in the places of critic and tally in a vector of secure aggregation, masked or not."""
    place, size = critic_range(bench.flat), len(bench.flat.trained) + plan.tally_size
    words = session_layout(plan, "train", 1, size).words32
    narrow = np.frombuffer(body, "<i4", size, offset=len(body) - 4 * words) / 2.0**31
    return narrow[place], narrow[size - plan.tally_size :]


@pytest.mark.parametrize("adversary", ["gradient_reversal", "critic"])
def test_in_the_clear_every_site_gives_its_group_away(plan_with, sites, truth, adversary):
    """What FADE sends, and what ours would send without masks, in the very places that the attack reads: 100 %."""
    plan = plan_with(adversary, rounds=5)
    bench = sites._benches.of(plan)
    layout = session_layout(plan, "train", 1, len(bench.flat.trained) + plan.tally_size)
    rest = {each.name: np.zeros(each.length, np.int64) for each in layout.segments}
    for each in in_the_clear(plan, sites, 5):
        for site, update in enumerate(each):
            body = layout.encode({**rest, "update": update}, 1, bytes(32))
            assert told_group(read(plan, bench, body)[0]) == truth[site]


def test_noise_that_hides_pictures_does_not_hide_a_site_s_group(plan_with, sites, truth):
    """Private steps protect one picture, not what all pictures of a site share: the mean over rounds tells."""
    plan = plan_with("gradient_reversal", private=True, rounds=30)
    plan = replace(plan, privacy=replace(plan.privacy, noise_multiplier=1.0))
    seen = np.mean(in_the_clear(plan, sites, 30), 0)[:, critic_range(sites._benches.of(plan).flat)]
    right = np.mean([told_group(critic) == truth[site] for site, critic in enumerate(seen)])
    assert right > 0.8


@pytest.fixture(scope="module")
def wire(plan_with, samples, tmp_path_factory):
    """All answers of a run of the default method: (plan, sites, replies)."""
    plan = plan_with("critic")
    division = Partition(np.repeat(np.arange(SITES), ROWS).astype(np.int32), SITES)
    sites = Sites(samples, division, 7, None)
    grid = Watched(sites)
    Coordinator(plan, RunFolder(tmp_path_factory.mktemp("wire")), "federated", roster=sites.roster).run(grid)
    return plan, sites, grid.replies


def views(wire):
    """Return what the coordinator holds of each site in each round: the numbers in the places of critic and tally,
    (n, D) each, and whose they are (n,)."""
    plan, sites, replies = wire
    bench, seen, owner = sites._benches.of(plan), [], []
    for reply in replies:
        if reply.metadata.message_type == "train.secure":
            masked = Masked.parse(vector_of(reply.content, np.uint8).tobytes())
            seen.append(read(plan, bench, masked.body))
            owner.append(sites.names.index(facts_of(reply.content)["site"]))
    critics, tallies = (np.array(part, np.float32) for part in zip(*seen, strict=True))
    return critics, tallies, np.array(owner)


def test_the_attack_reads_masked_vectors_no_better_than_a_coin(wire, truth):
    critics, _, owner = views(wire)
    assert len(critics) == SITES * ROUNDS
    right = np.mean([told_group(critic) == truth[site] for critic, site in zip(critics, owner, strict=True)])
    assert right <= 0.55
    # Over all rounds of a site: as many as a coin gets right of 16.
    whole = [told_group(critics[owner == site].mean(0)) == truth[site] for site in range(SITES)]
    assert sum(whole) <= 12


def test_no_rule_is_learned_from_the_vectors_of_half_of_the_sites(wire, truth):
    """Fresh probes on everything in the places of critic and tally; they know half of the sites' groups."""
    *parts, owner = views(wire)
    seen = np.concatenate(parts, 1)
    group, known = np.array(GROUPS)[truth[owner]], owner % 4 < 2
    each = np.arange(len(seen))  # every vector is masked anew
    found = probe(
        Shown(seen[known], group[known], each[known]), Shown(seen[~known], group[~known], each[~known])
    )
    for name in ("linear", "mlp"):
        assert found[name] <= 0.55
        assert found[f"{name}_interval"][0] < 0.5 < found[f"{name}_interval"][1]


def test_answers_of_both_groups_and_of_who_opts_out_are_alike_but_for_masks(
    wire, plan_with, samples, tmp_path
):
    """Nothing beside the vectors differs between sites: the same facts, the same lengths."""
    plan, sites, replies = wire
    ages = (Attribute("age", tuple(sorted((*GROUPS, UNDISCLOSED)))),)  # as who opts out is counted
    short = replace(plan, groups=ages, server=replace(plan.server, rounds=2, evaluate_every=2))
    opted = replace(sites, opted_out=frozenset(range(0, SITES, 2)))
    grid = Watched(opted)
    Coordinator(short, RunFolder(tmp_path), "federated", roster=opted.roster).run(grid)
    for answers in (replies, grid.replies):
        forms = {}
        for reply in answers:
            if "vector" not in reply.content:
                continue
            facts = dict(facts_of(reply.content))
            assert facts.pop("site") in sites.names
            form = tuple(sorted(facts)), len(vector_of(reply.content, np.uint8))
            forms.setdefault((reply.metadata.message_type, reply.metadata.group_id), set()).add(form)
        assert forms
        assert all(len(each) == 1 for each in forms.values())
