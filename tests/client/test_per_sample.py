# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Which nets have per-sample gradients, and that a net is tried before it sees a picture."""

import pytest
import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from torch import nn

from client import per_sample
from client.per_sample import attach, detach, prove_private, quiet_hooks, require_private
from client.training import Workbench
from fer_models.errors import PrivacyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec, build

X = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))


def net(name="fer_nano", norm="gn", dropout=0.3):
    return build(ModelSpec(name, norm=norm, classes=4, dropout=dropout), 0)


class Coupled(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = norm
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.norm(self.first(x)).mean((2, 3)))


def batch_norms():
    from timm.layers import BatchNormAct2d

    frozen = BatchNormAct2d(4)
    frozen.weight.requires_grad_(False)
    frozen.bias.requires_grad_(False)
    return {
        "torch": nn.BatchNorm2d(4),
        "timm": BatchNormAct2d(4),
        "timm, frozen": frozen,
        "evaluating": nn.BatchNorm2d(4).eval(),
        "without weights": nn.BatchNorm2d(4, affine=False),
        "without statistics": nn.BatchNorm2d(4, track_running_stats=False),
        "synchronised": nn.SyncBatchNorm(4),
        "instance norm that remembers": nn.InstanceNorm2d(4, track_running_stats=True),
    }


@pytest.mark.parametrize("kind", list(batch_norms()))
def test_layers_that_mix_a_batch_are_refused_by_name(kind):
    for refuse in (require_private, lambda module: prove_private(module, X)):
        with pytest.raises(PrivacyError, match="1 layers mix the pictures") as error:
            refuse(Coupled(batch_norms()[kind]))
        assert error.value.where == "norm"
        assert "model.norm=gn" in error.value.cure


def test_many_such_layers_are_named_in_short():
    with pytest.raises(PrivacyError, match=r"4 layers .*\(body\.0\.1, body\.1\.1, body\.2\.1, \.\.\.\)"):
        require_private(net(norm="bn"))


class Counting(nn.Module):
    """Keeps a number that training could change."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        return x * self.weight


class Reaching(nn.Module):
    """Subtracts the mean over the batch, in no layer that could be known by name."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(48 * 48, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x - x.mean(0))


class InPlace(nn.Module):
    """Adds to the output of a layer in place, as some residual nets do."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(48 * 48, 4), nn.Linear(48 * 48, 4)

    def forward(self, x):
        y = self.one(x.flatten(1))
        y += self.two(x.flatten(1))
        return y


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.unused = nn.Linear(48 * 48, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


class Weighing(nn.Module):
    """Uses a layer's weight besides calling the layer, which no hook sees."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(48 * 48, 4)

    def forward(self, x):
        return self.head(x.flatten(1)) + 0.1 * x.flatten(1) @ self.head.weight.T


class Patched(nn.Module):
    """Folds the halves of a picture into the batch, so that each half would be clipped by itself."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(24 * 48, 4)

    def forward(self, x):
        return self.head(x.reshape(-1, 24 * 48)).view(len(x), 2, 4).sum(1)


REFUSED = [
    (nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 2), Counting()), "buffers"),
    (nn.LSTM(2, 2), "Opacus refuses the net"),
    (Reaching(), r"one picture changes the gradient of another \(head\.weight\)"),
    (InPlace(), r"hooks fail on the net: .* \(InPlace\)"),
    (Idle(), r"no part in the answer, or several \(unused\.weight\)"),
    (Patched(), r"gradients of 6 samples for 3 pictures \(head\.weight\)"),
    (Weighing(), r"do not add up to the gradient \(head\.weight\)"),
]


@pytest.mark.parametrize(("module", "reason"), REFUSED)
def test_nets_without_sound_per_sample_gradients_are_refused(module, reason):
    with pytest.raises(PrivacyError, match=reason) as error:
        prove_private(module, X)
    assert "\n" not in str(error.value)
    assert error.value.cure
    assert all(p.grad is None for p in module.parameters())


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
]


@pytest.mark.parametrize(("name", "norm"), NETS)
@pytest.mark.parametrize("flat", [False, True])
def test_the_nets_of_the_zoo_pass(name, norm, flat):
    module, state = net(name, norm), torch.get_rng_state()
    owner = FlatModel(module) if flat else None
    prove_private(module, X)
    assert torch.equal(torch.get_rng_state(), state)
    if owner is not None:
        owner.zero_grad()
        assert owner.is_intact()


def test_opacuss_own_hooks_fail_the_proof_in_the_layout_of_a_flat_model(monkeypatch):
    """Why the hooks are not Opacus's own: in channels_last their convolutions read other pixels."""
    monkeypatch.setattr(per_sample, "ContiguousHooks", GradSampleHooks)
    prove_private(net(), X)
    module = net()
    FlatModel(module)
    with pytest.raises(PrivacyError, match=r"do not add up to the gradient \(body\.\d\.0\.weight\)"):
        prove_private(module, X)


def test_attach_and_detach_leave_no_trace():
    module = net()
    plain = set(vars(module))
    hooks = attach(module)
    with quiet_hooks():
        module(X).sum().backward()
    assert all(len(p.grad_sample) == 3 for p in module.parameters())
    detach(module, hooks)
    assert set(vars(module)) == plain
    for layer in module.modules():
        assert not layer._forward_hooks
        assert not layer._backward_hooks
        assert not hasattr(layer, "activations")
        assert not hasattr(layer, "max_batch_len")
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in module.parameters())


def test_a_bench_for_a_private_plan_is_proven_and_ready(plan_of):
    plain, private = plan_of("fer_nano"), plan_of("fer_nano", privacy={})
    one, two = (Workbench(plan, torch.device("cpu")) for plan in (plain, private))
    assert two.flat.is_intact()
    assert not two.flat.gradient.any()
    assert torch.equal(one.flat.full_vector, two.flat.full_vector)
    with pytest.raises(PrivacyError, match="4 layers"):
        Workbench(plan_of("fer_nano", norm="bn", privacy={}), torch.device("cpu"))
