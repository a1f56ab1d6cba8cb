"""Noise against signal: by hand, and against the noise that a site really adds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.outlook import HOPELESS, WEAK, Outlook, outlook
from client.private_training import train_private
from client.randomness import SeededEntropy
from fer_models.errors import PrivacyError

PRIVATE = {"noise_multiplier": 2.0, "clip": 0.5, "nominal_units": 100}


def test_by_hand(plan_of):
    plan = plan_of(local={"rate": 0.2}, privacy=PRIVATE)
    found = outlook(plan, 10_000, 400)
    assert found == Outlook(parameters=10_000, batch=20.0, step=2.0 * 100 / 20, run=10.0 / 20)
    assert outlook(plan, 2_500, 400).run == pytest.approx(found.run / 2)
    assert outlook(plan, 10_000, 1600).run == pytest.approx(found.run / 2)
    doubled = replace(plan, privacy=replace(plan.privacy, clip=1.0))
    assert outlook(doubled, 10_000, 400) == found, "signal and noise both follow the clip"
    shared = {**PRIVATE, "noise": "distributed", "threshold": 10, "colluders": 1, "parameters": 10_000}
    plan = plan_of(local={"rate": 0.2, "amount": 1}, privacy=shared)
    assert outlook(plan, 10_000, 400).run == pytest.approx(found.run / 3)


def test_it_is_the_noise_that_a_site_adds(plan_of, bench_of, rows_of):
    """An empty site sends noise alone: learning rate times clip times ``step``."""
    plan = plan_of("cnn_tiny", local={"amount": 1, "rate": 0.05, "learning_rate": 1.0}, privacy=PRIVATE)
    bench = bench_of(plan)
    start = bench.flat.vector.clone()
    train_private(bench, rows_of(np.zeros(0, np.intp)), plan, 1, SeededEntropy(0, "a"), "")
    expected = plan.privacy.clip * outlook(plan, len(start), 1).step
    assert float((bench.flat.vector - start).norm()) == pytest.approx(expected, rel=0.03)
    assert torch.isfinite(start).all()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Outlook(100, 20.0, 1.0, WEAK * 0.99), ""),
        (Outlook(100, 20.0, 1.0, WEAK), "less than half"),
        (Outlook(100, 0.5, 9.0, 0.01), "most steps see none"),
        (Outlook(100, 1.0, 9.0, 0.01), ""),
    ],
)
def test_what_is_said_before_a_run(found, said):
    assert said in found.warning
    assert bool(found.warning) == bool(said)


def test_a_run_without_hope_is_refused_with_its_figures():
    Outlook(100, 20.0, 1.0, HOPELESS * 0.99).require_useful(1.0)
    with pytest.raises(PrivacyError) as refused:
        Outlook(100, 20.0, 7.5, 3.25).require_useful(0.5)
    told = str(refused.value)
    for words in ("at epsilon 0.5", "7.5 times", "3.2 times", "model=hog_linear", "allow_useless=true"):
        assert words in told
    with pytest.raises(PrivacyError, match="at this noise"):
        Outlook(100, 20.0, 7.5, 3.25).require_useful(None)
