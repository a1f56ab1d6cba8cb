# pyright: reportArgumentType=false
"""Opacus's engine in its own modes and in ours: the same trajectory and the same accountant."""

import pytest
import torch
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from client.bookkeeping.engine import MODE, BookKeepingEngine, made_up_targets
from fer_models.errors import PrivacyError
from fer_models.zoo import ModelSpec, build

pytestmark = pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off", "ignore:Full backward hook is firing", "ignore:.*has not been setup"
)


def made_private(mode, spec, sigma=0.5, allow_slow=False, module=None, criterion=None, **facts):
    module = build(spec, 0).double() if module is None else module
    criterion = nn.CrossEntropyLoss() if criterion is None else criterion
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(18, spec.channels, spec.size, spec.size, generator=generator, dtype=torch.float64)
    data = TensorDataset(x, torch.randint(0, spec.classes, (18,), generator=generator))
    engine = BookKeepingEngine(accountant="prv", allow_slow=allow_slow)
    found = engine.make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9),
        criterion=criterion,
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


def trajectory(mode, spec, **facts):
    """Return the weights after six noisy steps of momentum, in parts of 4, and the accountant's history."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # Opacus's loader samples from it
        engine, module, net, optimizer, criterion, loader = made_private(mode, spec, **facts)
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
    *[("fer_nano", "ws", "functorch"), ("fer_small", "ws", "hooks"), ("fer_nano", "gn", "ghost")],
    *[(f"timm:{name}", "gn", "hooks") for name in ("test_efficientnet", "test_byobnet")],
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
    with pytest.raises(PrivacyError, match="clips whole gradients") as error:
        made_private(MODE, spec, clipping="per_layer")
    assert error.value.where == "clipping"


class Coupled(nn.CrossEntropyLoss):
    """Samples meet in the mean of their losses."""

    def forward(self, input, target):
        each = super().forward(input, target)
        return each / each.mean().detach()


class CoupledTargets(nn.CrossEntropyLoss):
    """Samples meet in their targets alone: nothing that is differentiated, and nothing where all targets are one."""

    def forward(self, input, target):
        numbers = target.to(input)
        return super().forward(input, target) * (
            1 + 0.01 * (numbers - numbers.mean(0)).abs().reshape(len(target), -1).sum(1)
        )


def classes(count):
    return torch.arange(count) % 4


def distributions(count):
    return nn.functional.one_hot(torch.arange(count) % 4, 4).double()


@pytest.mark.parametrize("targets", [classes, distributions])
@pytest.mark.parametrize("criterion", [Coupled, CoupledTargets])
def test_a_criterion_that_joins_samples_is_refused_before_the_first_step(criterion, targets):
    _, module, net, _, coupled, _ = made_private(
        MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0), criterion=criterion()
    )
    before = [p.detach().clone() for p in module.parameters()]
    x, y = torch.randn(5, 1, 48, 48, dtype=torch.float64), targets(5)
    with pytest.raises(PrivacyError, match=r"when the sample is alone|reaches the loss or the gradient"):
        coupled(net(x), y)
    assert all(torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))


LOSSES = {
    "classes": (nn.CrossEntropyLoss(label_smoothing=0.1), classes),
    "distributions": (nn.CrossEntropyLoss(), distributions),
    "class weights that are public": (nn.CrossEntropyLoss(weight=torch.arange(1.0, 5.0).double()), classes),
    "margins": (nn.MultiMarginLoss(), classes),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_targets_of_any_kind_are_made_up_for_the_trial(kind):
    criterion, targets = LOSSES[kind]
    _, _, net, optimizer, loss, _ = made_private(
        MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0), criterion=criterion
    )
    x = torch.randn(5, 1, 48, 48, dtype=torch.float64)
    optimizer.zero_grad()
    loss(net(x), targets(5)).backward()
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
@pytest.mark.parametrize("form", [(), (4,), (4, 3)])
def test_targets_that_are_made_up_differ(form, dtype):
    output, target = torch.zeros(5, 4, 3), torch.zeros(5, *form, dtype=dtype)
    found = made_up_targets(output, target)
    assert (found.shape, found.dtype) == ((3, *form), dtype)
    assert len({tuple(each.flatten().tolist()) for each in found}) == 3
    assert float(found.min()) >= 0
    assert float(found.max()) < 4
    assert len(made_up_targets(output[:0], target[:0])) == 3


class Unknown(nn.Module):
    """Layers that the book does not know and Opacus does."""

    def __init__(self):
        super().__init__()
        self.norm, self.row = nn.InstanceNorm2d(1, affine=True), nn.Conv1d(48, 6, 5)
        self.cube, self.head = nn.Conv3d(1, 3, (3, 5, 3)), nn.Linear(5, 4)

    def forward(self, x):
        x = self.norm(x)
        rows = self.row(x[:, 0]).tanh().mean(2)
        cubes = self.cube(x.view(len(x), 1, 3, 16, 48)).relu().flatten(2).mean(2)
        return self.head(torch.cat([rows, cubes], 1)[:, :5])


def unknown():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Unknown().double()


def test_opacus_serves_layers_that_the_book_does_not_know_where_that_is_allowed():
    spec = ModelSpec("cnn_tiny", classes=4)
    theirs, their_history = trajectory("hooks", spec, module=unknown())
    ours, history = trajectory(MODE, spec, module=unknown(), allow_slow=True)
    assert float((ours - torch.cat([p.detach().reshape(-1) for p in unknown().parameters()])).norm()) > 0.1
    assert float((ours - theirs).abs().max()) <= 1e-12
    assert history == their_history


def test_layers_that_the_book_does_not_know_are_refused_by_name():
    with pytest.raises(PrivacyError, match=r"for Conv1d, Conv3d, InstanceNorm2d \(norm\.weight") as error:
        trajectory(MODE, ModelSpec("cnn_tiny", classes=4), module=unknown())
    assert "allow_slow" in error.value.cure


def broken_off(mode, parts):
    """Return the weights after a pass that ends after so many parts, and a whole batch of other pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        engine, module, net, optimizer, criterion, loader = made_private(
            mode, ModelSpec("cnn_tiny", classes=4, dropout=0.0), sigma=1e-6
        )
        if parts:
            with BatchMemoryManager(
                data_loader=loader, max_physical_batch_size=1, optimizer=optimizer
            ) as short:
                for _, (x, y) in zip(range(parts), short, strict=False):
                    optimizer.zero_grad()
                    criterion(net(x), y).backward()
                    optimizer.step()
        loader.batch_sampler.generator.manual_seed(9)
        x, y = next(iter(loader))
        optimizer.zero_grad()
        criterion(net(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]), engine.accountant.history


def test_what_a_broken_pass_leaves_behind_enters_no_step():
    """Opacus adds it to the next batch's sum."""
    whole, history = broken_off(MODE, 0)
    found, later = broken_off(MODE, 2)
    assert float((found - whole).abs().max()) <= 1e-5
    assert history == later == [(1e-6, 1 / 3, 1)]
    theirs, _ = broken_off("ghost", 2)
    assert float((theirs - whole).abs().max()) > 1e-2


def test_clipped_sums_enter_one_step():
    _, _, net, optimizer, criterion, _ = made_private(MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0))
    optimizer.signal_skip_step(do_skip=True)
    criterion(net(torch.randn(2, 1, 48, 48, dtype=torch.float64)), classes(2)).backward()
    optimizer.step()
    with pytest.raises(PrivacyError, match="there are no new gradients"):
        optimizer.step()


def test_a_loop_that_never_clears_gradients_is_the_same():
    """As every backward begins anew."""
    found = []
    for clears in (True, False):
        _, module, net, optimizer, criterion, _ = made_private(
            MODE, ModelSpec("cnn_tiny", classes=4, dropout=0.0)
        )
        generator = torch.Generator().manual_seed(2)
        for _ in range(2):
            if clears:
                optimizer.zero_grad()
            x = torch.randn(3, 1, 48, 48, dtype=torch.float64, generator=generator)
            criterion(net(x), classes(3)).backward()
            optimizer.step()
        found.append(torch.cat([p.detach().reshape(-1) for p in module.parameters()]))
    assert torch.equal(*found)
