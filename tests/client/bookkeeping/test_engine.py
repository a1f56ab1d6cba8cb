# pyright: reportArgumentType=false
"""Opacus's engine in its own modes and in ours: the same trajectory and the same accountant."""

import warnings

import pytest
import torch
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from client.bookkeeping.engine import MODE, BookKeepingEngine
from fer_models.errors import PrivacyError
from fer_models.zoo import ModelSpec, build

pytestmark = pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off", "ignore:Full backward hook is firing", "ignore:.*has not been setup"
)


def made_private(mode, spec, sigma=0.5, **facts):
    module = build(spec, 0).double()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(18, spec.channels, spec.size, spec.size, generator=generator, dtype=torch.float64)
    data = TensorDataset(x, torch.randint(0, spec.classes, (18,), generator=generator))
    engine = BookKeepingEngine(accountant="prv")
    found = engine.make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        data_loader=DataLoader(data, batch_size=6, generator=torch.Generator().manual_seed(11)),
        noise_multiplier=sigma,
        max_grad_norm=1.0,
        grad_sample_mode=mode,
        noise_generator=torch.Generator().manual_seed(77),
        **facts,
    )
    if len(found) == 3:  # Opacus wraps the criterion in its ghost modes only
        net, optimizer, loader = found
        return engine, module, net, optimizer, nn.CrossEntropyLoss(), loader
    return engine, module, *found


def trajectory(mode, spec):
    """Return the weights after six noisy steps of momentum, in parts of 4, and the accountant's history."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # Opacus's loader samples from it
        engine, module, net, optimizer, criterion, loader = made_private(mode, spec)
        for _ in range(2):
            with BatchMemoryManager(
                data_loader=loader, max_physical_batch_size=4, optimizer=optimizer
            ) as parts:
                for x, y in parts:
                    optimizer.zero_grad()
                    criterion(net(x), y).backward()
                    optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]), engine.accountant.history


NETS = [
    *[(name, "gn", "hooks") for name in ("hog_linear", "fer_nano", "fer_small", "fer_base")],
    *[("fer_nano", "none", "hooks"), ("cnn_pool", "none", "hooks"), ("cnn_tiny", "none", "hooks")],
    *[("fer_nano", "ws", "functorch"), ("fer_nano", "gn", "ghost")],
]


@pytest.mark.parametrize(("name", "norm", "mode"), NETS)
def test_six_steps_of_momentum_are_opacuss(name, norm, mode):
    spec = ModelSpec(name, norm=norm, classes=4, dropout=0.0)
    theirs, their_history = trajectory(mode, spec)
    ours, history = trajectory(MODE, spec)
    start = torch.cat([p.detach().reshape(-1) for p in build(spec, 0).double().parameters()])
    assert float((ours - start).norm()) > 0.1
    assert float((ours - theirs).abs().max()) <= 1e-12
    assert history == their_history == [(0.5, 1 / 3, 6)]


def test_other_modes_stay_opacuss():
    _, _, net, *_ = made_private("hooks", ModelSpec("cnn_tiny", classes=4, dropout=0.0))
    assert type(net).__name__ == "GradSampleModule"


def test_an_empty_batch_is_a_step_of_noise():
    _, module, net, optimizer, criterion, _ = made_private(
        MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0)
    )
    before = [p.detach().clone() for p in module.parameters()]
    optimizer.zero_grad()
    criterion(
        net(torch.zeros(0, 1, 48, 48, dtype=torch.float64)), torch.zeros(0, dtype=torch.int64)
    ).backward()
    optimizer.step()
    assert all(not torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))


def test_evaluation_needs_no_book():
    _, _, net, *_ = made_private(MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0))
    with torch.no_grad():
        assert net(torch.zeros(2, 1, 48, 48, dtype=torch.float64)).shape == (2, 4)
    assert net.eval()(torch.zeros(2, 1, 48, 48, dtype=torch.float64)).requires_grad


def test_what_the_guarantee_does_not_hold_for_is_refused():
    spec = ModelSpec("fer_nano", classes=4, dropout=0.0)
    with pytest.raises(PrivacyError, match="the accountants assume Poisson sampling"):
        made_private(MODE, spec, poisson_sampling=False)
    with pytest.raises(PrivacyError, match="4 layers mix the pictures"):
        made_private(MODE, ModelSpec("fer_nano", norm="bn", classes=4))
    with pytest.raises(PrivacyError, match="does not reduce by sum"):
        made_private(MODE, spec, loss_reduction="sum")
    with pytest.raises(PrivacyError, match="samples must come first"):
        made_private(MODE, spec, batch_first=False)


class Coupled(nn.CrossEntropyLoss):
    def forward(self, input, target):
        each = super().forward(input, target)
        return each / each.mean().detach()


def test_a_criterion_that_joins_samples_is_refused_before_the_first_step():
    _, module, net, optimizer, criterion, _ = made_private(
        MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0)
    )
    criterion._each = Coupled(reduction="none")
    before = [p.detach().clone() for p in module.parameters()]
    x, y = torch.randn(5, 1, 48, 48, dtype=torch.float64), torch.arange(5) % 4
    with warnings.catch_warnings(), pytest.raises(PrivacyError, match="when the sample is alone"):
        criterion(net(x), y)
    assert all(torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))
    assert optimizer.params
