"""Losses against label distributions. Every loss returns one value a sample.

A loss that joins the samples of a batch (a mean, a contrast, a centre of the batch) has no per-sample
gradient to clip, so none is offered here. Priors must be public or released under differential privacy: class
counts of a site are private data.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fer_models.errors import ConfigError
from fer_models.plugins import added, added_loss

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, C), targets (B, C)) -> losses (B,)."""


NEVER = -1e4
"""Logit of a class that a row's data set does not know: its probability is 0, and so is its gradient."""

MOST_FOCUSING = 10.0
"""Largest gamma of the focal loss."""


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return ``-sum_c t_c log softmax(logits)_c`` for every sample, (B,).

    ``targets`` (B, C) are distributions: one-hot labels or shares of votes. ``smoothing`` moves this share of
    the target to the uniform distribution (Szegedy et al. 2016).
    """
    log_p = logits.log_softmax(1)
    loss = -(targets * log_p).sum(1)
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * log_p.mean(1)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Return targets (B, C) with this share of them moved to the uniform distribution."""
    return targets if smoothing == 0 else targets + smoothing * (1 / targets.shape[1] - targets)


def class_balanced(logits: Tensor, targets: Tensor, log_prior: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return cross-entropy with class c weighted by ``1 / (C prior_c)``, (B,).

    Weights of inverse frequency, so that over data with this prior the mean weight is 1. ``log_prior`` (C,)
    is the logarithm of public class shares. ``smoothing`` is applied to the target before the weights.
    """
    weights = torch.exp(-log_prior) / len(log_prior)
    return -(smoothed(targets, smoothing) * weights * logits.log_softmax(1)).sum(1)


def logit_adjusted(logits: Tensor, targets: Tensor, log_prior: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return cross-entropy of ``logits + log_prior``, (B,) (Menon et al. 2021, arXiv:2007.07314, eq. 10).

    The net learns logits for a uniform prior; at evaluation they are used as they are.
    """
    return soft_cross_entropy(logits + log_prior, targets, smoothing)


def focal(logits: Tensor, targets: Tensor, focusing: float, smoothing: float = 0.0) -> Tensor:
    """Return ``-sum_c t_c (1 - p_c)^focusing log p_c`` for every sample, (B,) (Lin et al. 2017, equation 4).

    What the net already says with confidence counts for little; ``focusing`` 0 is cross-entropy. ``smoothing`` is
    applied to the target.
    """
    log_p = logits.log_softmax(1)
    # log(1 - p) from the other classes: 1 - p itself rounds to 0, where a power has no gradient.
    own = torch.eye(log_p.shape[1], dtype=torch.bool, device=logits.device)
    log_rest = log_p[:, None, :].masked_fill(own, -torch.inf).logsumexp(2)
    return -(smoothed(targets, smoothing) * torch.exp(focusing * log_rest) * log_p).sum(1)


def ldam(logits: Tensor, targets: Tensor, log_prior: Tensor, margin: float, smoothing: float = 0.0) -> Tensor:
    """Return cross-entropy with a margin for each class, (B,): ``z_c - t_c m_c`` in place of ``z_c``.

    ``m_c`` goes with ``prior_c^(-1/4)`` and is ``margin`` for the rarest class (Cao et al. 2019, arXiv:1906.07413,
    equation 13). For a one-hot target that is the paper's loss with scale 1 on logits that are not normalised.
    """
    rare = torch.exp(-log_prior / 4)
    return soft_cross_entropy(logits - targets * (margin * rare / rare.max()), targets, smoothing)


def vote_kl(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return ``sum_c t_c (log t_c - log p_c)``, (B,): how far a prediction is from the votes (Barsoum et al. 2016).

    Its gradient is that of cross-entropy; its value is 0 where the prediction is the votes themselves.
    """
    wanted = smoothed(targets, smoothing)
    return soft_cross_entropy(logits, wanted) + torch.special.xlogy(wanted, wanted).sum(1)


def prior_smoothing(logits: Tensor, targets: Tensor, similar: Tensor, kept: float) -> Tensor:
    """Return ``-sum_c (a t_c + (1 - a) d_kc) log p_c``, (B,), k the target's class (PDLS).

    ``similar`` (C, C) holds in row k the distribution d_k of what a face of class k is also taken for; a target that is
    a distribution takes the mean of the rows by its shares. ``kept`` is a. The rows must be public.
    """
    return soft_cross_entropy(logits, kept * targets + (1 - kept) * (targets @ similar))


_WITH_PRIOR = {"class_balanced": class_balanced, "logit_adjusted": logit_adjusted}

NEED_PRIOR = (*_WITH_PRIOR, "ldam")
"""Losses that need the share of every class."""

LOSSES = ("cross_entropy", "focal", *NEED_PRIOR, "vote_kl", "pdls")
"""Names for :func:`build_loss`; all per sample, of logits and targets alone."""

STRENGTH = {"ldam": 0.5, "pdls": 0.8}
"""What ``strength`` 0 stands for: the largest margin, and the share of the target that is kept."""


def known_only(loss: Loss) -> Loss:
    """Return a loss over the classes that each row's data set knows.

    A target below 0 (:data:`fer_models.samples.UNKNOWN_CLASS`) says that the class is not known there: it is left out
    of the row's softmax, so that the row neither raises nor lowers it. Other rows are as they were, bit for bit.
    """

    def each(logits: Tensor, targets: Tensor) -> Tensor:
        return loss(logits.masked_fill(targets < 0, NEVER), targets.clamp(min=0))

    return each


def build_loss(
    name: str,
    *,
    smoothing: float = 0.0,
    prior: Sequence[float] | Mapping[str, float] | None = None,
    tau: float = 1.0,
    focusing: float = 2.0,
    strength: float = 0.0,
    similar: Sequence[Sequence[float]] = (),
) -> Loss:
    """Return the loss of that name, as a function of logits and targets.

    Parameters
    ----------
    smoothing : label smoothing, from 0 to below 1.
    prior : public share of every class, in the order of the labels; needed by ``class_balanced``,
        ``logit_adjusted`` and ``ldam`` and refused elsewhere. Scaled to sum to 1.
    tau : strength of ``logit_adjusted``: logits + tau log prior.
    focusing : gamma of ``focal``, 0 or more.
    strength : the margin of ``ldam``, the kept share of ``pdls``, what a package's own loss calls so; 0 takes the
        loss's own.
    similar : the rows of ``pdls``, each a distribution over the classes.

    Raises
    ------
    ConfigError : an unknown name, a smoothing or focusing out of range, a prior missing, unused or not positive, or
        rows that are no distributions.
    """
    if name not in LOSSES and name not in added("losses"):
        close = difflib.get_close_matches(name, LOSSES, n=1) or LOSSES
        raise ConfigError(f"unknown loss {name!r}", where="loss.name", cure=f"Use {' or '.join(close)}.")
    if not 0 <= smoothing < 1:
        raise ConfigError(f"label smoothing is {smoothing}", where="loss.smoothing", cure="Use 0 to below 1.")
    if not 0 <= focusing <= MOST_FOCUSING:
        raise ConfigError(
            f"focusing is {focusing}", where="loss.focusing", cure=f"Use 0 to {MOST_FOCUSING:g}."
        )
    if name not in NEED_PRIOR:
        if prior is not None:
            raise ConfigError(
                f"{name} takes no prior", where="loss.prior", cure=f"Use {' or '.join(NEED_PRIOR)}."
            )
        return _without_prior(name, smoothing, focusing, strength, similar)
    log_prior = _log_prior(name, prior)
    if name == "ldam":
        margin = strength or STRENGTH[name]
        return lambda logits, targets: ldam(logits, targets, log_prior.to(logits), margin, smoothing)
    adjusted = _WITH_PRIOR[name]
    if name == "logit_adjusted":
        log_prior = tau * log_prior
    return lambda logits, targets: adjusted(logits, targets, log_prior.to(logits), smoothing)


def _without_prior(
    name: str, smoothing: float, focusing: float, strength: float, similar: Sequence[Sequence[float]]
) -> Loss:
    if name not in LOSSES:
        own = added_loss(name, strength)
        return lambda logits, targets: own(logits, smoothed(targets, smoothing))
    if name == "focal":
        return lambda logits, targets: focal(logits, targets, focusing, smoothing)
    if name == "vote_kl":
        return lambda logits, targets: vote_kl(logits, targets, smoothing)
    if name == "pdls":
        rows, kept = _distributions(similar), strength or STRENGTH[name]
        return lambda logits, targets: prior_smoothing(logits, targets, rows.to(logits), kept)
    return lambda logits, targets: soft_cross_entropy(logits, targets, smoothing)


def _log_prior(name: str, prior: Sequence[float] | Mapping[str, float] | None) -> Tensor:
    shares = torch.tensor(
        list(prior.values() if isinstance(prior, Mapping) else prior or ()), dtype=torch.float64
    )
    if len(shares) < 2 or not bool(torch.isfinite(shares).all() and (shares > 0).all()):
        raise ConfigError(
            f"{name} needs a positive public share of every class",
            where="loss.prior",
            cure="Give one share a class in the labels' order, public or differentially private.",
        )
    return (shares / shares.sum()).log().float()


def _distributions(rows: Sequence[Sequence[float]]) -> Tensor:
    """Return rows as (C, C), each scaled to a sum of 1."""
    square = len(rows) >= 2 and all(len(row) == len(rows) for row in rows)
    found = torch.tensor([list(row) for row in rows] if square else [[0.0]], dtype=torch.float64)
    if not square or not bool(
        torch.isfinite(found).all() and (found >= 0).all() and (found.sum(1) > 0).all()
    ):
        raise ConfigError(
            "pdls needs for every class a public distribution of what it is also taken for",
            where="loss.similar",
            cure="Give one row a class, with one share of 0 or more for each class.",
        )
    return (found / found.sum(1, keepdim=True)).float()
