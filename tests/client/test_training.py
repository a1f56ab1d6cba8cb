"""Local work: which pictures, which steps, and nothing left behind."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from client.plan import LocalWork
from client.private_training import train_private
from client.randomness import KeyedStream, SeededEntropy, torch_generator
from client.training import LocalRows, batch_size, batches, dropout_seeded, losses_of, train_plain
from fer_models.errors import PrivacyError, TrainingError
from fer_models.losses import soft_cross_entropy
from fer_models.transforms import to_input
from fer_models.zoo import build

SITE = SeededEntropy(5, "site-3")
WHERE = "site-3, round 1"
CPU = torch.device("cpu")


def rounds(work, rows, count, entropy=SITE):
    return [list(batches(work, rows, number, entropy)) for number in range(1, count + 1)]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 70), st.floats(0, 1))
def test_an_epoch_takes_every_row_once(rows, amount, batch, rate):
    work = LocalWork(unit="epochs", amount=amount, batch=batch, rate=rate)
    for found in rounds(work, rows, 2):
        counts = np.bincount(np.concatenate(found), minlength=rows)
        assert counts.tolist() == [amount] * rows
        size = batch_size(work, rows)
        assert [len(b) for b in found[: math.ceil(rows / size)]][:-1] == [size] * (math.ceil(rows / size) - 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 70), st.floats(0, 1), st.integers(1, 9))
def test_steps_go_on_through_epochs_from_round_to_round(rows, amount, batch, rate, count):
    """After any round no row has been visited more than once more often than another."""
    work = LocalWork(unit="steps", amount=amount, batch=batch, rate=rate)
    visits = np.zeros(rows, int)
    for found in rounds(work, rows, count):
        assert [len(b) for b in found] == [batch_size(work, rows)] * amount
        visits += np.bincount(np.concatenate(found), minlength=rows)
        assert visits.max() - visits.min() <= 1


@pytest.mark.parametrize(
    ("rate", "batch", "rows", "size"),
    [
        (0, 32, 100, 32),
        (0, 32, 7, 7),
        (0.1, 32, 100, 10),
        (0.1, 32, 4, 1),
        (1.0, 1, 30, 30),
        (0.25, 1, 10, 2),
    ],
)
def test_batch_sizes_follow_the_rate(rate, batch, rows, size):
    assert batch_size(LocalWork(rate=rate, batch=batch), rows) == size


@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_batches_repeat_with_the_seed_and_differ_between_rounds_and_sites(unit):
    work = LocalWork(unit=unit, amount=2, batch=8)

    def order(entropy, number):
        return np.concatenate(list(batches(work, 40, number, entropy))).tolist()

    assert order(SITE, 1) == order(SeededEntropy(5, "site-3"), 1)
    assert order(SITE, 1) != order(SITE, 2)
    assert order(SITE, 1) != order(SeededEntropy(5, "site-4"), 1)
    assert order(SITE, 1) != order(SeededEntropy(6, "site-3"), 1)


def by_hand(plan, samples, rows, targets, number=1):
    """Return the weights after plain torch steps on an ordinary module, in the flat order of ``to_state``."""
    module = build(plan.model, plan.seed)
    start = [p.detach().clone() for p in module.parameters()]
    work = plan.local
    if work.optimizer == "adamw":
        optimizer = torch.optim.AdamW(module.parameters(), work.learning_rate, weight_decay=work.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            module.parameters(), work.learning_rate, momentum=work.momentum, weight_decay=work.weight_decay
        )
    losses = []
    for positions in batches(work, len(rows), number, SITE):
        optimizer.zero_grad()
        logits = module(to_input(samples.pictures[rows[positions]]))
        target = targets[positions] * (1 - work.smoothing) + work.smoothing / targets.shape[1]
        loss = functional.cross_entropy(logits, target)
        loss.backward()
        if work.gradient_clip:
            torch.nn.utils.clip_grad_norm_(module.parameters(), work.gradient_clip)
        for parameter, origin in zip(module.parameters(), start, strict=True):
            parameter.grad += work.proximal * (parameter.detach() - origin)
        optimizer.step()
        losses += [float(loss.detach())] * len(positions)
    return module.state_dict(), float(np.mean(losses))


WORK = {
    "sgd": {},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    "clip": {"gradient_clip": 0.3, "learning_rate": 1.0},
    "a clip that does not bite": {"gradient_clip": 1e6},
    "fedprox": {"proximal": 2.0},
    "smoothing": {"smoothing": 0.2},
    "all, in epochs": {"proximal": 0.5, "gradient_clip": 0.5, "momentum": 0.5, "unit": "epochs", "amount": 2},
}


@pytest.mark.parametrize("kind", list(WORK))
@pytest.mark.parametrize("name", ["cnn_tiny", "fer_nano"])
def test_plain_training_is_plain_torch(name, kind, plan_of, bench_of, rows_of, samples):
    plan = plan_of(name, local={"amount": 3, "batch": 7, **WORK[kind]})
    bench, data, work = bench_of(plan), rows_of(range(30, 60)), plan.local
    done = train_plain(bench, data, work, 1, SITE, WHERE)
    state, loss = by_hand(plan, samples, data.rows, data.targets)
    found = bench.flat.to_state()
    if work.optimizer == "adamw":  # which makes a whole step of the rounding of a gradient near 0
        apart = sum(float((found[key] - state[key]).square().sum()) for key in state)
        assert apart**0.5 < 1e-3 * work.learning_rate * len(bench.flat) ** 0.5
    else:
        for key, value in found.items():
            torch.testing.assert_close(value, state[key], rtol=1e-4, atol=2e-5, msg=f"{kind} {key}")
    assert done.loss == pytest.approx(loss, rel=1e-4)
    assert (done.visits, done.steps) == ((60, 10) if plan.local.unit == "epochs" else (21, 3))
    assert bench.flat.is_intact()


def test_each_of_these_kinds_of_work_is_another(plan_of, bench_of, rows_of):
    ends = []
    for kind in WORK:
        plan = plan_of(local={"amount": 3, "batch": 7, **WORK[kind]})
        bench = bench_of(plan)
        train_plain(bench, rows_of(range(30, 60)), plan.local, 1, SITE, WHERE)
        ends.append(bench.flat.vector.clone())
    alike = {
        (i, j) for i in range(len(ends)) for j in range(i) if torch.allclose(ends[i], ends[j], atol=1e-6)
    }
    assert alike == {(4, 0)}, "only a clip that does not bite changes nothing"


def test_targets_are_votes_or_labels(rows_of, samples, plan_of, bench_of):
    votes, labels = rows_of([4, 2]), rows_of([4, 2], votes=False)
    shares = samples.votes[[4, 2]] / samples.votes[[4, 2]].sum(1, keepdims=True)
    assert votes.targets.numpy() == pytest.approx(shares)
    assert labels.targets.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert torch.equal(votes.inputs(np.array([1]), CPU), to_input(samples.pictures[[2]]))
    plan = plan_of()
    bench = bench_of(plan)
    found = losses_of(bench, votes, np.array([1, 0]), plan.local, torch_generator(bytes(32)))
    logits = bench.flat.module(to_input(samples.pictures[[2, 4]]))
    torch.testing.assert_close(found, soft_cross_entropy(logits, votes.targets[[1, 0]]))


def test_augmentation_changes_pictures_and_follows_the_key(plan_of, bench_of, rows_of):
    plan = plan_of(local={"augment": True, "amount": 1, "batch": 50})
    ends = []
    for seed in (1, 1, 2):
        bench = bench_of(plan)
        train_plain(bench, rows_of(range(50)), plan.local, 1, SeededEntropy(seed, "a"), WHERE)
        ends.append(bench.flat.vector.clone())
    bench = bench_of(plan)
    train_plain(bench, rows_of(range(50)), plan_of(local={"amount": 1, "batch": 50}).local, 1, SITE, WHERE)
    assert torch.equal(ends[0], ends[1])
    # One batch holds all rows, so that the order of rows is no reason for a difference above rounding.
    assert (ends[0] - ends[2]).abs().max() > 1e-5
    assert (ends[0] - bench.flat.vector).abs().max() > 1e-5


@pytest.mark.parametrize("rate", [1e30, 3e38])
@pytest.mark.parametrize("private", [False, True])
def test_a_diverged_site_is_named_with_its_round(rate, private, plan_of, bench_of, rows_of):
    privacy = {"noise_multiplier": 1e9} if private else None
    plan = plan_of(local={"learning_rate": rate, "amount": 5}, privacy=privacy)
    bench = bench_of(plan)
    with pytest.raises(TrainingError, match=r"not finite \(site-7, round 12\)\. Lower local\.learning_rate"):
        if private:
            train_private(bench, rows_of(range(50)), plan, 12, SITE, "site-7, round 12")
        else:
            train_plain(bench, rows_of(range(50)), plan.local, 12, SITE, "site-7, round 12")


def test_weights_that_are_nan_are_a_training_error(plan_of, bench_of, rows_of):
    plan = plan_of()
    bench = bench_of(plan)
    bench.flat.vector.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        train_plain(bench, rows_of(range(50)), plan.local, 1, SITE, WHERE)


def test_dropout_is_seeded_and_the_global_generator_left_alone(plan_of, bench_of, rows_of):
    plan = plan_of("fer_nano", dropout=0.5)
    state = torch.get_rng_state()
    draws = []
    for key in (b"a" * 32, b"a" * 32, b"b" * 32):
        with dropout_seeded(plan, key):
            draws.append(torch.rand(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    with pytest.raises(KeyError), dropout_seeded(plan, b"a" * 32):
        torch.rand(4)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_without_dropout_nothing_is_seeded(plan_of):
    state = torch.get_rng_state()
    with dropout_seeded(plan_of(dropout=0.0), b"a" * 32):
        torch.rand(4)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)


class Watched:
    """A seeded source that notes which keys were asked for."""

    def __init__(self):
        self.asked = []

    def key(self, round_number, purpose):
        self.asked.append((round_number, purpose))
        return SITE.key(round_number, purpose)


def sampled(plan, bench, data, number):
    """Return which rows each step of a private round looks at, and the result."""
    seen, inner = [], data.inputs

    class Spy(type(data)):
        def inputs(self, positions, device):
            seen.append(positions)
            return inner(positions, device)

    return seen, train_private(bench, Spy(data.samples, data.rows, data.targets), plan, number, SITE, WHERE)


def test_poisson_sampling_takes_each_row_with_the_rate_by_itself(plan_of, bench_of, rows_of):
    """As many as 300 steps over 50 rows; batches stay below the physical size, so a step looks once."""
    plan = plan_of(local={"rate": 0.2, "amount": 300, "learning_rate": 1e-6}, privacy={})
    seen, done = sampled(plan, bench_of(plan), rows_of(range(50)), 1)
    taken = np.zeros((len(seen), 50))
    for step, positions in enumerate(seen):
        taken[step, positions] = 1
    assert len(seen) == 300, "an empty batch has a chance of 1e-5 a step"
    assert done.steps == 300
    assert done.visits == taken.sum()
    # Four and a half standard errors: of all 15,000 draws, of each row, of the batch sizes' variance, of pairs.
    assert abs(taken.mean() - 0.2) < 4.5 * math.sqrt(0.16 / taken.size)
    assert np.abs(taken.mean(0) - 0.2).max() < 4.5 * math.sqrt(0.16 / 300)
    assert abs(taken.sum(1).var() / (50 * 0.16) - 1) < 4.5 * math.sqrt(2 / 300)
    neighbours = (taken[:, :-1] * taken[:, 1:]).mean()
    assert abs(neighbours - 0.04) < 4.5 * math.sqrt(0.04 / (300 * 49))
    assert len({tuple(p) for p in seen}) == 300, "every step draws anew"


def test_poisson_sampling_follows_the_keyed_stream(plan_of, bench_of, rows_of):
    plan = plan_of(local={"rate": 0.3, "amount": 4}, privacy={})
    seen, _ = sampled(plan, bench_of(plan), rows_of(range(50)), 7)
    stream = KeyedStream(SITE.key(7, "poisson"))
    assert [p.tolist() for p in seen] == [np.flatnonzero(stream.uniform(50) < 0.3).tolist() for _ in range(4)]


def test_private_training_repeats_with_its_keys(plan_of, bench_of, rows_of):
    plan = plan_of("fer_nano", local={"amount": 2, "augment": True}, privacy={})
    ends = []
    for entropy, number in ((SITE, 1), (SITE, 1), (SITE, 2), (SeededEntropy(5, "site-4"), 1)):
        bench = bench_of(plan)
        train_private(bench, rows_of(range(20)), plan, number, entropy, WHERE)
        ends.append(bench.flat.vector.clone())
        assert bench.flat.is_intact()
        assert not bench.flat.gradient.any(), "no gradient without noise stays behind"
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2], atol=1e-3)
    assert not torch.allclose(ends[0], ends[3], atol=1e-3)


def test_noise_and_sampling_come_from_the_keys_and_from_nothing_else(plan_of, bench_of, rows_of):
    source = Watched()
    plan, state = plan_of(privacy={}), torch.get_rng_state()
    train_private(bench_of(plan), rows_of(range(20)), plan, 3, source, WHERE)
    assert set(source.asked) == {(3, "noise"), (3, "poisson"), (3, "augment")}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_private_step_divides_by_the_public_constant(plan_of, bench_of, rows_of):
    """Noise of a site is sigma C / (rate nominal_units), whatever the number of its rows."""
    deviations = []
    for rows in (1, 40):
        plan = plan_of(
            local={"amount": 1, "learning_rate": 1.0, "rate": 0.1},
            privacy={"noise_multiplier": 50.0, "clip": 0.2, "nominal_units": 400},
        )
        bench = bench_of(plan)
        before = bench.flat.vector.clone()
        train_private(bench, rows_of(range(rows)), plan, 1, SITE, WHERE)
        deviations.append(float((bench.flat.vector - before).std()))
    assert deviations == pytest.approx([50 * 0.2 / 40] * 2, rel=0.03)


def test_private_training_learns(plan_of, bench_of, rows_of):
    """With little noise the loss falls: the step goes down the gradient."""
    plan = plan_of(
        "fer_nano",
        local={"amount": 12, "learning_rate": 1.0, "rate": 0.5, "targets": "label"},
        privacy={"noise_multiplier": 0.05},
    )
    bench, data = bench_of(plan), rows_of(range(50), votes=False)
    first = train_private(bench, data, plan, 1, SITE, WHERE)
    second = train_private(bench, data, plan, 2, SITE, WHERE)
    assert second.loss < 0.75 * first.loss < 0.75 * math.log(3)
    with torch.no_grad():
        right = bench.flat.module(data.inputs(np.arange(50), CPU)).argmax(1) == data.targets.argmax(1)
    assert right.float().mean() > 0.8


@pytest.mark.parametrize("there", [True, False])
def test_one_record_cannot_break_a_private_round(there, plan_of, bench_of, samples):
    """Weights that overflow on every picture but a blank one must not tell by an error whether others are there."""
    plan = plan_of("cnn_tiny", local={"rate": 1.0, "amount": 1}, privacy={})
    pictures = samples.pictures.copy()
    pictures[1:] = 0
    rows = np.arange(0 if there else 1, 5)
    data = LocalRows(replace(samples, pictures=pictures), rows, torch.full((len(rows), 3), 1 / 3))
    bench = bench_of(plan)
    with torch.no_grad():
        for layer in (0, 2):
            bench.flat.module[layer].weight.fill_(1e35)
            bench.flat.module[layer].bias.zero_()
    done = train_private(bench, data, plan, 1, SITE, WHERE)
    assert math.isfinite(done.loss) != there, "the picture does overflow"
    assert torch.isfinite(bench.flat.vector).all()


def test_batch_norm_is_refused_before_anything_is_drawn(plan_of, bench_of, rows_of):
    plan, source = plan_of("fer_nano", norm="bn", privacy={}), Watched()
    with pytest.raises(PrivacyError, match="mix the pictures"):
        bench_of(plan)
    bench = bench_of(replace(plan, privacy=None))
    before = bench.flat.full_vector.clone()
    with pytest.raises(PrivacyError, match="mix the pictures"):
        train_private(bench, rows_of(range(20)), plan, 1, source, WHERE)
    assert torch.equal(bench.flat.full_vector, before)
