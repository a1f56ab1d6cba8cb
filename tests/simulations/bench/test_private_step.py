"""The benchmark of private steps takes real steps in every way."""

import pytest
import torch

from fer_models.errors import ConfigError
from fer_models.zoo import NETS
from simulations.bench.private_step import CASES, FURTHER, WAYS, Case, chosen, figures_of, peak, private
from simulations.bench.run import Options


def test_every_way_takes_steps():
    figures = figures_of(Case("cnn_tiny", "none"), 1)
    names = ("ratio", "own_ratio", "hooks_ratio", "ghost_ratio", "plain_ms", "rss_ratio")
    assert set(figures) == {f"{name}_cnn_tiny" for name in names}
    assert all(value > 0 for value in figures.values())


def test_the_private_step_moves_the_net_by_gradients_and_noise():
    case = Case("fer_nano")
    step = private(case)
    assert step() > 0
    assert peak("hog_linear", "private")["rss"] > 100_000
    assert {case.key for case in CASES} >= {"fer_small", "mobilenetv2_050", "mobilenetv4_conv_small_035"}
    assert set(WAYS) == {"plain", "own_plain", "private", "hooks", "ghost"}
    assert torch.get_num_threads() == 1


def test_models_and_repeats_can_be_chosen():
    cases, repeats = chosen(Options(overrides=["models=fer_small,dan_lite", "repeats=2"]))
    assert ([case.key for case in cases], repeats) == (["fer_small", "dan_lite"], 2)
    assert chosen(Options(overrides=[]))[0] == list(CASES)
    assert {case.name for case in (*CASES, *FURTHER)} >= set(NETS)
    for word in ("models=nothing", "repeats=0", "size=3"):
        with pytest.raises(ConfigError, match=f"unknown setting '{word}'"):
            chosen(Options(overrides=[word]))
