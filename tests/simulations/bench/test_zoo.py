"""The benchmark of all nets on a drawn miniature, and what it is asked."""

import json

import pytest

from fer_models.errors import ConfigError
from simulations.bench.run import run
from simulations.bench.zoo import PEAK, asked, one_cycle


def test_every_net_gets_its_minutes_and_goes_on_from_what_is_done(miniature, tmp_path):
    found, kept = tmp_path / "found.json", tmp_path / "kept"
    words = ["minutes=0.005", "nets=cnn_tiny,hog_linear", "--data", str(miniature), f"hydra.run.dir='{kept}'"]
    assert run(["zoo", *words, "--json", str(found)]) == 0
    figures = json.loads(found.read_text())["figures"]
    for net in ("cnn_tiny", "hog_linear"):
        for kind in ("votes", "original"):
            assert 0.3 <= figures[f"{net}_{kind}_cpu_seconds"] < 1.5
            for key in ("accuracy", "balanced_accuracy", "worst_recall"):
                low, high = (figures[f"{net}_{kind}_{key}_{end}"] for end in ("low", "high"))
                assert 0 <= low <= figures[f"{net}_{kind}_{key}"] <= high <= 1
    records = {file.name: file.read_text() for file in kept.iterdir()}
    assert len(records) == 4
    assert run(["zoo", *words, "--json", str(found)]) == 0
    assert json.loads(found.read_text())["figures"] == figures
    assert {file.name: file.read_text() for file in kept.iterdir()} == records


def test_the_learning_rate_goes_up_and_comes_down():
    rates = [one_cycle(share / 100) for share in range(101)]
    assert max(rates) == pytest.approx(PEAK)
    assert rates[0] == pytest.approx(PEAK / 25)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nets=fer_nao", "fer_nano"),
        ("targets=vote", "votes"),
        ("minutes=none", "minutes=10"),
        ("minutes=-1", "minutes=10"),
        ("minute=1", "minutes"),
    ],
)
def test_mistakes_are_told(word, said):
    with pytest.raises(ConfigError) as error:
        asked([word])
    assert said in error.value.cure
