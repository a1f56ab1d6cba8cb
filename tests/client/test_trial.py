# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Nets that would get past a look at three pictures: what mixes pictures seldom, faintly or by stealth."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from client.bookkeeping.gradients import PrivateGradients
from client.guards import prove
from client.trial import digest, remembered
from fer_models.errors import PrivacyError

X = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 2, 1])
FAINT = 1e-5
"""So small a share that no comparison of gradients in single precision shows it."""


class Net(nn.Module):
    """A sound net with room for something before and after it."""

    def __init__(self, before=lambda self, x: x, after=lambda self, y: y):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a threshold or a faint loss shows at most weights, not at all
            self.body, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 4)
        self.kept, self.count = None, 0
        self.steps = before, after

    def forward(self, x):
        before, after = self.steps
        return after(self, self.head(self.body(before(self, x)).relu().mean((2, 3))))


class Backward(torch.autograd.Function):
    """The identity, with a backward of somebody's own."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.change(gradients[0]), None


def pull(share):
    return lambda self, x: x - share * x.mean(0).detach()


def remembering(self, x):
    out = x if self.kept is None else x - FAINT * self.kept
    self.kept = x.mean().detach()
    return out


def counting(self, x):
    self.count += 1
    return x if self.count < 1000 else x - x.mean(0)


def moving(self, x):
    self.head.bias.data.add_(FAINT * x.mean())
    return x


def moving_by_chance(self, x):
    self.head.bias.data.add_(FAINT)
    return x


def hooked(change):
    def after(self, y):
        if y.requires_grad:
            y.register_hook(change)
        return y

    return after


def own_backward(change):
    return lambda self, y: Backward.apply(y, change)


def pairs(self, y):
    return (y.view(-1, 2, 4) + y.view(-1, 2, 4).flip(1)).view(-1, 4) if len(y) % 2 == 0 else y


def kept_in_a_list(self, x):
    self.__dict__.setdefault("list", [[]])[0].append(1)
    return x


def kept_in_an_object(self, x):
    holder = self.__dict__.setdefault("holder", Net)
    if holder is Net:
        self.holder = type("Holder", (), {})()
    self.holder.last = x.mean().detach()
    return x


def in_a_closure():
    last = [None]

    def before(self, x):
        last[0] = x.mean().detach()
        return x

    return before


REACHES = r"reaches the loss or the gradient of another"
ALONE = r"is not what it is when the sample is alone"
READS = r"reads the values of a tensor"
REMEMBERS = r"remembers something from batch to batch"
ATTACKS = {
    "more than three": ({"before": lambda self, x: x - x.mean(0).detach() * (len(x) > 3)}, ALONE),
    "more than three, at the end": (
        {"after": lambda self, y: y / y.norm(dim=0).detach() if len(y) > 3 else y},
        "does not do with 8 samples what it does with 3",
    ),
    "the fourth": ({"after": lambda self, y: y + y[3:].sum(0).detach()}, ALONE),
    "pairs": ({"after": pairs}, "does not do with 8 samples"),
    "faint mean": ({"before": pull(FAINT)}, REACHES),
    "faint sum in the answers": ({"after": lambda self, y: y * (1 + FAINT * y.detach().sum())}, REACHES),
    "a threshold on the largest": (
        {"after": lambda self, y: torch.where(y.max().detach() > 5, 2 * y, y)},
        REACHES,
    ),
    "ranks": ({"after": lambda self, y: y * (1 + 1e-4 * y[:, :1].detach().argsort(0).argsort(0))}, REACHES),
    "in place": ({"before": lambda self, x: x.clone().sub_(FAINT * x.mean(0).detach())}, REACHES),
    "backward of more than three": (
        {"after": own_backward(lambda g: g + g.sum(0) if len(g) > 3 else g)},
        ALONE,
    ),
    "backward, faintly": ({"after": own_backward(lambda g: g * (1 + FAINT * g.abs().sum()))}, REACHES),
    "hook on a tensor": ({"after": hooked(lambda g: g / g.norm())}, ALONE),
    "hook on a tensor, faintly": ({"after": hooked(lambda g: g * (1 + FAINT * g.abs().sum()))}, REACHES),
    "Python decides": ({"after": lambda self, y: 2 * y if float(y.detach().max()) > 99 else y}, READS),
    "a mask chooses": ({"after": lambda self, y: y + 0 * y[y > 99].sum()}, READS),
    "where chooses": ({"after": lambda self, y: y + 0 * torch.where(y > 99)[0].sum()}, READS),
    "a seldom mixup": ({"before": lambda self, x: x if torch.rand(()) > FAINT else x.flip(0)}, READS),
    "a mixup by chance": (
        {"before": lambda self, x: torch.where(torch.rand(()) < FAINT, x.flip(0), x)},
        "draws random numbers",
    ),
    "counts": ({"before": counting}, r"remembers .*\(count\)"),
    "in a list": ({"before": kept_in_a_list}, r"remembers .*\(list\)"),
    "in an object": ({"before": kept_in_an_object}, r"remembers .*\(holder\)"),
    "moves a parameter": ({"before": moving_by_chance}, r"a parameter of the net changes.*\(head\.bias\)"),
    "moves a parameter by pictures": ({"before": moving}, f"{REACHES}|a parameter"),
    "remembers the last": ({"before": remembering}, f"{REACHES}|{REMEMBERS}"),
}


def losses_of(module):
    return lambda x, y: functional.cross_entropy(module(x), y, reduction="none")


def tried(module):
    prove(PrivateGradients(module), losses_of(module), X, Y)


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_net_that_mixes_pictures_by_stealth_is_refused(kind):
    parts, reason = ATTACKS[kind]
    # A mixup by chance can happen while it is tried, and is then refused for what it does.
    torch.manual_seed(0)
    with pytest.raises(PrivacyError, match=reason) as error:
        tried(Net(**parts))
    assert error.value.cure


def test_what_a_closure_keeps_is_found():
    with pytest.raises(PrivacyError, match=REMEMBERS):
        tried(Net(before=in_a_closure()))


def test_targets_of_others_are_strangers_too():
    module = Net()

    def losses(x, y):
        smooth = functional.one_hot(y, 4).float()
        return -((smooth + FAINT * 100 * smooth.mean(0)) * module(x).log_softmax(1)).sum(1)

    with pytest.raises(PrivacyError, match=REACHES):
        prove(PrivateGradients(module), losses, X, Y)


def test_a_sound_net_passes_and_a_table_that_is_made_once_may_stay():
    def caching(self, x):
        if self.kept is None:
            self.kept = torch.linspace(0, 1, 12)
        return x + self.kept

    tried(Net())
    tried(Net(before=caching))
    tried(Net(after=lambda self, y: functional.dropout(y, 0.5)))


def test_attention_that_drops_at_random_is_tried_without_chance():
    def mixing(self, x):
        rows = x[:, 0]
        return functional.scaled_dot_product_attention(rows, rows, rows, dropout_p=0.5)[:, None]

    tried(Net(before=mixing))


def test_the_trial_leaves_numbers_and_generators_alone():
    module = Net()
    before, state = [p.detach().clone() for p in module.parameters()], torch.get_rng_state()
    tried(module)
    assert all(torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_remembered_is_told_by_value():
    module = Net()
    module.table, module.drawn = np.zeros(3), torch.Generator().manual_seed(0)
    before = remembered(module)
    assert before == remembered(module)
    for change in (
        lambda: module.table.__setitem__(1, 1.0),
        lambda: torch.rand(1, generator=module.drawn),
        lambda: setattr(module, "kept", {"a": {1, 2}}),
        lambda: module.kept["a"].add(3),
        lambda: setattr(module.head, "kept", float("nan")),
    ):
        change()
        assert remembered(module) != before
        before = remembered(module)


def test_a_digest_tells_bits_and_not_values():
    nan = torch.tensor([float("nan"), 1.0])
    assert digest(nan) == digest(nan.clone())
    assert digest(torch.tensor([0.0])) != digest(torch.tensor([-0.0]))
    assert digest(torch.zeros(())) == digest(torch.zeros(1)[0])
