# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""The private step against gradients made one sample at a time, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

from client.gradients import PHYSICAL_BATCH, PrivateTrainer
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

NETS = [("hog_linear", "gn"), ("fer_nano", "gn"), ("fer_nano", "ws"), ("cnn_tiny", "none")]
SILENT = 1e-15
"""A noise multiplier that leaves the sum as it is, to 1e-14."""


def net(name="cnn_tiny", norm="none", dtype=torch.float64):
    module = build(ModelSpec(name, norm=norm, classes=4, dropout=0.0), 0).to(dtype)
    if name == "hog_linear":  # which begins with zeros
        nn.init.normal_(module.classifier.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return module


def pictures(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 1, 48, 48, generator=generator, dtype=dtype)
    # Of different contrast, so that some gradients are clipped and some are not.
    x *= torch.logspace(-2, 1, count, dtype=dtype)[:, None, None, None]
    return x, torch.randint(0, 4, (count,), generator=generator)


def losses_on(module, x, y):
    return lambda rows: functional.cross_entropy(module(x[rows]), y[rows], reduction="none")


def trainer_of(module, *, sigma=SILENT, clip=1.0, divisor=1.0, key=bytes(32), **work):
    work = LocalWork(**{"learning_rate": 1.0, "gradient_clip": 0.0, **work})
    privacy = Privacy(sigma, clip, 1e-5, 100)
    flat = module if isinstance(module, FlatModel) else FlatModel(module)
    return PrivateTrainer(flat, privacy, divisor=divisor, work=work, stream=KeyedStream(key))


def flat_of(module):
    module = getattr(module, "module", module)
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def step(module, rows, losses, **options):
    """Return the step that was taken: before minus after, with learning rate 1 the private gradient."""
    before = flat_of(module)
    trainer = trainer_of(module, **options)
    try:
        trainer.step(np.asarray(rows), losses)
    finally:
        trainer.close()
    return before - flat_of(module)


def gradients_by_hand(module, x, y):
    """Return each sample's gradient (n, P) by one plain backward a sample."""
    found = []
    for one, label in zip(x, y, strict=True):
        module.zero_grad(set_to_none=True)
        functional.cross_entropy(module(one[None]), label[None]).backward()
        found.append(torch.cat([p.grad.reshape(-1) for p in module.parameters()]))
    module.zero_grad(set_to_none=True)
    return torch.stack(found)


def clipped_sum(gradients, clip):
    factors = (clip / (gradients.norm(dim=1) + 1e-6)).clamp(max=1)
    return (factors[:, None] * gradients).sum(0)


@pytest.mark.parametrize(("name", "norm"), NETS)
def test_the_clipped_sum_is_that_of_gradients_made_one_by_one(name, norm):
    module, (x, y) = net(name, norm), pictures(9)
    gradients = gradients_by_hand(module, x, y)
    norms = gradients.norm(dim=1)
    clip = float(norms.median())
    assert norms.min() < clip < norms.max(), "some are clipped, some are not"
    found = step(module, range(9), losses_on(module, x, y), clip=clip)
    torch.testing.assert_close(found, clipped_sum(gradients, clip), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "norm"), NETS)
def test_a_flat_model_in_its_own_layout_takes_the_same_step(name, norm):
    plain, module, (x, y) = net(name, norm), net(name, norm), pictures(6)
    flat = FlatModel(module)
    expected = step(plain, range(6), losses_on(plain, x, y))
    torch.testing.assert_close(step(flat, range(6), losses_on(module, x, y)), expected, rtol=0, atol=1e-12)
    flat.zero_grad()
    assert flat.is_intact()


@pytest.mark.parametrize("size", [PHYSICAL_BATCH, PHYSICAL_BATCH + 1, 2 * PHYSICAL_BATCH + 3])
def test_a_batch_in_parts_is_one_batch(size, monkeypatch):
    one, parts, (x, y) = net(), net(), pictures(size)
    in_parts = step(parts, range(size), losses_on(parts, x, y), sigma=0.5)
    monkeypatch.setattr("client.gradients.PHYSICAL_BATCH", 10 * PHYSICAL_BATCH)
    at_once = step(one, range(size), losses_on(one, x, y), sigma=0.5)
    torch.testing.assert_close(in_parts, at_once, rtol=0, atol=1e-12)  # noise, too, is added once


def test_the_loss_of_a_step_is_the_sum_over_its_batch():
    module, (x, y) = net(), pictures(70)
    expected = float(losses_on(module, x, y)(np.arange(70)).detach().sum())
    trainer = trainer_of(module)
    assert trainer.step(np.arange(70), losses_on(module, x, y)) == pytest.approx(expected, rel=1e-12)
    assert trainer.step(np.arange(0), losses_on(module, x, y)) == 0
    trainer.close()


def test_noise_has_the_deviation_sigma_clip_over_divisor():
    """An empty batch is a step of pure noise."""
    module = net()
    moved = step(module, [], None, sigma=1.7, clip=0.3, divisor=25.0).numpy()
    deviation = 1.7 * 0.3 / 25
    assert stats.kstest(moved / deviation, "norm").pvalue > 1e-3
    assert moved.std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * len(moved)))
    for part in torch.split(torch.from_numpy(moved), [p.numel() for p in module.parameters()]):
        if len(part) > 100:
            assert float(part.std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * len(part)))


def test_noise_is_added_to_the_sum_and_not_to_each_part():
    """The step minus its noiseless twin is noise of one step's deviation, however large the batch."""
    (x, y), steps = pictures(2 * PHYSICAL_BATCH), []
    for sigma in (2.0, SILENT):
        module = net()
        steps.append(step(module, range(len(x)), losses_on(module, x, y), sigma=sigma, divisor=7.0))
    noise = (steps[0] - steps[1]).numpy()
    assert noise.std() == pytest.approx(2 / 7, rel=4 / math.sqrt(2 * len(noise)))


def test_every_step_and_every_parameter_has_its_own_noise():
    module = net()
    trainer = trainer_of(module, sigma=1.0)
    seen = [flat_of(module)]
    for _ in range(2):
        trainer.step(np.arange(0), None)
        seen.append(flat_of(module))
    trainer.close()
    one, two = (seen[0] - seen[1]).numpy(), (seen[1] - seen[2]).numpy()
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(len(one))
    drawn = np.round(np.concatenate([one, two]), 9)
    assert len(np.unique(drawn)) == len(drawn)


def test_noise_follows_the_key():
    one, two, other = (step(net(), [], None, sigma=1.0, key=key) for key in (b"a" * 32, b"a" * 32, b"b" * 32))
    assert torch.equal(one, two)
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(len(one))


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(NETS),
    st.floats(0.01, 30),
    st.lists(st.integers(0, 7), unique=True, max_size=7),
    st.sampled_from([1e-3, 1.0, 1e3, 1e30]),
)
def test_one_record_moves_the_sum_by_no_more_than_the_clip(kind, clip, others, contrast):
    """What the noise is scaled to: the sensitivity of the sum, for any record and any company."""
    module, (x, y) = net(*kind, dtype=torch.float32), pictures(9, torch.float32)
    x[8] *= contrast
    start = {name: value.clone() for name, value in module.state_dict().items()}
    sums = []
    for rows in ([*others, 8], others):
        module.load_state_dict(start)
        sums.append(step(module, np.array(rows, int), losses_on(module, x, y), clip=clip).double())
    size = max(1.0, float(flat_of(module).abs().max()), float(sums[0].abs().max()))
    assert float((sums[0] - sums[1]).norm()) <= clip + 1e-6 * size * math.sqrt(len(sums[0]))


@pytest.mark.parametrize("factor", [float("inf"), float("nan"), 1e38])
def test_a_record_whose_gradient_is_not_finite_counts_as_none(factor):
    """Otherwise a NaN in the update would tell that the record is there."""
    (x, y), sums = pictures(5, torch.float32), []
    for rows in ([0, 1, 2, 3, 4], [0, 1, 3, 4]):
        module = net(dtype=torch.float32)
        weights = torch.ones(5)
        weights[2] = factor
        weigh = losses_on(module, x, y)
        sums.append(step(module, rows, lambda part, f=weigh, w=weights: f(part) * w[part]))
    assert torch.isfinite(sums[0]).all()
    assert float((sums[0] - sums[1]).norm()) <= 1 + 1e-5
    if not math.isfinite(factor):
        torch.testing.assert_close(sums[0], sums[1], rtol=0, atol=1e-6)


def test_momentum_and_decay_work_on_the_noisy_gradient():
    """Two steps of SGD by hand: v = g; w -= lr v; v = m v + g'; w -= lr v, g with weight decay."""
    module, (x, y) = net(), pictures(6)
    options = {"learning_rate": 0.5, "momentum": 0.8, "weight_decay": 0.1}
    before = flat_of(module)
    first = clipped_sum(gradients_by_hand(module, x[:3], y[:3]), 1.0) / 4 + 0.1 * before
    middle = before - 0.5 * first
    nn.utils.vector_to_parameters(middle, module.parameters())
    second = clipped_sum(gradients_by_hand(module, x[3:], y[3:]), 1.0) / 4 + 0.1 * middle
    expected = middle - 0.5 * (0.8 * first + second)
    nn.utils.vector_to_parameters(before, module.parameters())
    trainer = trainer_of(module, divisor=4.0, **options)
    trainer.step(np.arange(3), losses_on(module, x, y))
    trainer.step(np.arange(3, 6), losses_on(module, x, y))
    trainer.close()
    torch.testing.assert_close(flat_of(module), expected, rtol=0, atol=1e-12)


def test_fedprox_pulls_the_second_step_to_the_start():
    module, (x, y) = net(), pictures(6)
    before = flat_of(module)
    middle = before - clipped_sum(gradients_by_hand(module, x[:3], y[:3]), 1.0)
    nn.utils.vector_to_parameters(middle, module.parameters())
    pulled = clipped_sum(gradients_by_hand(module, x[3:], y[3:]), 1.0) + 0.3 * (middle - before)
    nn.utils.vector_to_parameters(before, module.parameters())
    trainer = trainer_of(module, proximal=0.3)
    for rows in (np.arange(3), np.arange(3, 6)):
        trainer.step(rows, losses_on(module, x, y))
    trainer.close()
    torch.testing.assert_close(flat_of(module), middle - pulled, rtol=0, atol=1e-12)


def test_adamw_takes_its_first_step_by_the_sign():
    """With a fresh state Adam's first step is the learning rate times g / (|g| + eps)."""
    module = net()
    moved = step(module, [], None, sigma=1.0, optimizer="adamw", learning_rate=0.01)
    noise = step(net(), [], None, sigma=1.0)
    torch.testing.assert_close(moved, 0.01 * noise / (noise.abs() + 1e-8), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.BatchNorm2d(4).requires_grad_(False)])
def test_batch_norm_is_refused(norm):
    module = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(4 * 46 * 46, 4))
    with pytest.raises(PrivacyError, match=r"1 layers mix the pictures .* \(1\)"):
        trainer_of(module)


def test_close_leaves_no_trace():
    module = net("fer_nano", "ws", torch.float32)
    flat, plain = FlatModel(module), set(vars(module))
    x, y = pictures(3, torch.float32)
    step(flat, range(3), losses_on(module, x, y))
    assert set(vars(module)) == plain
    for layer in module.modules():
        assert not layer._forward_hooks
        assert not layer._backward_hooks
        assert not hasattr(layer, "activations")
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in module.parameters())
    flat.zero_grad()
    assert flat.is_intact()
    losses_on(module, x, y)(np.arange(3)).sum().backward()
    assert flat.is_intact()
    assert flat.gradient.any()


@pytest.mark.parametrize("when", ["forward", "second part"])
def test_a_step_that_broke_leaves_nothing_for_the_next(when):
    """Activations, or a half-made sum, of a step that failed must not enter another."""
    count = PHYSICAL_BATCH + 4
    module, fresh, (x, y) = net(dtype=torch.float32), net(dtype=torch.float32), pictures(count, torch.float32)
    losses = losses_on(module, x, y)

    def broken(rows):
        found = losses(rows)
        if when == "forward" or len(rows) < PHYSICAL_BATCH:
            raise MemoryError
        return found

    with pytest.raises(MemoryError):
        step(module, range(count), broken)
    expected = step(fresh, range(9), losses_on(fresh, x, y))
    torch.testing.assert_close(step(module, range(9), losses), expected, rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 5, PHYSICAL_BATCH + 3])
def test_the_clipped_sum_has_no_noise_and_the_flat_order(count):
    module = net("fer_nano", "gn")
    x, y = pictures(count)
    expected = torch.zeros(0)
    if count:
        expected = clipped_sum(gradients_by_hand(module, x, y), 1.0)
    flat = FlatModel(module)
    trainer = PrivateTrainer(
        flat, Privacy(3.0, 1.0, 1e-5, 100), divisor=7.0, work=LocalWork(), stream=KeyedStream(bytes(32))
    )
    found = trainer.clipped_sum(np.arange(count), losses_on(module, x, y))
    trainer.close()
    by_name = flat.views(found)
    given = torch.cat([by_name[name].reshape(-1) for name, _ in module.named_parameters()])
    torch.testing.assert_close(given, expected if count else torch.zeros_like(given), rtol=1e-9, atol=1e-12)
