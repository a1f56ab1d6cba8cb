"""Linear concept erasure from sums: what it takes out, that it changes no more than it must, and that it folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.erasure import Moments, eraser_of, meant, moments_size
from fer_models.errors import DataError


def drawn(seed, rows=400, features=6, groups=3, rank=None):
    """Features whose mean follows the group, some of an undisclosed group (-1); ``rank`` below F leaves directions."""
    rng = np.random.default_rng(seed)
    group = rng.integers(-1, groups, rows)
    mixed = rng.normal(size=(rank or features, features))
    z = (rng.normal(size=(rows, len(mixed))) + (group[:, None] == np.arange(groups)) @ rng.normal(
        size=(groups, len(mixed))
    )) @ mixed + rng.normal(size=features)  # fmt: skip
    return z, group


def change(r, z):
    return float(np.square(r - z).sum(1).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 6))
def test_groups_have_one_mean_afterwards(seed, groups, rank):
    z, group = drawn(seed, groups=groups, rank=rank)
    eraser = eraser_of(Moments.of(z, group, groups))
    r, shown = eraser(z), group >= 0
    indicator = (group[:, None] == np.arange(groups))[shown]
    crossed = (r[shown] - r[shown].mean(0)).T @ indicator / shown.sum()
    assert np.abs(crossed).max() < 1e-9 * np.abs(z).max()
    assert eraser.rank == min(groups - 1, rank)
    # Nothing but that: what is erased once is erased, and the mean of everybody stays.
    assert np.allclose(eraser(r), r, atol=1e-7)
    assert np.allclose(r.mean(0), z.mean(0), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_affine_map_that_erases_changes_less(seed):
    z, group = drawn(seed, features=5)
    moments = Moments.of(z, group, 3)
    r, rng = eraser_of(moments)(z), np.random.default_rng(seed)
    least, centred = change(r, z), z - z.mean(0)
    means = np.stack([z[group == g].mean(0) for g in range(3)])
    apart = (means - z[group >= 0].mean(0)).T  # (F, G): what a map must not see
    away = np.eye(5) - apart @ np.linalg.pinv(apart)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            other = r + centred @ (size * rng.normal(size=(5, 5)) @ away).T + size * rng.normal(size=5)
            erased = np.stack([other[group == g].mean(0) for g in range(3)])
            assert np.allclose(erased, erased[0], atol=1e-8)
            assert change(other, z) > least
    orthogonal = z - centred @ (apart @ np.linalg.pinv(apart)).T
    assert change(orthogonal, z) > least * 1.001


def test_least_squares_finds_nothing_in_erased_features():
    z, group = drawn(3, groups=2)
    shown = group >= 0
    r = eraser_of(Moments.of(z, group, 2))(z)

    def explained(features):
        x = np.column_stack([features[shown], np.ones(shown.sum())])
        fit = x @ np.linalg.lstsq(x, group[shown].astype(float), rcond=None)[0]
        return float(np.var(fit) / np.var(group[shown]))

    assert explained(z) > 0.2
    assert explained(r) < 1e-18


def test_it_folds_into_a_linear_layer():
    z, group = drawn(1)
    eraser, rng = eraser_of(Moments.of(z, group, 3)), np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 6)), rng.normal(size=4)
    folded, moved = eraser.folded(weight, bias)
    assert np.allclose(z @ folded.T + moved, eraser(z) @ weight.T + bias)
    assert eraser.folded(weight.astype(np.float32), bias.astype(np.float32))[0].dtype == np.float32


def test_moments_add_up_and_travel_as_a_vector():
    z, group = drawn(2)
    whole = Moments.of(z, group, 3)
    parts = sum(
        (Moments.of(z[i::4], group[i::4], 3) for i in range(1, 4)), start=Moments.of(z[::4], group[::4], 3)
    )
    for found in (parts, Moments.from_vector(parts.to_vector(), 6, 3)):
        assert np.allclose(found.to_vector(), whole.to_vector())
        assert np.allclose(found.outer, whole.outer)
    assert len(whole.to_vector()) == moments_size(6, 3) == 1 + 6 + 21 + 3 + 18
    assert np.allclose(Moments.of(z, group, 3, np.full(len(z), 0.5)).to_vector(), whole.to_vector() / 2)
    with pytest.raises(DataError, match="do not add up"):
        whole + Moments.of(z, group, 2)


def test_undisclosed_pictures_count_for_everybody_alone():
    z, group = drawn(4)
    shown = group >= 0
    whole, without = Moments.of(z, group, 3), Moments.of(z[shown], group[shown], 3)
    assert np.allclose(whole.group_total, without.group_total)
    assert whole.count == len(z) > without.count


def test_small_numbers_by_hand():
    """Two features, the second tells the group: it is replaced by what the first one says of it, here nothing."""
    z, group = np.array([[1.0, 2], [-1, 2], [1, -2], [-1, -2]]), np.array([0, 0, 1, 1])
    eraser = eraser_of(Moments.of(z, group, 2))
    assert np.allclose(eraser.removed, [[0, 0], [0, 1]])
    assert np.allclose(eraser(z), [[1, 0], [-1, 0], [1, 0], [-1, 0]])


def test_under_much_noise_it_is_the_orthogonal_projection():
    z, group = drawn(5, groups=2)
    eraser = eraser_of(Moments.of(z, group, 2), noise=1e6)
    apart = z[group == 0].mean(0) - z[group == 1].mean(0)
    assert np.allclose(eraser.removed, np.outer(apart, apart) / (apart @ apart))


def test_one_group_and_broken_vectors_are_refused():
    z, group = drawn(6)
    with pytest.raises(DataError, match="1 disclosed groups have pictures"):
        eraser_of(Moments.of(z, np.where(group == 0, 0, -1), 3))
    vector = Moments.of(z, group, 3).to_vector()
    for broken in (vector[:-1], np.full_like(vector, np.nan)):
        with pytest.raises(DataError, match="no moments of 6 features and 3 groups"):
            Moments.from_vector(broken, 6, 3)


def test_sums_of_groups_alone_give_the_orthogonal_projection():
    z, group = drawn(6)
    whole = Moments.of(z, group, 3)
    eraser = eraser_of(Moments.of_groups(whole.group_count, whole.group_total))
    shown = group >= 0
    means = np.stack([eraser(z)[group == g].mean(0) for g in range(3)])
    assert np.allclose(means, z[shown].mean(0), atol=1e-9)
    assert np.allclose(eraser.removed, eraser.removed.T)
    assert np.allclose(eraser.removed @ eraser.removed, eraser.removed)
    assert eraser.rank == 2
    assert change(eraser(z), z) > change(eraser_of(whole)(z), z)


def test_a_group_of_few_pictures_is_not_looked_at():
    count, total = np.array([50.0, 40.0, 3.0]), np.array([[50.0, 0], [0, 40.0], [300.0, 300.0]])
    found = eraser_of(Moments.of_groups(count, total), smallest=4)
    assert np.allclose(found.removed, eraser_of(Moments.of_groups(count[:2], total[:2])).removed)
    with pytest.raises(DataError, match="1 disclosed groups"):
        eraser_of(Moments.of_groups(count, total), smallest=44)


def test_what_is_meant_is_what_noise_does_not_explain():
    rng = np.random.default_rng(0)
    count = np.array([300.0, 100.0])
    totals = rng.normal(size=(200, 2, 50)) * 3.0
    share = [meant(Moments.of_groups(count, total), 3.0) for total in totals]
    assert np.mean(share) < 0.12, "nothing but noise"
    apart = np.stack([np.full(50, 15.0), np.zeros(50)])
    share = [meant(Moments.of_groups(count, total + apart), 3.0) for total in totals]
    left = (0.25 * 15) ** 2 * 50 + (0.25 * 15) ** 2 * 50
    noise = 9 * 50 * (0.25**2 + 0.75**2 + 0.75**2 + 0.25**2)
    assert np.mean(share) == pytest.approx(left / (left + noise), abs=0.02)
    assert meant(Moments.of_groups(count, apart)) == 1.0
    assert meant(Moments.of_groups(count, count[:, None] * np.ones(50)), 1.0) == 0.0
