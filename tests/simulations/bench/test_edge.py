"""Speeds taken in turns, and what is made of them."""

import time

import numpy as np
import pytest

from fer_models.edge.runtime import session
from fer_models.zoo import ModelSpec, build
from simulations.bench.edge import Small, _engines, _figures, _kept, fastest


def test_the_slower_call_takes_longer_and_turns_go_round():
    order = []

    def call(name, seconds):
        def work():
            order.append(name)
            time.sleep(seconds)

        return work

    found = fastest({"slow": call("slow", 0.002), "fast": call("fast", 0.0005)}, rounds=2)
    assert 0.0005 < found["fast"] < found["slow"]
    assert order[40:60] == ["slow"] * 20
    assert order[60:80] == ["fast"] * 20


def test_a_compressed_net_is_made_once(tmp_path):
    shown = np.random.default_rng(0).normal(size=(16, 1, 48, 48)).astype(np.float32)
    net = build(ModelSpec("cnn_tiny", classes=7), 0)
    first = _kept(tmp_path / "tiny.onnx", lambda: net, shown)
    again = _kept(tmp_path / "tiny.onnx", lambda: pytest.fail("made again"), shown)
    assert first == again
    assert len(first) < 25_000
    calls = _engines(first, shown[:1])
    assert np.allclose(calls["onnxruntime"](), session(first)(shown)[:1], atol=1e-6)


def test_the_faster_engine_counts_and_points_are_lost_points():
    smalls = {name: Small(size, lambda x: x) for name, size in (("1mb", 430_000), ("100kb", 90_000))}
    fps = {
        "1mb onnxruntime": 9000.0,
        "1mb openvino": 12000.0,
        "100kb onnxruntime": 30000.0,
        "eager torch": 1500.0,
    }
    fps |= {"eager micro": 1500.0, "microexpnet onnxruntime": 8000.0}
    found = _figures(fps, smalls, {"net": 0.800, "1mb": 0.796, "100kb": 0.75})
    assert found["fps_under_1mb"] == 12000
    assert found["points_lost_under_1mb"] == pytest.approx(0.4)
    assert found["times_eager_microexpnet_under_1mb"] == 8
    assert found["times_eager_microexpnet_under_100kb"] == 20
    assert found["fps_int8_microexpnet"] == 8000
    assert found["kb_under_100kb"] == 90
