"""A bias for each cluster of look-alikes: every kind of face gets the classes as often as people call it that.

The idea is that of fair score normalisation (Terhoerst et al. 2020, "Post-comparison mitigation of demographic bias in
face recognition using fair score normalization", Pattern Recognition Letters 140): cluster the features of faces,
without anybody's group, and let every cluster work at the same point. There a cluster has a threshold of its own; here,
where a net chooses among classes, it has a bias for each class,

    b[k, c] = log (N[k, c] + m N[c] / N) / (S[k, c] + m S[c] / S)  -  log N[c] / S[c],

N[k, c] the pictures of cluster k that are labelled c, S[k, c] the sum of the net's probabilities of c over the cluster,
N[c], S[c], N and S the same over all clusters and classes. Were a cluster's probabilities multiplied by exp(b) and not
normalised again, their sum would be N[k, c] times a factor that is the same for every cluster: what the net says too
often of one kind of face, beyond what it says too often of all, is taken back. m pictures of everybody are added to
each cluster, so that few pictures change little. The operating point over everybody is left as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MOST = 256
"""Clusters, at most."""

LARGEST = 2.0
"""Largest size of a bias."""

Array = NDArray[np.float64]


class Clustered(nn.Module):
    """A net whose logits get the bias of the cluster that the picture's features are nearest to, in evaluation mode.

    Parameters
    ----------
    net : gives logits.
    last : its last layer, given the features.
    clusters : K.

    Attributes
    ----------
    centres : (K, F), in the space of features; they do not learn.
    offsets : (K, C), biases; they do not learn. All zeros at first, so the net answers as it would alone.
    """

    held = ("centres", "offsets")
    """Names of the parameters that never learn."""

    def __init__(self, net: nn.Module, last: nn.Linear, clusters: int) -> None:
        super().__init__()
        self.net = net
        like: dict[str, Any] = {"device": last.weight.device, "dtype": last.weight.dtype}
        self.centres = nn.Parameter(torch.zeros(clusters, last.in_features, **like), requires_grad=False)
        self.offsets = nn.Parameter(torch.zeros(clusters, last.out_features, **like), requires_grad=False)
        self._given: list[Tensor] = []
        last.register_forward_pre_hook(lambda _, inputs: self._given.append(inputs[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) of pictures (B, channels, H, W)."""
        self._given.clear()
        logits = self.net(x)
        features = self._given.pop()
        return logits if self.training else logits + self.offsets[nearest(features, self.centres)]


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """Return the index (B,) of the centre (K, F) nearest to each row of features (B, F); the first of equals."""
    # |z - c|^2 without |z|^2, picture by picture: no batch decides how it is summed.
    return (centres.square().sum(1) - 2 * features @ centres.T).argmin(1)


def first_centres(mean: Array, spread: float, clusters: int, seed: int) -> Array:
    """Return centres (K, F) to begin with: in random directions from the mean (F,), ``spread`` away."""
    directions = np.random.default_rng(seed).normal(size=(clusters, len(mean)))
    return mean + spread * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def next_centres(centres: Array, count: Array, total: Array, smallest: float = 1.0) -> Array:
    """Return the means of clusters, by count (K,) and sum of features (K, F); one of few pictures stays where it was.

    One step of Lloyd (1982), "Least squares quantization in PCM".
    """
    full = count >= smallest
    return np.where(full[:, None], total / np.where(full, count, 1.0)[:, None], centres)


def offsets_of(labelled: Array, given: Array, drawn: float = 20.0) -> Array:
    """Return the biases b (K, C).

    Parameters
    ----------
    labelled, given : N and S, (K, C); where noise has made a number negative it counts as 0.
    drawn : m, pictures of everybody that are added to each cluster.
    """
    labelled, given = np.maximum(labelled, 0.0), np.maximum(given, 0.0)
    everybody = [np.maximum(each.sum(0), 1e-9) for each in (labelled, given)]
    pulled = [
        each + drawn * whole / whole.sum() for each, whole in zip((labelled, given), everybody, strict=True)
    ]
    ratio = np.log(np.maximum(pulled[0], 1e-9)) - np.log(np.maximum(pulled[1], 1e-9))
    found = ratio - np.log(everybody[0] / everybody[1])
    known = (labelled.sum(0) > 0) & (given.sum(0) > 0)
    return np.clip(np.where(known, found, 0.0), -LARGEST, LARGEST)
