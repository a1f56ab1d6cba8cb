import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fer_models.errors import ConfigError
from fer_models.losses import (
    LOSSES,
    NEED_PRIOR,
    build_loss,
    class_balanced,
    focal,
    known_only,
    logit_adjusted,
    soft_cross_entropy,
)

PRIOR = {"neutral": 4, "happiness": 3, "fear": 1}


SIMILAR = [[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.0, 0.5, 0.5]]


def named(name, **facts):
    return build_loss(name, similar=SIMILAR if name == "pdls" else (), **facts)


def batch(count=5, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=dtype)
    return logits, torch.rand(count, classes, generator=generator, dtype=dtype).softmax(1)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    targets = torch.tensor([[0.25, 0.75]])
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(soft_cross_entropy(logits, targets), torch.tensor([expected]))


@given(st.integers(1, 6), st.integers(2, 8), st.floats(0, 0.9))
@settings(deadline=None, max_examples=30)
def test_cross_entropy_is_that_of_torch(count, classes, smoothing):
    logits, targets = batch(count, classes)
    loss = soft_cross_entropy(logits, targets, smoothing)
    assert loss.shape == (count,)
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


def test_class_balanced_is_torch_with_weights():
    logits, _ = batch()
    label = torch.tensor([0, 1, 2, 2, 0])
    prior = torch.tensor([0.5, 0.375, 0.125], dtype=torch.float64)
    loss = class_balanced(logits, F.one_hot(label, 3).double(), prior.log())
    torch.testing.assert_close(loss, F.cross_entropy(logits, label, weight=1 / (3 * prior), reduction="none"))
    assert math.isclose(float((prior * (1 / (3 * prior))).sum()), 1)


def test_logit_adjustment_moves_the_logits():
    logits, targets = batch()
    prior = torch.tensor([0.5, 0.375, 0.125], dtype=torch.float64)
    expected = F.cross_entropy(logits + prior.log(), targets, reduction="none")
    torch.testing.assert_close(logit_adjusted(logits, targets, prior.log()), expected)


def test_ldam_by_hand():
    """Shares 1/17 and 16/17: the margins are 0.5 and 0.25."""
    logits, targets = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.eye(2)
    loss = build_loss("ldam", prior=[1, 16])(logits, targets)
    expected = [math.log(1 + math.exp(2.0 - 0.5)), math.log(1 + math.exp(1.0 - 1.75))]
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_vote_kl_is_torchs_and_is_zero_at_the_votes():
    logits, targets = batch()
    targets[0] = torch.tensor([1.0, 0.0, 0.0])
    expected = F.kl_div(logits.log_softmax(1), targets, reduction="none").sum(1)
    torch.testing.assert_close(build_loss("vote_kl")(logits, targets), expected)
    nothing = build_loss("vote_kl")(targets[1:].log(), targets[1:])
    torch.testing.assert_close(nothing, torch.zeros(4, dtype=torch.float64))


def test_pdls_smooths_by_the_rows_of_a_class():
    logits, _ = batch()
    label = torch.tensor([0, 1, 2, 2, 0])
    rows = torch.tensor(SIMILAR, dtype=torch.float64)
    wanted = 0.6 * F.one_hot(label, 3) + 0.4 * rows[label]
    expected = F.cross_entropy(logits, wanted, reduction="none")
    found = build_loss("pdls", similar=SIMILAR, strength=0.6)(logits, F.one_hot(label, 3).double())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_focal_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(9.0), 0.0]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    expected = [
        0.75**2 * math.log(4),
        -(0.5 * 0.1**2 * math.log(0.9) + 0.5 * 0.9**2 * math.log(0.1)),
    ]
    torch.testing.assert_close(focal(logits, targets, 2.0), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_without_focus_is_cross_entropy(smoothing):
    logits, targets = batch()
    plain = build_loss("cross_entropy", smoothing=smoothing)(logits, targets)
    torch.testing.assert_close(build_loss("focal", smoothing=smoothing, focusing=0.0)(logits, targets), plain)


@pytest.mark.parametrize("classes", [2, 7])
def test_focal_of_a_net_that_is_sure_has_a_finite_gradient(classes):
    logits = torch.full((2, classes), -200.0)
    logits[:, 0] = 200.0
    logits.requires_grad_()
    targets = F.one_hot(torch.tensor([0, 1]), classes).float()
    loss = focal(logits, targets, 0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    # Sure and right: nothing to learn. Sure and wrong: as in cross-entropy.
    torch.testing.assert_close(gradient[0], torch.zeros(classes))
    torch.testing.assert_close(gradient[1, 1], torch.tensor(-1.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_uniform_prior_gives_cross_entropy(smoothing):
    logits, targets = batch()
    plain = build_loss("cross_entropy", smoothing=smoothing)(logits, targets)
    for name in ("class_balanced", "logit_adjusted"):
        loss = build_loss(name, smoothing=smoothing, prior=[2, 2, 2])(logits, targets)
        torch.testing.assert_close(loss, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_no_sample_moves_the_loss_of_another(name):
    loss = named(name, smoothing=0.05, prior=PRIOR if name in NEED_PRIOR else None)
    logits, targets = batch()
    jacobian = torch.autograd.functional.jacobian(lambda z: loss(z, targets), logits).abs().sum(2)
    diagonal = jacobian.diagonal()
    assert diagonal.min() > 0 and torch.equal(jacobian, torch.diag(diagonal))


WHOLE = ("class_balanced", "ldam", "pdls")
"""Losses with numbers of all the classes of a net."""

OPTIONS = [(name, PRIOR if name in NEED_PRIOR else None) for name in LOSSES]


@pytest.mark.parametrize(("name", "prior"), OPTIONS)
def test_a_class_that_is_not_known_is_left_out_of_the_softmax(name, prior):
    loss = known_only(named(name, prior=prior))
    logits, targets = batch()
    targets[1] = torch.tensor([0.25, -1.0, 0.75])
    logits.requires_grad_()
    found = loss(logits, targets)
    found.sum().backward()
    assert logits.grad[1, 1] == 0
    assert logits.grad[1, 0] != 0
    smaller = None if prior is None else [prior["neutral"], prior["fear"]]
    if name not in WHOLE:
        alone = build_loss(name, prior=smaller)(logits[1:2, [0, 2]], targets[1:2, [0, 2]])
        torch.testing.assert_close(found[1:2], alone)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("loss", [soft_cross_entropy, lambda z, t: focal(z, t, 2.0)])
def test_rows_that_know_every_class_are_as_they_were(loss):
    logits, targets = batch(dtype=torch.float32)
    assert torch.equal(known_only(loss)(logits, targets), loss(logits, targets))


def test_a_prior_is_scaled_to_shares():
    logits, targets = batch()
    given_counts = build_loss("logit_adjusted", prior=PRIOR)(logits, targets)
    given_shares = build_loss("logit_adjusted", prior=[0.5, 0.375, 0.125])(logits, targets)
    assert torch.equal(given_counts, given_shares)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cross_entrpy", {}, "Use cross_entropy"),
        ("cross_entropy", {"smoothing": 1.0}, "label smoothing is 1.0"),
        ("cross_entropy", {"prior": [1, 1]}, "takes no prior"),
        ("focal", {"prior": [1, 1]}, "takes no prior"),
        ("focal", {"focusing": -1.0}, "focusing is -1.0"),
        ("class_balanced", {}, "positive public share"),
        ("ldam", {}, "positive public share"),
        ("pdls", {}, "what it is also taken for"),
        ("pdls", {"similar": [[1, 1], [0, 0]]}, "what it is also taken for"),
        ("pdls", {"similar": [[1, 1, 0], [0, 1, 1]]}, "what it is also taken for"),
        ("logit_adjusted", {"prior": [1, 0, 1]}, "positive public share"),
        ("logit_adjusted", {"prior": [1, math.inf, 1]}, "positive public share"),
    ],
)
def test_wrong_settings_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(name, **options)
