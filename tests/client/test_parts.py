# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Parameters in parts: each clipped by itself, weighed after the clip, and noisy by itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

from client.bookkeeping.book import NOTHING
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.gradients import PHYSICAL_BATCH, Part, PrivateTrainer, multiplier_of, part_of
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

RHO = 3.0
SILENT = 1e-15
"""A noise multiplier that leaves the sum as it is."""
KINDS = ("net.", "critic.")


class Pair(nn.Module):
    """Two linear forms whose gradients are the input itself: a net on its first number, a critic on the others."""

    def __init__(self):
        super().__init__()
        self.net, self.critic = nn.Linear(1, 1, bias=False), nn.Linear(2, 1, bias=False)

    def forward(self, x):
        return self.net(x[:, :1])[:, 0] + self.critic(x[:, 1:])[:, 0]


class Parted(nn.Module):
    """A net of the zoo and a critic on its answer."""

    def __init__(self, name, norm):
        super().__init__()
        self.net = build(ModelSpec(name, norm=norm, classes=4, dropout=0.0), 0)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.critic = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))

    def forward(self, x):
        logits = self.net(x)
        return logits, self.critic(logits.detach())


def kind_of(name):
    return KINDS.index(name[: name.index(".") + 1])


def pair():
    return Pair().double()


def settled(module, x, clip, weights=None, sizes=None):
    x = torch.as_tensor(x, dtype=torch.float64).view(-1, 3)
    gradients = PrivateGradients(module, part_of=kind_of)
    with gradients.recording(Units(sizes or (1,) * len(x))):
        losses = module(x)
    found = gradients.settle(losses.sum(), clip, weights)
    gradients.close()
    return found


def parts_of(sigma=SILENT, net=1.0, critic=0.5):
    stretch = math.sqrt(1 + 1 / RHO**2)
    return (
        Part("net.", net, sigma * net * stretch),
        Part("critic.", critic, sigma * RHO * critic * stretch),
    )


def trainer_of(module, parts, *, sigma=SILENT, gradients=None, divisor=1.0):
    return PrivateTrainer(
        module if isinstance(module, FlatModel) else FlatModel(module),
        Privacy(sigma, 1.0, 1e-5, 100),
        divisor=divisor,
        work=LocalWork(learning_rate=1.0, gradient_clip=0.0),
        stream=KeyedStream(bytes(32)),
        gradients=gradients,
        parts=parts,
    )


# By hand


def test_each_part_is_clipped_to_its_own_length():
    """Norms 3 and 5 to clips 1 and 2.5; norms .5 and 1 stay."""
    found = settled(pair(), [[3.0, 3.0, 4.0], [0.5, 0.6, -0.8]], (1.0, 2.5))
    near = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(found.norms, torch.tensor([[3.0, 0.5], [5.0, 1.0]]).double())
    torch.testing.assert_close(found.factors, torch.tensor([[1 / 3, 1.0], [0.5, 1.0]]).double(), **near)
    torch.testing.assert_close(found.sums["net.weight"], torch.tensor([1.5]).double(), **near)
    torch.testing.assert_close(found.sums["critic.weight"], torch.tensor([2.1, 1.2]).double(), **near)


def test_one_clip_for_all_is_over_the_joint_length():
    """Norm 5 of (3, 0, 4) to 1, whatever the parts."""
    found = settled(pair(), [[3.0, 0.0, 4.0]], 1.0)
    assert found.norms.tolist() == [5.0]
    assert found.factors.tolist() == pytest.approx([0.2], rel=1e-6)
    assert found.sums["net.weight"].tolist() == pytest.approx([0.6], rel=1e-6)
    assert found.sums["critic.weight"].tolist() == pytest.approx([0, 0.8], rel=1e-6)


def test_weights_come_after_the_clip():
    """Before it, weight .5 would leave a gradient of 30 at the clip: 1, not .5."""
    weights = (torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.25]))
    found = settled(pair(), [[30.0, 0.0, 9.0], [0.2, 0.0, 8.0]], (1.0, 2.0), weights)
    assert found.sums["net.weight"].tolist() == pytest.approx([0.7], rel=1e-6)
    assert found.sums["critic.weight"].tolist() == pytest.approx([0, 0.5], rel=1e-6)


def test_a_unit_of_several_samples_has_one_clip_and_one_weight():
    x = [[3.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.5, 0.0, 0.0]]
    found = settled(pair(), x, (1.0, 9.0), (torch.tensor([0.5, 1.0]), None), sizes=(2, 1))
    assert found.norms.tolist() == [[4.0, 0.5], [2.0, 0.0]]
    assert found.sums["net.weight"].tolist() == pytest.approx([1.0], rel=1e-6)
    assert found.sums["critic.weight"].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_unit_that_is_not_finite_in_one_part_counts_as_none_in_all(bad):
    weights = (None, torch.tensor([1.0, 0.5]))
    found = settled(pair(), [[0.5, bad, 0.0], [0.25, 0.0, 1.0]], (1.0, 1.0), weights)
    assert found.factors.tolist() == [[0.0, 1.0], [0.0, pytest.approx(0.5, rel=1e-5)]]
    assert found.sums["net.weight"].tolist() == [0.25]
    assert found.sums["critic.weight"].tolist() == pytest.approx([0.0, 0.5], rel=1e-5)


@pytest.mark.parametrize(
    "weight", [[1.0, 1 + 1e-6], [-1e-6, 0.0], [math.nan, 1.0], [1.0, math.inf], [1.0], [[1.0, 1.0]]]
)
def test_weights_that_are_no_shares_are_refused(weight):
    with pytest.raises(PrivacyError, match="weights"):
        settled(pair(), [[1.0, 0, 0], [0, 1.0, 0]], (1.0, 1.0), (None, torch.tensor(weight)))


@pytest.mark.parametrize(
    ("clip", "weights"), [((1.0,), None), ((1.0, 1.0), (None,)), (1.0, (None, None)), ((), ())]
)
def test_every_part_needs_a_clip_and_every_clip_a_weight(clip, weights):
    with pytest.raises(PrivacyError, match="clips and"):
        settled(pair(), [[1.0, 0, 0]], clip, weights)


def test_the_first_prefix_that_fits_has_a_parameter():
    index = part_of((Part("net.head.", 1, 1), Part("net.", 1, 1)))
    assert [index("net.head.weight"), index("net.body.weight")] == [0, 1]
    with pytest.raises(PrivacyError, match="no part"):
        index("critic.weight")
    assert part_of(())("anything") == 0


def test_the_multiplier_of_parts_is_that_of_the_joint_vector():
    assert multiplier_of((Part("", 2.0, 3.0),)) == pytest.approx(1.5)
    assert multiplier_of((Part("a", 1.0, 1.0), Part("b", 1.0, 1.0))) == pytest.approx(math.sqrt(0.5))
    assert multiplier_of(parts_of(sigma=1.1)) == pytest.approx(1.1)
    assert multiplier_of((Part("a", 1.0, 1.0), Part("b", 1.0, 0.0))) == 0


# Whatever the samples are

SAMPLE = st.tuples(*[st.floats(-1e6, 1e6) for _ in range(3)])
SHARE = st.floats(0, 1)
LENGTH = st.floats(1e-3, 1e3)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.lists(st.tuples(SAMPLE, SHARE, SHARE), min_size=1, max_size=5),
    clips=st.tuples(LENGTH, LENGTH),
)
def test_one_sample_moves_the_scaled_sums_by_the_stretch_at_most(samples, clips):
    """[net / C, critic / (rho C_D)] moves by sqrt(1 + 1 / rho^2), in whatever company and with whatever weights."""

    def sums_of(chosen):
        weights = [torch.tensor([each[part] for each in chosen]).double() for part in (1, 2)]
        found = settled(pair(), [each[0] for each in chosen], clips, weights).sums
        return torch.cat([found["net.weight"] / clips[0], found["critic.weight"] / (RHO * clips[1])])

    before = sums_of(samples[:-1]) if len(samples) > 1 else torch.zeros(3)
    assert float((sums_of(samples) - before).norm()) <= math.sqrt(1 + 1 / RHO**2) * (1 + 1e-9)


def test_a_long_gradient_in_both_parts_reaches_the_stretch():
    found = settled(pair(), [[1e6, 1e6, 0.0]], (2.0, 0.5)).sums
    scaled = torch.cat([found["net.weight"] / 2, found["critic.weight"] / (RHO * 0.5)])
    assert float(scaled.norm()) == pytest.approx(math.sqrt(1 + 1 / RHO**2), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(sample=SAMPLE, weight=SHARE)
def test_a_weight_never_makes_a_part_longer_and_one_changes_nothing(sample, weight):
    plain = settled(pair(), [sample], (1.0, 0.5)).sums
    weighed = settled(pair(), [sample], (1.0, 0.5), [torch.tensor([weight]).double()] * 2).sums
    ones = settled(pair(), [sample], (1.0, 0.5), [torch.ones(1).double()] * 2).sums
    for name, found in plain.items():
        assert float(weighed[name].norm()) <= float(found.norm())
        assert torch.equal(ones[name], found)


# Nets and steps


def pictures(count):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 1, 48, 48, generator=generator, dtype=torch.float64)
    x *= torch.logspace(-2, 1, count, dtype=torch.float64)[:, None, None, None]
    return x, torch.randint(0, 4, (count,), generator=generator)


def losses_on(module, x, y):
    def losses(rows):
        logits, answers = module(x[rows])
        critic = functional.cross_entropy(answers, y[rows] % 2, reduction="none")
        return functional.cross_entropy(logits, y[rows], reduction="none") + critic

    return losses


def by_hand(module, x, y):
    """Return each sample's gradients by part, [(n, P), (n, Q)], by one plain backward a sample."""
    found = []
    for index in range(len(x)):
        module.zero_grad(set_to_none=True)
        losses_on(module, x, y)([index]).sum().backward()
        each = [(kind_of(name), p.grad.reshape(-1)) for name, p in module.named_parameters()]
        found.append([torch.cat([g for kind, g in each if kind == part]) for part in (0, 1)])
    module.zero_grad(set_to_none=True)
    return [torch.stack(each) for each in zip(*found, strict=True)]


def expected_of(rows, clip, weight):
    factors = (clip / (rows.norm(dim=1) + NOTHING)).clamp(max=1) * torch.as_tensor(weight).double()
    return (factors[:, None] * rows).sum(0)


@pytest.mark.parametrize(("name", "norm"), [("fer_nano", "gn"), ("fer_nano", "ws"), ("fer_small", "gn")])
def test_a_net_with_a_critic_is_clipped_part_by_part_also_in_several_passes(name, norm):
    """Layers that keep rows, that keep norms alone, and weights that are computed from others."""
    module, count = Parted(name, norm).double(), PHYSICAL_BATCH + 3 if name == "fer_nano" else 6
    x, y = pictures(count)
    rows = by_hand(module, x, y)
    clips = [float(each.norm(dim=1).median()) for each in rows]
    weights = [np.linspace(0, 1, count, dtype=np.float32), None]
    trainer = trainer_of(module, (Part("net.", clips[0], 1.0), Part("critic.", clips[1], 1.0)))
    found = trainer._flat.views(trainer.clipped_sum(np.arange(count), losses_on(module, x, y), None, weights))
    trainer.close()
    expected = [expected_of(rows[0], clips[0], weights[0]), expected_of(rows[1], clips[1], 1.0)]
    for part in (0, 1):
        given = torch.cat([found[n].reshape(-1) for n, _ in module.named_parameters() if kind_of(n) == part])
        torch.testing.assert_close(given, expected[part], rtol=0, atol=1e-11)


def test_each_part_gets_its_own_noise():
    """An empty batch is a step of pure noise: sigma C and sigma rho C_D, times the stretch, over the divisor."""
    module = Parted("fer_nano", "gn").double()
    module.critic = nn.Sequential(nn.Linear(4, 400), nn.Linear(400, 2)).double()
    flat, parts = FlatModel(module), parts_of(sigma=1.7)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer = trainer_of(flat, parts, sigma=1.7, divisor=25.0)
    trainer.step(np.zeros(0, np.intp), None)
    trainer.close()
    moved = {name: (before[name] - p.detach()).reshape(-1) for name, p in module.named_parameters()}
    for part in parts:
        noise = torch.cat([each for name, each in moved.items() if name.startswith(part.prefix)]).numpy()
        assert stats.kstest(noise * 25 / part.deviation, "norm").pvalue > 1e-3
        assert noise.std() * 25 == pytest.approx(part.deviation, rel=4 / math.sqrt(2 * len(noise)))


def test_one_part_of_everything_is_the_step_without_parts():
    steps = []
    for parts in ((), (Part("", 1.0, 0.7),)):
        module, (x, y) = Parted("fer_nano", "gn").float(), pictures(7)
        trainer = trainer_of(module, parts, sigma=0.7)
        trainer.step(np.arange(7), losses_on(module, x.float(), y))
        steps.append(trainer._flat.vector.detach().clone())
        trainer.close()
    assert torch.equal(*steps)


def test_a_step_refuses_weights_of_another_batch():
    module, (x, y) = Parted("fer_nano", "gn").double(), pictures(PHYSICAL_BATCH + 2)
    trainer = trainer_of(module, parts_of())
    for count in (PHYSICAL_BATCH, PHYSICAL_BATCH + 3):
        with pytest.raises(PrivacyError, match="not one weight for each"):
            trainer.step(np.arange(len(x)), losses_on(module, x, y), None, [np.ones(count, np.float32), None])
    trainer.close()


def test_parts_with_less_noise_than_is_accounted_for_are_refused():
    trainer_of(pair(), parts_of(sigma=1.1), sigma=1.1).close()
    net, critic = parts_of(sigma=1.1)
    for parts in ((net, Part("critic.", critic.clip, critic.deviation / 1.001)), parts_of(sigma=0.5)):
        with pytest.raises(PrivacyError, match="accounted for"):
            trainer_of(pair(), parts, sigma=1.1)


def test_gradients_that_are_divided_otherwise_are_refused():
    module = pair()
    with pytest.raises(PrivacyError, match="not divided"):
        trainer_of(module, parts_of(), gradients=PrivateGradients(module))
    with pytest.raises(PrivacyError, match="no part"):
        trainer_of(pair(), parts_of()[:1])
