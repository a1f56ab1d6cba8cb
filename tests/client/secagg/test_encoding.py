"""Vectors of whole numbers: what is counted stays exact, what is rounded stays within its bound, nothing overflows."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.secagg.encoding import CANARIES, LARGEST, Layout, Segment
from client.secagg.masks import add_masks
from fer_models.errors import ConfigError, SecureAggregationError

COUNTS = Segment("counts", "exact", 3, largest=1 << 40)
UPDATE = Segment("update", "fixed", 5, clip=2.0)
SHARE = Segment("share", "whole", 4, largest=1000)


def added(layout, bodies):
    """The sum of vectors by Python's own whole numbers, number by number."""
    wide, narrow = 8 * layout.words64, layout.words32
    total = bytearray()
    for start in range(0, wide, 8):
        numbers = (int.from_bytes(body[start : start + 8], "little") for body in bodies)
        total += (sum(numbers) % 2**64).to_bytes(8, "little")
    for start in range(wide, wide + 4 * narrow, 4):
        numbers = (int.from_bytes(body[start : start + 4], "little") for body in bodies)
        total += (sum(numbers) % 2**32).to_bytes(4, "little")
    return bytes(total)


def refused(code):
    return pytest.raises(SecureAggregationError, match=rf"\({code}\)|, {code}\)")


def test_a_vector_by_hand():
    layout = Layout((Segment("seen", "exact", 2, largest=9), Segment("share", "whole", 3, largest=7)), 3)
    body = layout.encode({"seen": np.array([4, 9]), "share": np.array([-7, 0, 5])}, 1, bytes(32))
    words = [1, 1, 4, 9, *[0] * CANARIES]
    halves = [2**32 - 7, 0, 5, *[0] * CANARIES]
    assert body == b"".join(w.to_bytes(8, "little") for w in words) + b"".join(
        h.to_bytes(4, "little") for h in halves
    )
    assert (layout.words64, layout.words32, layout.nbytes) == (8, 7, 8 * 8 + 4 * 7)
    total = added(layout, [body] * 3)
    found = layout.decode(total, 3)
    assert {name: value.tolist() for name, value in found.items()} == {
        "weight": [3],
        "seen": [12, 27],
        "share": [-21, 0, 15],
    }


@given(st.data())
@settings(max_examples=60)
def test_weighted_means_are_within_a_step_of_the_truth(data):
    sites, largest = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 5000))
    clip = data.draw(st.floats(1e-3, 100))
    update = Segment("update", "fixed", 5, clip=clip)
    layout = Layout((COUNTS, update), sites, largest)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    weights = rng.integers(1, largest + 1, sites)
    updates = rng.normal(0, clip, (sites, 5)).astype(np.float32)
    counts = rng.integers(0, 1 << 40, (sites, 3))
    bodies = [
        layout.encode({"counts": c, "update": u}, int(w), os.urandom(32))
        for c, u, w in zip(counts, updates, weights, strict=True)
    ]
    found = layout.decode(added(layout, bodies), sites)
    assert found["counts"].tolist() == counts.sum(0).tolist()
    assert found["weight"].tolist() == [weights.sum()]
    truth = np.average(np.clip(updates.astype(float), -clip, clip), axis=0, weights=weights)
    mean = found["update"] / weights.sum()
    assert np.abs(mean - truth).max() <= sites / (layout.scale(update) * weights.sum())


@pytest.mark.parametrize("sites", [10, 50, 200])
def test_a_mean_of_equal_weights_is_within_1e_7_of_the_clip(sites):
    layout = Layout((UPDATE,), sites, 7)
    updates = np.random.default_rng(0).uniform(-2, 2, (sites, 5))
    bodies = [layout.encode({"update": each}, 7, os.urandom(32)) for each in updates]
    mean = layout.decode(added(layout, bodies), sites)["update"] / (7 * sites)
    assert np.abs(mean - updates.mean(0)).max() <= 1e-7 * UPDATE.clip


def test_the_dither_is_fair_and_the_key_s():
    layout = Layout((Segment("update", "fixed", 200_000, clip=1.0),), 1 << 24)
    step = 1 / layout.scale(layout.segments[0])
    values = np.full(200_000, 10.25 * step)
    keys = bytes(32), b"k" * 32
    found = [layout.decode(layout.encode({"update": values}, 1, key), 1)["update"] / step for key in keys]
    assert set(found[0].round(6)) == {10.0, 11.0}
    assert abs((found[0] == found[0].max()).mean() - 0.25) < 0.005
    assert (found[0] != found[1]).mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.01)
    again = layout.encode({"update": values}, 1, keys[0])
    assert again == layout.encode({"update": values}, 1, keys[0])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("sites", [1, 3, 200, 65_535])
def test_the_largest_updates_of_all_sites_do_not_overflow(sites, sign):
    layout = Layout((UPDATE,), sites, 3)
    body = layout.encode({"update": np.full(5, sign * 9.0)}, 3, b"\xff" * 32)
    [one] = {int(each) for each in np.frombuffer(body, "<i4", 5, 8 * layout.words64)} or [0]
    assert abs(one) * sites <= LARGEST[0]
    assert abs(one) * sites > 0.9 * LARGEST[0] - 2 * sites, "and the room is used"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Layout((Segment("counts", "exact", 1, largest=1 << 60),), 8),
        lambda: Layout((Segment("share", "whole", 1, largest=1 << 30),), 2),
        lambda: Layout((UPDATE,), 1 << 30),
        lambda: Layout((UPDATE, SHARE), 3),
        lambda: Layout((COUNTS, COUNTS), 3),
        lambda: Layout((Segment("update", "fixed", 5, clip=float("inf")),), 3),
        lambda: Layout((Segment("update", "fixed", 5, clip=0.0),), 3),
        lambda: Layout((Segment("counts", "exact", 0, largest=1),), 3),
        lambda: Layout((Segment("counts", "exact", 1),), 3),
        lambda: Layout((COUNTS,), 0),
    ],
)
def test_layouts_whose_sums_could_overflow_are_refused(make):
    with pytest.raises(ConfigError):
        make()


GOOD = {"counts": np.array([1, 2, 3]), "update": np.zeros(5)}


@pytest.mark.parametrize(
    ("changes", "weight", "code"),
    [
        ({"update": np.array([0, 0, np.nan, 0, 0])}, 1, "bad_value"),
        ({"update": np.array([0, np.inf, -np.inf, 0, 0])}, 1, "bad_value"),
        ({"update": np.zeros(4)}, 1, "wrong_length"),
        ({"update": np.zeros(5, int)}, 1, "wrong_length"),
        ({"counts": np.array([1, -1, 0])}, 1, "bad_value"),
        ({"counts": np.array([1, 2**40 + 1, 0])}, 1, "bad_value"),
        ({"counts": np.array([1.0, 2, 0])}, 1, "wrong_length"),
        ({"other": np.zeros(1)}, 1, "wrong_length"),
        ({}, 0, "bad_value"),
        ({}, 3, "bad_value"),
    ],
)
def test_what_has_no_place_is_refused(changes, weight, code):
    with refused(code):
        Layout((COUNTS, UPDATE), 3, 2).encode(GOOD | changes, weight, bytes(32))


def test_a_sum_with_a_mask_left_or_of_other_sites_is_refused():
    layout = Layout((COUNTS, UPDATE), 3, 2)
    body = layout.encode(GOOD, 2, bytes(32))
    total = added(layout, [body] * 3)
    layout.decode(total, 3)
    for survivors in (2, 4):
        with refused("bad_sum"):
            layout.decode(total, survivors)
    with refused("wrong_length"):
        layout.decode(total[:-1], 3)
    for sign in (1, -1):
        masked = bytearray(total)
        add_masks(masked, layout.words64, [b"m" * 32], [sign])
        with refused("bad_sum"):
            layout.decode(masked, 3)
    for place in range(layout.nbytes - 4 * CANARIES, layout.nbytes):
        changed = bytearray(total)
        changed[place] ^= 1
        with refused("bad_sum"):
            layout.decode(changed, 3)


@pytest.mark.parametrize(("word", "value"), [(1, 2), (1, 7), (2, 3 * 2**40 + 1)])
def test_a_sum_that_cannot_be_is_refused(word, value):
    layout = Layout((COUNTS, UPDATE), 3, 2)
    total = bytearray(added(layout, [layout.encode(GOOD, 2, bytes(32))] * 3))
    total[8 * word : 8 * word + 8] = value.to_bytes(8, "little")
    with refused("bad_sum"):
        layout.decode(total, 3)


def test_layouts_differ_in_their_digest():
    layouts = [
        Layout((COUNTS, UPDATE), 3, 2),
        Layout((COUNTS, UPDATE), 4, 2),
        Layout((COUNTS, UPDATE), 3, 3),
        Layout((UPDATE, COUNTS), 3, 2),
        Layout((COUNTS, SHARE), 3, 2),
    ]
    assert len({layout.digest for layout in layouts}) == 5
    assert layouts[0].digest == Layout((COUNTS, UPDATE), 3, 2).digest
