"""Noise that sites share, masked: whoever drops out, the sum carries what was promised, or there is no sum."""

from dataclasses import dataclass, replace

import pytest

from client.agent import Agent
from client.grid import plan_grid
from client.plan import Secure
from fer_models.errors import EngineError, SecureAggregationError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.run_folder import RunFolder
from simulations.federated import Sites, run_local

PARAMETERS = 10_659
"""Of cnn_tiny with three classes."""

SIGMA, RATE, NOMINAL = 2.0, 1e-6, 20
SECURE = Secure(sites=6, threshold=5, minimum=4, clip=4.0, colluders=1)


@pytest.fixture
def plan(plan_of):
    """A plan whose batches are empty, so that all that moves the weights is noise: threshold 5 of 6, one colluder."""
    base = plan_of(private=True, local={"amount": 1}, rounds=1)
    own = {"noise": "distributed", "threshold": 5, "colluders": 1, "resolution": 1 << 16}
    own |= {"parameters": PARAMETERS, "noise_multiplier": SIGMA, "delta": 1e-4, "nominal_units": NOMINAL}
    local = replace(base.local, rate=RATE)
    return replace(
        base, local=local, privacy=replace(base.privacy, **own), aggregation="secure", secure=SECURE
    )


@dataclass(frozen=True)
class Failing(Sites):
    """Sites of which some fail in their work, after keys and shares have been exchanged."""

    failing: tuple[int, ...] = ()

    def agent(self, site: int) -> Agent:
        """Return a site's agent."""
        agent = super().agent(site)
        if site in self.failing:

            def train(*_, **__):
                raise EngineError("this site fails", where=agent.name, cure="Leave it out.")

            agent.train = train
        return agent


def run(plan, sites, folder):
    return run_local(plan, sites, RunFolder(folder), "federated", 1, lambda _: None)


def sites_with(sites_of, *failing):
    whole = sites_of((15,) * 6)
    return Failing(whole.samples, whole.partition, whole.seed, None, failing=failing)


@pytest.mark.parametrize("failing", [(), (2,)])
def test_the_noise_of_the_survivors_is_enough(plan, sites_of, tmp_path, failing):
    start = FlatModel(build(plan.model, plan.seed)).full_vector
    result = run(plan, sites_with(sites_of, *failing), tmp_path)
    survivors = 6 - len(failing)
    noise = (result.vector - start) / -plan.local.learning_rate * (RATE * NOMINAL * survivors)
    grid = plan_grid(plan)
    one = SIGMA * grid.sensitivity * grid.width  # of a trusted curator
    assert float(noise.std()) == pytest.approx(one * (survivors / 4) ** 0.5, rel=0.03)
    honest = float(noise.std()) * ((survivors - 1) / survivors) ** 0.5
    assert honest > 0.97 * one, "without the colluder's share, too"
    assert list(result.counts) == ["all sites"]


def test_fewer_survivors_give_no_step(plan, sites_of, tmp_path):
    start = FlatModel(build(plan.model, plan.seed)).full_vector
    told = []
    plan = replace(plan, server=replace(plan.server, evaluate_every=1))
    sites = sites_with(sites_of, 2, 4)
    result = run_local(plan, sites, RunFolder(tmp_path), "federated", 1, told.append)
    assert (result.vector == start).all()
    assert result.totals.visits == 0
    assert any("lost" in str(record) for record in told)


def test_runs_that_lose_every_round_end(plan, sites_of, tmp_path):
    plan = replace(plan, server=replace(plan.server, rounds=30))
    with pytest.raises(SecureAggregationError, match="rounds in a row have been lost") as error:
        run(plan, sites_with(sites_of, 2, 4), tmp_path)
    assert "this site fails" in str(error.value)
