"""Intervals with noise: wider than without, by hand for one rate, and covering what is planted."""

import numpy as np
import pytest

from fer_models.counts import Counts
from fer_models.findings import findings
from fer_models.intervals import corrected, critical, proportion_interval
from fer_models.metrics import summarise
from fer_models.noisy_counts import cleaned, variance_of_cell
from fer_models.noisy_intervals import (
    LEAN,
    Noise,
    deviation,
    figures_with_noise,
    findings_with_noise,
    widened,
)

LABELS = ("a", "b", "c", "d")
GROUPS = {"gender": ("f", "m")}
SHARES = (0.4, 0.3, 0.2, 0.1)


def noisy(seed, rows=1200, epsilon=1.0, sites=4):
    """Counts of rows of which three quarters are right, and a quarter of the others by chance; with noise of sites."""
    rng = np.random.default_rng(seed)
    true = rng.choice(4, rows, p=SHARES)
    said = np.where(rng.random(rows) < 0.75, true, rng.integers(0, 4, rows))
    counts = Counts.of(true, said, LABELS, {"gender": rng.choice(GROUPS["gender"], rows)}, GROUPS)
    table, q = counts.by_group["gender"].ravel(), np.exp(-epsilon)
    total = table + sum(
        rng.geometric(1 - q, table.size) - rng.geometric(1 - q, table.size) for _ in range(sites)
    )
    variance = sites * 2 * q / (1 - q) ** 2
    noise = Noise(variance**0.5, variance_of_cell([2], variance) ** 0.5)
    return cleaned(total, LABELS, GROUPS), noise


def test_the_deviation_of_a_rate_by_hand():
    """80 of 100, one cell of hits and three of others, deviation 2: 2 sqrt(.2^2 + 3 .8^2) / 100."""
    assert deviation(0.8, 100, 1, 3, 2.0) == pytest.approx(LEAN * 2 * np.sqrt(0.04 + 3 * 0.64) / 100)
    assert deviation(0.8, 10, 1, 3, 2.0) == np.inf
    assert deviation(0.0, 0, 1, 3, 2.0) == np.inf


def test_distances_add_up_in_quadrature():
    low, high = widened(0.5, (0.47, 0.54), 0.04 / 1.959963984540054)
    assert (low, high) == (pytest.approx(0.45), pytest.approx(0.5 + np.hypot(0.04, 0.04)))
    assert widened(0.5, (0.4, 0.6), np.inf) == [0.0, 1.0]


def test_every_interval_grows():
    counts, noise = noisy(0)
    before, after = summarise(counts), figures_with_noise(summarise(counts), counts, noise)

    def pairs(old, new):
        for key, value in old.items():
            if isinstance(value, dict):
                yield from pairs(value, new[key])
            elif isinstance(value, list) and len(value) == 2 and all(isinstance(x, float) for x in value):
                yield value, new[key]

    found = list(pairs(before, after))
    assert len(found) > 40
    assert all(new[0] <= old[0] + 1e-12 and old[1] <= new[1] + 1e-12 for old, new in found)


def test_the_figures_of_single_classes_hold_the_noise_as_well():
    counts, noise = noisy(0)
    before = summarise(counts)["parity"]["gender"]["per_class"]
    after = figures_with_noise(summarise(counts), counts, noise)["parity"]["gender"]["per_class"]
    for label in LABELS:
        (low, high), plain = (facts[label]["demographic_parity_ratio_interval"] for facts in (after, before))
        assert 0 < low < plain[0]
        assert plain[1] <= high <= 1
        for key in ("demographic_parity_difference", "equal_opportunity_difference"):
            assert after[label][f"{key}_interval"][1] > before[label][f"{key}_interval"][1]


def test_a_ratio_by_hand():
    """The limits of both groups' rates hold together, and the ratio lies between those of the limits."""
    said = np.array([[300, 100], [120, 280]])
    table = np.array([[[n // 2, m // 2]] * 2 for n, m in said])
    counts = Counts(("a", "b"), {"g": ("f", "h")}, table.sum(0), {"g": table})
    found = figures_with_noise(summarise(counts), counts, Noise(3.0, 4.0))["parity"]["g"]

    def limits(hits, strict):
        rate, each = hits / 400, proportion_interval(hits, 400, strict)
        noise = critical(strict) * deviation(rate, 400, 2, 2, 3.0)
        return rate - np.hypot(rate - each[0], noise), rate + np.hypot(each[1] - rate, noise)

    worst = [found["demographic_parity_ratio_worst_interval"], corrected(0.95, 2), 100, 280]
    single = [found["per_class"]["a"]["demographic_parity_ratio_interval"], 0.95, 120, 300]
    for got, level, less, more in (worst, single):
        few, many = (limits(hits, corrected(level, 2)) for hits in (less, more))
        assert got == pytest.approx([few[0] / many[1], few[1] / many[0]])


def test_nothing_is_known_of_the_ratio_where_noise_drowns_a_rate():
    table = tables(190, 100, 150).by_group["g"].copy()
    table[2] = [[6, 2], [2, 6]]
    counts = Counts(("a", "b"), {"g": ("f", "g", "h")}, table.sum(0), {"g": table})
    found = figures_with_noise(summarise(counts), counts, Noise(4.0, 5.0))["parity"]["g"]
    assert found["demographic_parity_ratio_interval"] == [0.0, 1.0]


def test_intervals_cover_with_noise_what_they_miss_without():
    right = 0.75 + 0.25 / 4
    hits, alone, sure = [], [], 0
    for seed in range(60):
        counts, noise = noisy(seed)
        before = summarise(counts, fairlearn=False)
        after = figures_with_noise(before, counts, noise)
        hits += [
            low <= right <= high for low, high in (after["accuracy_interval"], after["recall_interval"]["d"])
        ]
        alone += [
            low <= right <= high
            for low, high in (before["accuracy_interval"], before["recall_interval"]["d"])
        ]
        sure += any(gap["sure"] for gap in findings_with_noise(findings(counts), counts, noise)["gaps"])
    assert np.mean(hits) >= 0.93
    assert np.mean(alone) < 0.93
    assert sure <= 7


def tables(*rights):
    """Counts of groups of 400 rows, half of each of two classes, of whom so many are right in each class."""
    table = np.array([[[right, 200 - right], [200 - right, right]] for right in rights])
    names = tuple("fghk"[: len(rights)])
    return Counts(("a", "b"), {"g": names}, table.sum(0), {"g": table})


def test_noise_is_held_at_the_level_of_each_difference():
    """Of one attribute and two classes each has a quarter of the error, though only three differences are asked."""
    counts, noise = tables(190, 150), Noise(4.0, 5.0)
    plain = {gap["class"]: gap for gap in findings(counts)["gaps"]}
    gap = next(each for each in findings_with_noise(findings(counts), counts, noise)["gaps"] if each["class"])
    assert gap["level"] == corrected(0.95, 4)
    spread = np.hypot(*(deviation(right / 200, 200, 1, 1, 4.0) for right in (190, 150)))
    before = plain[gap["class"]]
    sampled = before["difference"] - before["difference_interval"][0]
    expected = before["difference"] - np.hypot(sampled, critical(corrected(0.95, 4)) * spread)
    assert gap["difference_interval"][0] == pytest.approx(expected)


def test_what_cannot_be_ruled_out_holds_the_noise_of_every_group():
    """The third group is small and drowned: nothing is ruled out, though it is of no difference that is told."""
    table = tables(190, 100, 150).by_group["g"].copy()
    table[2] = [[6, 2], [2, 6]]
    counts = Counts(("a", "b"), {"g": ("f", "g", "h")}, table.sum(0), {"g": table})
    gap = next(each for each in findings(counts)["gaps"] if not each["class"])
    assert "h" not in (gap["group"], gap["against"])
    wide = findings_with_noise({**findings(counts), "gaps": [gap]}, counts, Noise(4.0, 5.0))["gaps"][0]
    assert wide["at_most"] == 1.0
    assert wide["difference_interval"][1] < 1


def test_noise_does_not_leave_what_is_unsure_in_front():
    """The surest difference, of ``small``, drowns in noise: that of ``large`` comes first then."""
    small = np.array([[[60, 0], [0, 60]], [[12, 48], [48, 12]], [[17100, 900], [900, 17100]]])
    large = np.array([[[8112, 948], [948, 8112]], [[9060, 0], [0, 9060]]])
    groups = {"small": ("x", "y", "z"), "large": ("m", "n")}
    counts = Counts(("a", "b"), groups, small.sum(0), {"small": small, "large": large})
    found = findings_with_noise(findings(counts), counts, Noise(14.0, 14.0))["gaps"]
    told = [gap["sure"] for gap in found]
    assert findings(counts)["gaps"][0]["attribute"] == "small"
    assert any(told)
    assert not all(told)
    assert told == sorted(told, reverse=True)
