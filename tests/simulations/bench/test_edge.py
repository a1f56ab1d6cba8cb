"""Speeds taken in turns, and what is made of them."""

import time

import numpy as np
import pytest
from torch import nn

from fer_models.edge.runtime import session
from fer_models.transforms import to_input
from fer_models.zoo import ModelSpec, build
from simulations.bench import edge
from simulations.bench.edge import Small, _engines, _figures, _kept, fastest
from simulations.faces import FacesConfig, draw


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


@pytest.mark.parametrize("size", edge.STUDENTS)
def test_a_student_has_relu_and_its_norms_folded_and_learns_from_more_faces(size, monkeypatch):
    seen = []
    monkeypatch.setattr(edge, "MORE", 30)
    monkeypatch.setattr(edge, "AGAIN", 2.0)
    own = edge.distilled
    monkeypatch.setattr(
        edge, "distilled", lambda *given, **how: (seen.append(given[2]), own(*given, **how))[1]
    )
    train = draw(FacesConfig(count=20), 0).pictures
    teacher = build(ModelSpec("cnn_tiny", classes=7), 0)
    student = edge._student(edge.STUDENTS[size], teacher, train)
    kinds = {type(part) for part in student.modules()}
    assert nn.ReLU in kinds
    assert not kinds & {nn.SiLU, nn.BatchNorm2d}
    (pictures,) = seen
    assert len(pictures) == 50
    assert np.array_equal(pictures[:20], train)
    assert not any(np.array_equal(more, one) for more in pictures[20:] for one in train)
    graph = edge._eight_bits(student, np.ascontiguousarray(to_input(train).numpy()))
    assert len(graph) < {"1mb": 1_000_000, "100kb": 100_000}[size]


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
