"""The server's step: by hand on tiny vectors, and against torch's own optimizers and schedules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.plan import ServerWork
from server.optimizers import ServerOptimizer, learning_rate
from server.run_folder import RunFolder

START = torch.tensor([1.0, -2.0, 0.5])
DELTAS = [torch.tensor(d) for d in ([0.2, -0.4, 1.0], [-0.1, 0.3, 0.0], [0.5, 0.5, -0.25], [0.0, -1.0, 0.1])]


def run(work, deltas=DELTAS, start=START, parameters=None):
    optimizer = ServerOptimizer(work, start, parameters)
    for number, delta in enumerate(deltas, 1):
        optimizer.step(delta.double(), number)
    return optimizer


def test_average_adds_the_mean_update():
    found = run(ServerWork(), DELTAS[:1])
    assert found.vector.tolist() == pytest.approx([1.2, -2.4, 1.5])
    assert torch.equal(found.average, found.vector)
    half = run(ServerWork(learning_rate=0.5), DELTAS[:2])
    assert half.vector.tolist() == pytest.approx([1.05, -2.05, 1.0])


def test_the_start_is_not_written_to():
    run(ServerWork(optimizer="adam"))
    assert START.tolist() == [1.0, -2.0, 0.5]


def test_momentum_and_decay_by_hand():
    work = ServerWork(momentum=0.9, weight_decay=0.1)
    w, buffer = START.double(), None
    for delta in DELTAS:
        gradient = -delta.double() + 0.1 * w
        buffer = gradient if buffer is None else 0.9 * buffer + gradient
        w = w - buffer
    assert torch.allclose(run(work).vector.double(), w, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_adam_is_torch_adamw_on_the_negative_update(schedule):
    work = ServerWork(
        rounds=4,
        optimizer="adam",
        learning_rate=0.1,
        momentum=0.8,
        beta2=0.95,
        epsilon=1e-6,
        weight_decay=0.05,
    )
    work = ServerWork(**{**vars(work), "schedule": schedule})
    parameter = torch.nn.Parameter(START.clone())
    theirs = torch.optim.AdamW([parameter], betas=(0.8, 0.95), eps=1e-6, weight_decay=0.05)
    for number, delta in enumerate(DELTAS, 1):
        theirs.param_groups[0]["lr"] = learning_rate(work, number)
        parameter.grad = -delta
        theirs.step()
    found = run(work)
    assert torch.equal(found.vector, parameter.data)
    assert not torch.allclose(found.vector, START, atol=0.05)


@pytest.mark.parametrize("rounds", [2, 3, 4, 6, 10, 37, 300])
def test_onecycle_is_torch_onecycle(rounds):
    work = ServerWork(rounds=rounds, schedule="onecycle", learning_rate=4e-3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=rounds, pct_start=0.2)
    for number in range(1, rounds + 1):
        assert learning_rate(work, number) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if number < rounds:
            theirs.step()


def test_schedules_by_hand():
    def rates(**work):
        return [learning_rate(ServerWork(**work), n) for n in range(1, work["rounds"] + 1)]

    assert rates(rounds=3, learning_rate=0.5) == [0.5, 0.5, 0.5]
    assert rates(rounds=4, schedule="cosine") == pytest.approx(
        [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]
    )
    assert rates(rounds=1, schedule="onecycle") == [1.0]
    five = rates(rounds=5, schedule="onecycle")  # where torch divides by zero
    assert five[0] == 1.0
    assert five == sorted(five, reverse=True)
    assert five[-1] == pytest.approx(1 / 250_000)


def test_the_average_by_hand():
    """Its decay is (1 + t) / (10 + t) until that reaches the one asked for (Polyak with a warm start)."""
    found = run(ServerWork(ema=0.25))
    average, w = START.double(), START.double()
    for number, delta in enumerate(DELTAS, 1):
        w = w + delta
        decay = min(0.25, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * w
    assert [(1 + n) / (10 + n) < 0.25 for n in (1, 2, 3, 4)] == [True, False, False, False]
    assert torch.allclose(found.average.double(), average, atol=1e-6)
    assert not torch.allclose(found.average, found.vector)


def test_running_statistics_take_the_mean_update_as_it_is():
    found = run(ServerWork(optimizer="adam", learning_rate=0.01), parameters=2)
    alone = run(ServerWork(optimizer="adam", learning_rate=0.01), [d[:2] for d in DELTAS], START[:2])
    assert torch.equal(found.vector[:2], alone.vector)
    assert float(found.vector[2]) == pytest.approx(0.5 + 1.0 - 0.25 + 0.1)


@pytest.mark.parametrize(
    "work",
    [
        ServerWork(rounds=4, ema=0.9),
        ServerWork(rounds=4, momentum=0.9, schedule="cosine"),
        ServerWork(rounds=4, optimizer="adam", learning_rate=0.1, momentum=0.9, weight_decay=0.05, ema=0.5),
    ],
    ids=lambda work: f"{work.optimizer}-{work.momentum}",
)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_restored_optimizer_goes_on_to_equal_bits(work, after, tmp_path):
    whole = run(work)
    folder = RunFolder(tmp_path)
    folder.save_checkpoint("state", run(work, DELTAS[:after]).state(), {})
    found = folder.load_checkpoint("state")
    assert found is not None
    resumed = ServerOptimizer(work, torch.zeros(3))
    resumed.restore(found[0])
    for number in range(after + 1, 5):
        resumed.step(DELTAS[number - 1].double(), number)
    assert torch.equal(resumed.vector, whole.vector)
    assert torch.equal(resumed.average, whole.average)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.125, 2, width=32),
)
def test_averaging_is_a_sum_of_updates(deltas, rate):
    found = run(ServerWork(learning_rate=rate), [torch.tensor(delta) for delta in deltas])
    total = START.double().numpy() + rate * np.sum(deltas, 0)
    assert np.allclose(found.vector.numpy(), total, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["yogi", "adagrad"])
def test_yogi_and_adagrad_by_hand(optimizer):
    rules = {"yogi": lambda v, g: v - 0.1 * np.sign(v - g * g) * g * g, "adagrad": lambda v, g: v + g * g}
    work = ServerWork(
        optimizer=optimizer, learning_rate=0.1, momentum=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.5
    )
    w, m, v = START.double().numpy(), np.zeros(3), np.zeros(3)
    for number, delta in enumerate(DELTAS, 1):
        g = -delta.double().numpy()
        m, v = 0.8 * m + 0.2 * g, rules[optimizer](v, g)
        second = v / (1 - 0.9**number) if optimizer == "yogi" else v
        w = w * (1 - 0.1 * 0.5) - 0.1 * (m / (1 - 0.8**number)) / (np.sqrt(second) + 1e-3)
    assert run(work).vector.numpy() == pytest.approx(w, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["yogi", "adagrad"])
def test_they_go_on_from_a_checkpoint_bit_for_bit(optimizer, tmp_path):
    work = ServerWork(optimizer=optimizer, learning_rate=0.1, momentum=0.8)
    whole, part = run(work), run(work, DELTAS[:2])
    folder = RunFolder(tmp_path)
    folder.save_checkpoint("c", part.state(), {})
    again = ServerOptimizer(work, START)
    again.restore(folder.load_checkpoint("c")[0])
    for number, delta in enumerate(DELTAS[2:], 3):
        again.step(delta.double(), number)
    assert torch.equal(again.vector, whole.vector)
