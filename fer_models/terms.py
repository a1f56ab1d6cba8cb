"""Losses that look at features: terms beside cross-entropy, some with parameters of their own such as centres.

:class:`WithTerms` holds a net and the parameters of a loss, so that one vector holds their numbers: what is sent,
summed under masks, clipped and given noise is all of it. In training it answers logits and, beside them, columns that
its terms make of each picture; the loss is a function of those and of the targets, one value a sample. In evaluation it
answers as the net does.

Terms that join the pictures of a batch are here as well. They train without privacy; under privacy the guard
(:mod:`client.guards`) finds them out, since it looks at what reacts to what, not at names.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from fer_models.blocks import Heads
from fer_models.errors import ModelError
from fer_models.losses import Loss, soft_cross_entropy

TINY = 1e-6
"""Added to what is divided by."""


class Terms(nn.Module, abc.ABC):
    """Columns (B, K) of what a net makes of pictures, and the terms (B,) of those columns and the targets (B, C).

    Attributes
    ----------
    strength : what the terms are multiplied by where a plan does not say.
    beside : whether cross-entropy of the net's own logits is added.
    """

    strength = 1.0
    beside = True

    @abc.abstractmethod
    def columns(self, z: Tensor) -> Tensor:
        """Return (B, K) of features (B, F); the net has just answered."""

    @abc.abstractmethod
    def value(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return the terms (B,)."""

    def watch(self, net: nn.Module, last: nn.Linear) -> None:
        """Look for what is needed of a net whose last layer is ``last``, before it is first called."""

    def forget(self) -> None:
        """Drop what the net's last answer has left behind."""


class Centre(Terms):
    """``1/2 ||z - c_k||^2`` to the centre of the picture's class (Wen et al. 2016, ECCV, equation 2).

    The paper moves centres by a rule of its own over the batch; here they are parameters, and learn by gradient.
    """

    strength = 0.01

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, features, generator=generator) / math.sqrt(features))

    def columns(self, z: Tensor) -> Tensor:
        """Return the squared distances to all centres, halved, (B, C)."""
        return (z[:, None] - self.centres).square().sum(2) / 2

    def value(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the target's classes."""
        return (columns * targets).sum(1)


class WeightedCluster(Centre):
    """The centre loss over how far the class's centre is from the others: ``1/2 ||z - c_k||^2 / (s_k + 1)``.

    ``s_k = sum_(j != k) ||c_j - c_k||^2``, as the survey's equation 4 must mean, which sums over the samples' index.
    Its weights of classes are 1 here.
    """

    strength = 0.1

    def columns(self, z: Tensor) -> Tensor:
        """Return the ratios of all classes, (B, C)."""
        apart = (self.centres[:, None] - self.centres[None]).square().sum((1, 2))
        return super().columns(z) / (apart + 1)


class Dacl(Centre):
    """``1/2 sum_d a_d (z_d - c_kd)^2`` with attention a of the features (Farzaneh and Qi 2021, WACV, DACL).

    The paper's attention net sees the last maps and ends in two logits a dimension; here two layers see the features
    and end in a sigmoid.
    """

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:
        super().__init__(features, classes, generator)
        narrow = max(8, features // 8)
        self.narrow = _linear(features, narrow, generator)
        self.wide = _linear(narrow, features, generator)

    def columns(self, z: Tensor) -> Tensor:
        """Return the weighted squared distances, halved, (B, C)."""
        attention = self.wide(self.narrow(z).tanh()).sigmoid()
        return ((z[:, None] - self.centres).square() * attention[:, None]).sum(2) / 2


class EmbeddingDiscriminator(Terms):
    """Ad-Corre's third part alone: several embeddings of one picture should not go together (Fard and Mahoor 2022).

    Embeddings of length 1 are made of the features, and a layer tells classes from all of them, so that they hold
    something; their cross-entropy is added. The term is the mean of 1 + the correlation of two embeddings of the
    picture (doi:10.1109/ACCESS.2022.3156598). Embeddings and layer are the loss's own: the net's head stays.
    """

    strength = 0.5
    count, length = 3, 32

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.classes = classes
        self.embed = _linear(features, self.count * self.length, generator)
        self.tell = _linear(self.count * self.length, classes, generator)

    def columns(self, z: Tensor) -> Tensor:
        """Return logits and embeddings, (B, C + E D)."""
        made = functional.normalize(self.embed(z).unflatten(1, (self.count, self.length)), dim=2)
        return torch.cat([self.tell(made.flatten(1)), made.flatten(1)], 1)

    def value(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropy of the embeddings' logits and the term."""
        made = columns[:, self.classes :].unflatten(1, (self.count, self.length))
        return soft_cross_entropy(columns[:, : self.classes], targets) + self.apart(made, targets)

    def apart(self, made: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002 - as others need it
        """Return how far the embeddings (B, E, D) of one picture go together, (B,)."""
        together = _correlations(made)
        others = ~torch.eye(self.count, dtype=torch.bool, device=made.device)
        return ((1 + together) * others).sum((1, 2)) / (self.count * (self.count - 1))


class AdCorre(EmbeddingDiscriminator):
    """All of Ad-Corre: embeddings of one class go together, of two classes they do not; nor do the classes' means.

    The feature discriminator compares every picture with every other of the batch, the mean discriminator the means of
    the batch's classes. The released code computes correlations outside of the graph, so that these parts train
    nothing; here they do. The weights by a running confusion matrix are left out.
    """

    def apart(self, made: Tensor, targets: Tensor) -> Tensor:
        """Return all three parts, (B,); the second and the third of the batch as a whole."""
        same = 2 * (targets @ targets.T) - 1  # 1 for one class, -1 for two
        pictures = _correlations(made.transpose(0, 1))
        features = (same - pictures).abs().mean((0, 2))
        shares = targets / (targets.sum(0) + TINY)
        means = _correlations((shares.T @ made.flatten(1)).unflatten(1, made.shape[1:]).transpose(0, 1))
        classes = ~torch.eye(targets.shape[1], dtype=torch.bool, device=made.device)
        return super().apart(made, targets) + features + ((1 + means) * classes).mean()


class DanPartition(Terms):
    """DAN's partition loss, per picture: ``log(1 + K / v)``, v the variance over K heads (arXiv:2109.07270, eq. 8).

    v is the mean over the features. The released code takes it over the pictures of the batch as well, inside the
    logarithm; here the mean over pictures is left to the batch's mean of losses.
    """

    strength = 0.1

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:  # noqa: ARG002
        super().__init__()
        self._seen: list[Tensor] = []
        self._count = 0

    def watch(self, net: nn.Module, last: nn.Linear) -> None:  # noqa: ARG002 - as others need it
        """Find the heads.

        Raises
        ------
        ModelError : the net has none.
        """
        found = [module for module in net.modules() if isinstance(module, Heads)]
        if not found:
            raise ModelError(
                "the net has no attention heads to keep apart",
                where="local.loss",
                cure="Use model=dan_lite or model.attention=heads, or another loss.",
            )
        heads = list(found[-1].heads)
        self._count = len(heads)
        for head in heads:
            head.register_forward_hook(lambda *given: self._seen.append(given[2].mean((2, 3))))

    def columns(self, z: Tensor) -> Tensor:  # noqa: ARG002 - the heads tell
        """Return the term itself, (B, 1)."""
        heads = torch.stack(self._seen[-self._count :], 1)
        spread = heads.var(1).mean(1, keepdim=True)
        return torch.log1p(self._count / (spread + TINY))

    def forget(self) -> None:
        """Drop what the heads gave."""
        self._seen.clear()

    def value(self, columns: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002 - as others need it
        """Return the terms (B,)."""
        return columns[:, 0]


class RelativeUncertainty(Terms):
    """Relative uncertainty learning (Zhang et al. 2021, NeurIPS): features of two pictures, mixed, must tell both.

    A layer gives each picture an uncertainty s; the features of a picture and of the next one of the batch are mixed by
    ``(s_i z_i + s_j z_j) / (s_i + s_j)``, and the loss is the mean of the cross-entropies to both targets. It takes the
    place of the cross-entropy of single pictures.
    """

    beside = False

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:  # noqa: ARG002
        super().__init__()
        self.uncertain = _linear(features, 1, generator)
        self._last: list[nn.Linear] = []

    def watch(self, net: nn.Module, last: nn.Linear) -> None:  # noqa: ARG002 - as others need it
        """Keep the layer that tells classes from features."""
        self._last = [last]

    def columns(self, z: Tensor) -> Tensor:
        """Return the logits of the mixtures, (B, C)."""
        share = functional.softplus(self.uncertain(z)) + TINY
        other = share.roll(-1, 0)
        mixed = (share * z + other * z.roll(-1, 0)) / (share + other)
        layer = self._last[0]
        return functional.linear(mixed, layer.weight, layer.bias)

    def value(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of both cross-entropies, (B,)."""
        return (soft_cross_entropy(columns, targets) + soft_cross_entropy(columns, targets.roll(-1, 0))) / 2


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(fan_out, fan_in, generator=generator) / math.sqrt(fan_in))
        layer.bias.zero_()
    return layer


def _correlations(x: Tensor) -> Tensor:
    """Return Pearson's correlations (..., N, N) of rows (..., N, D)."""
    x = x - x.mean(-1, keepdim=True)
    x = x * (x.square().sum(-1, keepdim=True) + TINY).rsqrt()
    return x @ x.transpose(-1, -2)


TERMS: Mapping[str, Callable[[int, int, torch.Generator], Terms]] = {
    "centre": Centre,
    "weighted_cluster": WeightedCluster,
    "dacl": Dacl,
    "ad_corre_embedding": EmbeddingDiscriminator,
    "ad_corre": AdCorre,
    "dan_partition": DanPartition,
    "relative_uncertainty": RelativeUncertainty,
}
"""Name -> terms for features and classes, their first numbers from a generator."""


class WithTerms(nn.Module):
    """A net and the terms of its loss.

    Parameters
    ----------
    net : gives logits.
    last : its last layer, given the features.
    name : of :data:`TERMS`.
    seed : of the terms' first numbers.

    Raises
    ------
    ModelError : the net has not what the terms look at.
    """

    def __init__(self, net: nn.Module, last: nn.Linear, name: str, *, seed: int = 0) -> None:
        super().__init__()
        self.net = net
        self.terms = TERMS[name](last.in_features, last.out_features, torch.Generator().manual_seed(seed))
        self.terms.to(last.weight)
        self.terms.watch(net, last)
        self._given: list[Tensor] = []
        last.register_forward_pre_hook(lambda _, inputs: self._given.append(inputs[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C), in training with columns beside them (B, C + K)."""
        self._given.clear()
        logits = self.net(x)
        z = self._given.pop().flatten(1)
        answers = torch.cat([logits, self.terms.columns(z)], 1) if self.training else logits
        self.terms.forget()
        return answers


def with_terms(terms: Terms, base: Loss, classes: int, strength: float = 0.0) -> Loss:
    """Return the loss of what :class:`WithTerms` answers: ``base`` of the logits, and the terms.

    Parameters
    ----------
    strength : what the terms are multiplied by; 0 takes their own.
    """

    def loss(answers: Tensor, targets: Tensor) -> Tensor:
        own = (strength or terms.strength) * terms.value(answers[:, classes:], targets)
        return base(answers[:, :classes], targets) + own if terms.beside else own

    return loss
