# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Which nets and losses a private plan may use, and that they are tried before they see a picture."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from client import guards, workbench
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.guards import prove, require_apart, require_separate
from client.workbench import Workbench
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.transforms import Augmentation, augment
from fer_models.zoo import ModelSpec, build

X = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 2, 1])


def net(name="fer_nano", norm="gn", dropout=0.3):
    return build(ModelSpec(name, norm=norm, classes=4, dropout=dropout), 0)


def losses_of(module):
    return lambda x, y: functional.cross_entropy(module(x), y, reduction="none")


def tried(module, losses=None, allow_slow=False):
    gradients = PrivateGradients(module, allow_slow=allow_slow)
    prove(gradients, losses or losses_of(module), X, Y)
    return gradients


class Coupled(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = norm
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.norm(self.first(x)).mean((2, 3)))


def batch_norms():
    from timm.layers import BatchNormAct2d, EvoNorm2dB0

    frozen = BatchNormAct2d(4)
    frozen.weight.requires_grad_(False)
    frozen.bias.requires_grad_(False)
    return {
        "torch": nn.BatchNorm2d(4),
        "timm": BatchNormAct2d(4),
        "timm, frozen": frozen,
        "evolved (Liu et al. 2020)": EvoNorm2dB0(4),
        "evaluating": nn.BatchNorm2d(4).eval(),
        "without weights": nn.BatchNorm2d(4, affine=False),
        "without statistics": nn.BatchNorm2d(4, track_running_stats=False),
        "synchronised": nn.SyncBatchNorm(4),
        "instance norm that remembers": nn.InstanceNorm2d(4, track_running_stats=True),
    }


@pytest.mark.parametrize("kind", list(batch_norms()))
def test_layers_that_mix_a_batch_are_refused_by_name(kind):
    for refuse in (require_separate, tried):
        with pytest.raises(PrivacyError, match="1 layers mix the pictures") as error:
            refuse(Coupled(batch_norms()[kind]))
        assert error.value.where == "norm"
        assert "model.norm=gn" in error.value.cure


def test_many_such_layers_are_named_in_short():
    with pytest.raises(PrivacyError, match=r"4 layers .*\(body\.0\.1, body\.1\.1, body\.2\.1, \.\.\.\)"):
        require_separate(net(norm="bn"))


class Flattened(nn.Module):
    """A linear net with something before it and after it."""

    def __init__(self, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.head, self.before, self.after = nn.Linear(48 * 48, 4), before, after

    def forward(self, x):
        return self.after(self.head(self.before(x.flatten(1))))


class Counting(Flattened):
    """Keeps a number that training changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += x.mean().detach()
        return super().forward(x)


class Weighing(Flattened):
    """Uses a layer's weight besides calling the layer."""

    def forward(self, x):
        return super().forward(x) + 0.1 * x.flatten(1) @ self.head.weight.T


class Borrowing(nn.Module):
    """A weight that is computed from the batch's pictures."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 3, 3))

    def forward(self, x):
        mean = torch.einsum("oikl,b->oikl", self.weight, x.mean((1, 2, 3)).detach().abs())
        return functional.conv2d(x, mean).mean((2, 3))


class Windows(nn.Module):
    """Folds halves of pictures into the batch such that pictures do not stay together."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(24 * 48, 4)

    def forward(self, x):
        halves = x.reshape(len(x), 2, -1).transpose(0, 1).reshape(-1, 24 * 48)
        return self.head(halves).view(2, len(x), 4).sum(0)


REFUSED = [
    (Counting(), r"a buffer of the net changes in training.*\(seen\)"),
    (Flattened(before=lambda x: x - x.mean(0)), "the loss of one picture reacts to another"),
    (Flattened(before=lambda x: x - x.mean(0).detach()), "is not what it is when the sample is alone"),
    (Flattened(after=lambda y: y / y.norm(dim=0)), "the loss of one picture reacts to another"),
    (Flattened(after=lambda y: functional.batch_norm(y, None, None, training=True)), "reacts to another"),
    (Weighing(), r"no per-sample gradients for Weighing|no per-sample gradients for Linear"),
    (Borrowing(), r"is not what it is when the sample is alone \(weight\)"),
    (Windows(), r"is not what it is when the sample is alone \(head\.(weight|bias)\)"),
]


@pytest.mark.parametrize(("module", "reason"), REFUSED)
def test_nets_that_mix_samples_or_hide_them_are_refused(module, reason):
    with pytest.raises(PrivacyError, match=reason) as error:
        tried(module)
    assert "\n" not in str(error.value)
    assert error.value.cure
    assert all(p.grad is None for p in module.parameters())


def pulled(losses):
    return losses + 0.1 * losses.mean()


COUPLED_LOSSES = {
    "mean over the batch": lambda y, t: functional.cross_entropy(y, t),
    "pull to the batch's mean": lambda y, t: pulled(functional.cross_entropy(y, t, reduction="none")),
    "scaled by the batch's mean, without its gradient": lambda y, t: (
        (e := functional.cross_entropy(y, t, reduction="none")) / e.mean().detach()
    ),
    "contrast": lambda y, t: -(y @ y.T).log_softmax(1).diagonal(),
    "centre of the batch": lambda y, t: (y - y.mean(0)).square().sum(1),
    "class weights of the batch": lambda y, t: (
        functional.cross_entropy(y, t, reduction="none") / torch.bincount(t, minlength=4)[t] / len(t)
    ),
    "ranks": lambda y, t: (
        functional.cross_entropy(y, t, reduction="none") * y[:, 0].detach().argsort().argsort()
    ),
}


@pytest.mark.parametrize("kind", COUPLED_LOSSES)
def test_losses_that_join_the_samples_of_a_batch_are_refused(kind):
    module = net()
    with pytest.raises(
        PrivacyError, match=r"cannot be clipped one by one|reacts to another|when the sample is alone"
    ):
        tried(module, lambda x, y: COUPLED_LOSSES[kind](module(x), y))


SINGLE_LOSSES = {
    "cross-entropy": lambda y, t: functional.cross_entropy(y, t, reduction="none"),
    "focal": lambda y, t: (
        (1 - y.softmax(1).gather(1, t[:, None])[:, 0]) ** 2 * functional.cross_entropy(y, t, reduction="none")
    ),
    "squares": lambda y, t: (y.softmax(1) - functional.one_hot(t, 4)).square().sum(1),
    "public class weights": lambda y, t: (
        functional.cross_entropy(y, t, reduction="none") * torch.tensor([1.0, 2.0, 3.0, 4.0])[t]
    ),
}


@pytest.mark.parametrize("kind", SINGLE_LOSSES)
def test_losses_of_single_samples_pass(kind):
    module = net()
    tried(module, lambda x, y: SINGLE_LOSSES[kind](module(x), y))


def test_mixup_of_people_is_refused_and_augmentation_of_each_is_not():
    generator = torch.Generator().manual_seed(0)
    strong = Augmentation(erase=1.0, light=1.0)
    require_apart(lambda x: augment(x, generator, strong), X, "the augmentation")
    with pytest.raises(PrivacyError, match="the mixup of one picture reacts to another"):
        require_apart(lambda x: 0.8 * x + 0.2 * x.flip(0), X, "the mixup")


def test_a_bench_refuses_an_augmentation_that_mixes_people(plan_of, monkeypatch):
    """Nothing in a plan asks for one; this is what a site's own code would meet."""
    plan = plan_of("cnn_tiny", local={"augment": True}, privacy={})
    Workbench(plan, torch.device("cpu"))
    monkeypatch.setattr(workbench, "augment", lambda x, *_: 0.9 * x + 0.1 * x.roll(1, 0))
    with pytest.raises(PrivacyError, match="the augmentation of one picture reacts to another"):
        Workbench(plan, torch.device("cpu"))


NETS = [
    ("hog_linear", "gn"),
    ("fer_nano", "gn"),
    ("fer_nano", "ws"),
    ("fer_nano", "none"),
    ("fer_small", "gn"),
    ("fer_base", "ws"),
    ("cnn_pool", "none"),
    ("cnn_tiny", "none"),
    ("timm:mobilenetv3_small_050", "gn"),
    ("timm:test_nfnet", "gn"),  # whose convolutions standardise their weights by batch_norm
]


@pytest.mark.parametrize(("name", "norm"), NETS)
@pytest.mark.parametrize("flat", [False, True])
def test_the_nets_of_the_zoo_pass(name, norm, flat):
    module, state = net(name, norm), torch.get_rng_state()
    owner = FlatModel(module) if flat else None
    modes = [layer.training for layer in module.modules()]
    tried(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.training for layer in module.modules()] == modes
    if owner is not None:
        owner.zero_grad()
        assert owner.is_intact()


class Scanned(nn.Module):
    """A layer for which the book has no formula."""

    def __init__(self):
        super().__init__()
        self.scan = nn.Conv1d(48, 4, 3)

    def forward(self, x):
        return self.scan(x[:, 0]).mean(2)


def test_unknown_layers_are_refused_by_name_or_served_by_opacus():
    with pytest.raises(PrivacyError, match=r"Conv1d \(scan\.weight, scan\.bias\)") as error:
        tried(Scanned())
    assert "allow_slow" in error.value.cure
    module = Scanned()
    gradients = tried(module, allow_slow=True)
    assert list(gradients.slow) == ["scan"]
    gradients.close()
    assert not module.scan._forward_hooks
    assert not hasattr(module.scan, "activations")
    assert all(getattr(p, "grad_sample", None) is None for p in module.parameters())


def test_layers_that_only_functorch_can_tell_apart_are_served():
    """For those Opacus keeps a copy of the layer whose tensors have no numbers, which must not stop the trial."""

    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(48))

        def forward(self, x):
            return torch.einsum("bcij,j->bci", x, self.weight)

    module = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(48, 4))
    with pytest.raises(PrivacyError, match=r"no per-sample gradients for Centred \(0\.weight\)"):
        tried(module)
    gradients = tried(module, allow_slow=True)
    assert list(gradients.slow) == ["0"]
    gradients.close()


class Changing(Flattened):
    """Does something else once it has been tried."""

    later = False

    def forward(self, x):
        y = super().forward(x)
        return y + self.head.weight.mean() * 0 if self.later else y


class Guessing(Flattened):
    """Adds a table as long as a certain batch, row by row of a parameter that is no sample's."""

    def __init__(self, rows):
        super().__init__()
        self.scale, self.table = nn.Parameter(torch.ones(4)), torch.rand(rows, 4)

    def forward(self, x):
        return super().forward(x) + (self.scale * self.table).mean(0)


def test_a_net_that_does_something_else_later_is_refused():
    module = Changing()
    gradients = tried(module)
    module.later = True
    with gradients.recording(Units.single(3)):
        losses = losses_of(module)(X, Y)
    with pytest.raises(PrivacyError, match="does not do with this batch what it did when it was tried"):
        gradients.settle(losses.sum(), 1.0)


def test_parameters_that_meet_constants_before_samples_are_served():
    calls = tried(Guessing(5)).proven
    assert calls is not None
    assert [call[1:] for call in calls] == [
        ("Linear", ("head.weight", "head.bias")),
        ("Repeated", ("scale",)),
        ("end", ()),
    ]


def test_a_table_that_has_the_length_of_a_batch_by_chance_is_not_taken_for_samples():
    module = Guessing(4)
    gradients, rows = tried(module), [0, 1, 2, 0]
    with gradients.recording(Units.single(4)):
        losses = losses_of(module)(X[rows], Y[rows])
    found = gradients.settle(losses.sum(), 1e9).sums
    for name, p in module.named_parameters():
        losses_of(module)(X[rows], Y[rows]).sum().backward(inputs=[p])
        torch.testing.assert_close(found[name], p.grad.flatten(), rtol=1e-4, atol=1e-5)


def test_layers_that_begin_to_learn_after_the_trial_are_refused():
    module = net("cnn_tiny", "none")
    first = next(module.parameters()).requires_grad_(False)
    gradients = tried(module)
    first.requires_grad_(True)
    with gradients.recording(Units.single(3)):
        losses = losses_of(module)(X, Y)
    with pytest.raises(PrivacyError, match="begun to learn that were fixed"):
        gradients.settle(losses.sum(), 1.0)


def test_a_bench_for_a_private_plan_is_proven_and_ready(plan_of):
    plain, private = plan_of("fer_nano"), plan_of("fer_nano", privacy={})
    one, two = (Workbench(plan, torch.device("cpu")) for plan in (plain, private))
    assert one.gradients is None
    assert two.gradients is not None
    assert two.gradients.proven
    assert two.flat.is_intact()
    assert not two.flat.gradient.any()
    assert torch.equal(one.flat.full_vector, two.flat.full_vector)
    with pytest.raises(PrivacyError, match="4 layers"):
        Workbench(plan_of("fer_nano", norm="bn", privacy={}), torch.device("cpu"))


def test_a_net_that_drops_paths_at_random_is_tried_without_chance():
    from timm.layers import DropPath

    module = nn.Sequential(
        nn.Flatten(), nn.Linear(48 * 48, 8), DropPath(0.9), nn.Dropout(0.5), nn.Linear(8, 4)
    )
    gradients = tried(module)
    with gradients.recording(Units.single(3)):
        losses = losses_of(module)(X, Y)
    assert torch.isfinite(gradients.settle(losses.sum(), 1.0).norms).all()
    gradients.close()
    assert "forward" not in vars(module[2])


def test_lengths_of_many_numbers_keep_their_digits():
    """In float32, torch's own norm of these is short by up to a thousandth."""
    long = torch.randn(4_000_000, generator=torch.Generator().manual_seed(0))
    long[:40_000] *= 100
    assert guards._length(long) == pytest.approx(float(long.double().norm()), rel=1e-9)
