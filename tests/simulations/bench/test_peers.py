"""Peers do the work of the bare loop; they are skipped where their extras are not installed."""

import pytest

from simulations.bench import rounds
from simulations.bench.memory import measured
from simulations.bench.peers import EXTRAS, installed
from simulations.bench.rounds import Case


@pytest.mark.slow
@pytest.mark.parametrize("peer", EXTRAS)
def test_a_peer_ends_with_the_bare_loops_weights(peer):
    if not installed(peer):
        pytest.skip(f"needs pip install 'fedfer[{EXTRAS[peer]}]'")
    found = measured(peer, "cnn_tiny", "2", "20", module="simulations.bench.peers")
    assert found["difference"] < 1e-6
    assert found["ratio"] > 0


def test_a_missing_peer_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("simulations.bench.peers.installed", lambda _: False)
    assert rounds.beside_peers("ratio_20x200", Case("cnn_tiny", 2, 20)) == {}
    printed = capsys.readouterr().out
    assert "ratio_20x200_pfl is left out: install it with pip install 'fedfer[peers]'." in printed
    assert "fedfer[ray]" in printed
