"""Linear concept erasure: features that no linear rule can tell the group from, at the least change.

LEACE (Belrose et al. 2023, "LEACE: perfect linear concept erasure in closed form", arXiv:2306.03819, theorem 4.3): of
all affine maps r for which features and group are uncorrelated, the one with the smallest mean squared change is

    r(z) = z - W^+ P W (z - mu),

W = (S^1/2)^+ the whitening of the covariance S of all features, and P the orthogonal projection onto the column space
of W S_zg, S_zg the covariance of features and group. Uncorrelated means that all groups have the same mean; then no
linear classifier, whatever its convex loss, does better than one that answers the same for everybody (theorem 3.1).
It says nothing about what is not linear, and nothing about equal errors.

Everything follows from :class:`Moments`, sums over pictures that add up over sites. Pictures whose group is undisclosed
are in the sums over all pictures alone: S is the covariance of everybody, the means that are made alike are those of
the groups that are disclosed. All is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import DataError

Array = NDArray[np.float64]


def moments_size(features: int, groups: int) -> int:
    """Return the length of the vector of :meth:`Moments.to_vector`."""
    return 1 + features + features * (features + 1) // 2 + groups + groups * features


@dataclass(frozen=True)
class Moments:
    """Sums over pictures, which add up with ``+``.

    Attributes
    ----------
    count : n, pictures.
    total : (F,), sum of z.
    outer : (F, F), sum of z z^T, symmetric; (0, 0) where that is not known.
    group_count : (G,), pictures of each disclosed group.
    group_total : (G, F), sum of z over each disclosed group.
    """

    count: float
    total: Array
    outer: Array
    group_count: Array
    group_total: Array

    @classmethod
    def of(
        cls, z: NDArray[np.floating], group: NDArray[np.integer], groups: int, weight: Array | None = None
    ) -> Moments:
        """Return the sums over some pictures.

        Parameters
        ----------
        z : (n, F), features.
        group : (n,), index of each picture's group, negative where it is undisclosed.
        groups : G.
        weight : (n,), what each picture counts; 1 when None.
        """
        z = np.asarray(z, np.float64)
        kept = np.ones(len(z)) if weight is None else weight
        shown = kept * (group == np.arange(groups)[:, None])
        return cls(float(kept.sum()), kept @ z, (kept[:, None] * z).T @ z, shown.sum(1), shown @ z)

    @classmethod
    def of_groups(cls, group_count: Array, group_total: Array) -> Moments:
        """Return what is known where groups (G,) and their features (G, F) were added up, and nothing else."""
        total = group_total.sum(0)
        return cls(float(group_count.sum()), total, np.zeros((0, 0)), group_count, group_total)

    def __add__(self, other: Moments) -> Moments:
        if (self.group_total.shape, self.outer.shape) != (other.group_total.shape, other.outer.shape):
            raise DataError(
                "moments of other features or groups do not add up",
                cure="Add up those of one net and one attribute.",
            )
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.outer + other.outer,
            self.group_count + other.group_count,
            self.group_total + other.group_total,
        )

    def to_vector(self) -> Array:
        """Return the sums one after the other: n, z, the upper triangle of z z^T by rows, then those of the groups."""
        upper = self.outer[np.triu_indices(len(self.total))]
        return np.concatenate([[self.count], self.total, upper, self.group_count, self.group_total.ravel()])

    @classmethod
    def from_vector(cls, vector: NDArray[np.floating], features: int, groups: int) -> Moments:
        """Return the sums that :meth:`to_vector` wrote; ``features`` is F and ``groups`` is G.

        Raises
        ------
        DataError : it is another number of values, or one is not finite.
        """
        size = moments_size(features, groups)
        if vector.shape != (size,) or not np.isfinite(vector).all():
            raise DataError(
                f"{vector.shape} values are no moments of {features} features and {groups} groups",
                cure=f"Give {size} finite values.",
            )
        ends = np.cumsum([1, features, features * (features + 1) // 2, groups])
        count, total, upper, group_count, group_total = np.split(vector.astype(np.float64), ends)
        outer = np.zeros((features, features))
        outer[np.triu_indices(features)] = upper
        outer += np.triu(outer, 1).T
        return cls(float(count[0]), total, outer, group_count, group_total.reshape(groups, features))


@dataclass(frozen=True)
class Eraser:
    """The map r(z) = z - removed (z - mean).

    Attributes
    ----------
    removed : (F, F), W^+ P W.
    mean : (F,), mu.
    rank : number of directions that it takes out, at most G - 1.
    """

    removed: Array
    mean: Array
    rank: int

    def __call__(self, z: NDArray[np.floating]) -> Array:
        """Return r(z) of features (n, F)."""
        return z - (z - self.mean) @ self.removed.T

    def folded(
        self, weight: NDArray[np.floating], bias: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weight (C, F) and bias (C,) of the linear layer that does to z what the given one does to r(z)."""
        taken = weight.astype(np.float64) @ self.removed
        changed = bias.astype(np.float64) + taken @ self.mean
        return (weight - taken).astype(weight.dtype), changed.astype(bias.dtype)


def eraser_of(moments: Moments, noise: float = 0.0, smallest: float = 1.0) -> Eraser:
    """Return the eraser of sums over everybody; the orthogonal projection where sums of z z^T are not known.

    The projection takes the directions out in which the groups' means differ. It makes the means alike as well, and
    changes features more than it must where these directions lie along others.

    Parameters
    ----------
    noise : deviation of the noise in each of the sums, 0 without. Noise gives the covariance eigenvalues of up to
        2 sqrt(F) times its deviation (Wigner's semicircle): smaller ones are raised to that, so that directions which
        noise alone has made small are not taken for small. Where noise outweighs everything, the eraser becomes the
        orthogonal projection, which needs no covariance.
    smallest : pictures of a group below which it is not looked at.

    Raises
    ------
    DataError : fewer than two groups have pictures.
    """
    present = moments.group_count >= max(1.0, smallest)
    if moments.count < 2 or int(present.sum()) < 2:
        raise DataError(
            f"{int(present.sum())} disclosed groups have pictures, and erasure compares two or more",
            where="groups",
            cure="Use an attribute of which two values or more are disclosed.",
        )
    count, mean = moments.count, moments.total / moments.count
    root = inverse = np.eye(len(mean))
    if len(moments.outer):
        covariance = moments.outer / count - np.outer(mean, mean)
        root, inverse = _roots(covariance, 2 * np.sqrt(len(mean)) * noise / count)
    group_count, group_total = moments.group_count[present], moments.group_total[present]
    disclosed = group_count.sum()
    shared = group_total.sum(0) / disclosed
    # Covariance of z and the indicators of the groups, over those that are disclosed: (F, G).
    crossed = (group_total - group_count[:, None] * shared).T / disclosed
    basis = _column_space(inverse @ crossed)
    return Eraser(root @ basis @ basis.T @ inverse, mean, basis.shape[1])


def _roots(covariance: Array, floor: float) -> tuple[Array, Array]:
    """Return S^1/2 and its pseudo-inverse; eigenvalues below ``floor`` are raised to it."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    values = np.maximum(values, floor)
    smallest = len(values) * np.finfo(np.float64).eps * max(float(values.max()), 0.0)
    kept = values > smallest
    roots = np.sqrt(values[kept])
    vectors = vectors[:, kept]
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _column_space(matrix: Array) -> Array:
    """Return an orthonormal basis (F, r) of the columns of (F, G); indicators add up to 1, so r is at most G - 1."""
    left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    most = matrix.shape[1] - 1
    # W S_zg holds correlations: what is below this is rounding.
    return left[:, :most][:, singular[:most] > 1e-9]


def meant(moments: Moments, noise: float = 0.0) -> float:
    """Return which share of what sets the groups' sums of features apart is not noise, 0 to 1.

    By squares: over the groups, \\|total_g - (n_g / n) total\\|^2, less what independent noise of that deviation in
    every number adds to it on average. Noise in the numbers of pictures is left out: it moves totals alike.
    """
    share = moments.group_count / moments.group_count.sum()
    apart = moments.group_total - share[:, None] * moments.group_total.sum(0)
    groups, features = moments.group_total.shape
    # Of group g: its own number counts (1 - s)^2, each of the others s^2.
    expected = noise**2 * features * float(((1 - share) ** 2 + (groups - 1) * share**2).sum())
    found = float(np.square(apart).sum())
    return max(0.0, 1 - expected / found) if found > 0 else 0.0
