# pyright: reportArgumentType=false
"""Epochs in which every class is visited alike, and pictures that are erased and lit."""

import numpy as np
import pytest
import torch

from client.plan import LocalWork
from client.randomness import SeededEntropy
from client.training import batches, shuffled
from fer_models.errors import ConfigError, PrivacyError
from fer_models.transforms import Augmentation, augment

LABELS = np.repeat([0, 1, 3], [70, 25, 5])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_class_that_occurs_is_visited_alike():
    found = shuffled(100, generator(), LABELS)
    counts = np.bincount(LABELS[found], minlength=4)
    assert counts.sum() == 100
    assert set(counts.tolist()) == {0, 33, 34}
    for name in (0, 1, 3):  # within a class rows come round in turn
        visits = np.bincount(found[LABELS[found] == name], minlength=100)[name == LABELS]
        assert visits.max() - visits.min() <= 1
    assert not np.array_equal(found, shuffled(100, generator(1), LABELS))
    assert np.array_equal(found, shuffled(100, generator(), LABELS))


def test_rows_are_visited_as_they_were_where_nobody_asks():
    plain = shuffled(100, generator())
    assert np.array_equal(plain, torch.randperm(100, generator=generator()).numpy())
    work, entropy = LocalWork(unit="epochs", amount=1, batch=10), SeededEntropy(0, "a")
    one, two = (np.concatenate(list(batches(work, 100, 1, entropy, by))) for by in (None, LABELS))
    assert np.array_equal(one, two)


def test_fewer_rows_than_classes():
    found = shuffled(2, generator(), np.array([0, 5]))
    assert sorted(found.tolist()) == [0, 1]


def test_sampling_by_class_is_refused_under_privacy(plan_of):
    with pytest.raises(PrivacyError, match="no Poisson sampling"):
        plan_of(local={"sampling": "classes"}, privacy={})
    assert '"sampling"' not in plan_of().text


def test_a_rectangle_becomes_the_mean_and_the_rest_stays():
    x = torch.ones(400, 1, 48, 48)
    still = {"flip": 0, "rotation": 0, "scale": 0, "shift": 0}
    found = augment(x, generator(), Augmentation(erase=0.5, **still))
    gone = (found == 0).flatten(1).float().mean(1)
    assert set(found.round(decimals=4).unique().tolist()) == {0.0, 1.0}
    assert 0.4 < float((gone > 0).float().mean()) < 0.6
    assert float(gone[gone > 0].min()) > 0.01 and float(gone.max()) < 0.25
    for picture in found[gone > 0][:20, 0]:
        rows, columns = (picture == 0).any(1).sum(), (picture == 0).any(0).sum()
        assert int((picture == 0).sum()) == int(rows * columns)  # one rectangle


def test_light_is_a_plane_of_mean_zero():
    x = torch.zeros(50, 1, 32, 32)
    still = {"flip": 0, "rotation": 0, "scale": 0, "shift": 0}
    found = augment(x, generator(), Augmentation(light=0.8, **still))[:, 0]
    torch.testing.assert_close(found.mean((1, 2)), torch.zeros(50), atol=1e-5, rtol=0)
    curved = found[:, 2:] - 2 * found[:, 1:-1] + found[:, :-2]
    torch.testing.assert_close(curved, torch.zeros_like(curved), atol=1e-5, rtol=0)
    assert 0.5 < float(found.abs().amax()) <= 0.8
    with pytest.raises(ConfigError, match="augmentation light"):
        Augmentation(light=4.0)


def test_what_is_not_varied_is_not_erased():
    with pytest.raises(ConfigError, match="neither erased nor lit"):
        LocalWork(augment=False, erase=0.5)
    with pytest.raises(ConfigError, match="augmentation erase"):
        LocalWork(erase=1.5)
