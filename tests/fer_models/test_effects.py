"""Effective rows by hand, beside a bootstrap of persons, and in simulated test sets where persons are alike."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from fer_models.counts import Counts
from fer_models.effects import OVERALL, OVERALL_RATES, RATES, Effect, PersonCounts
from fer_models.errors import DataError
from fer_models.findings import findings
from fer_models.metrics import summarise
from fer_models.people import People, people_size
from fer_models.verdicts import Rule, judge


def counted(person, group, true, predicted, classes=2, chunk=7):
    """Counts with the sums over persons, added in chunks as a reader does."""
    groups = tuple("abcdef"[: int(group.max()) + 1])
    names = np.array(groups)[group]
    plain = Counts.of(true, predicted, tuple("uvwxyz"[:classes]), {"group": names}, {"group": groups})
    sums = {}
    for name, codes in ((OVERALL, np.zeros_like(group)), ("group", group)):
        persons = PersonCounts(100, classes)
        for start in range(0, len(person), chunk):
            part = slice(start, start + chunk)
            persons.add(person[part], codes[part], true[part], predicted[part])
        places = [0] if name == OVERALL else list(range(len(groups)))
        sums[name] = persons.sums(places, np.arange(classes), overall=name == OVERALL)
    return replace(plain, people=People(sums))


def clustered(rng, people, rows, spread=1.0, groups=2):
    """Each person has ``rows`` rows of class 0 and an own chance, around .7, to be told right."""
    chance = rng.beta(0.7 * spread, 0.3 * spread, people)
    person = np.repeat(np.arange(people), rows)
    wrong = (rng.random(people * rows) > chance[person]).astype(np.int64)
    return counted(person, person % groups, np.zeros_like(person), wrong, chunk=5000)


def test_effective_rows_by_hand():
    """Ten persons of ten rows, five always right: R = .5, variance 10/9 * 10 * 5^2 / 100^2 = 1/36, 9 rows, t of 9."""
    person, right = np.repeat(np.arange(10), 10), np.repeat([0, 1], 50)
    counts = counted(person, np.zeros_like(person), np.zeros_like(person), right)
    share = counts.effect().share("accuracy")
    assert share == pytest.approx(np.array([[9 / 100 * (1.959964 / 2.262157) ** 2]]), rel=1e-5)
    assert counts.effect().share("recall")[0, 0] == pytest.approx(share[0, 0])
    assert counts.effect("group").share("accuracy") == pytest.approx(share)
    assert counts.effect("other").share("accuracy").tolist() == [[1]]


def test_a_rate_without_variance_is_worth_a_row_a_person():
    person = np.repeat(np.arange(4), 25)
    counts = counted(person, np.zeros_like(person), np.zeros_like(person), np.zeros_like(person))
    assert counts.effect().share("accuracy").tolist() == [[0.04]]
    alone = counted(np.zeros(30, int), np.zeros(30, int), np.zeros(30, int), np.repeat([0, 1], 15))
    assert alone.effect().share("accuracy").tolist() == [[1 / 30]]


def test_in_a_design_that_is_the_same_for_everybody_all_rows_count():
    """Four persons who show the first class five times of 25 each: label rates do not differ, and are not 0 or 1."""
    person, true = np.repeat(np.arange(4), 25), np.tile(np.repeat([0, 1], [5, 20]), 4)
    shares = counted(person, np.zeros_like(person), true, true).effect("group")
    assert shares.share("label_rate").tolist() == [[1, 1]]
    assert shares.share("recall")[0] == pytest.approx([1 / 5, 1 / 20]), "always right: a row a person"


def test_rows_of_a_rate_of_which_nobody_has_two_are_independent():
    """Ten persons with one row of the first class each, and all but one with three of the second."""
    person, true = np.repeat(np.arange(10), 4), np.tile([0, 1, 1, 1], 10)
    guess = np.where((person % 2 == 0) & (true == 0), 1, true)
    guess[person < 3] = 0
    share = counted(person, np.zeros_like(person), true, guess).effect().share("recall")[0]
    assert share[0] == 1
    assert share[1] < 0.5


def test_the_variance_is_that_of_a_bootstrap_of_persons():
    rng, people, classes = np.random.default_rng(4), 60, 3
    tables = rng.poisson(rng.gamma(2.0, 1.0, (people, classes, classes)) + 2 * np.eye(classes))
    persons = PersonCounts(1, classes)
    who, true, guess = (np.repeat(index, tables.ravel()) for index in np.indices(tables.shape).reshape(3, -1))
    persons.add(who, np.zeros_like(who), true, guess)
    total = tables.sum(0)[None]
    effect = persons.sums([0], np.arange(classes), overall=True).effect(total)
    weight = rng.multinomial(people, np.full(people, 1 / people), 4000)
    drawn = np.einsum("dp,ptg->dtg", weight, tables).astype(float)
    for key in OVERALL_RATES:
        x, n = RATES[key](drawn)
        hits, rows = (each[0] for each in RATES[key](total))
        alike = rows**2 / (RATES[key](tables)[1] ** 2).sum(0)  # Kish's number of persons
        p, share = hits / rows, effect.share(key)[0]
        variance = p * (1 - p) / (share * rows) * (1.959964 / stdtrit(alike - 1, 0.975)) ** 2
        inside = share < 1
        assert inside.any()
        bootstrap = (x / n).var(0) * alike / (alike - 1)
        assert bootstrap[inside] == pytest.approx(variance[inside], rel=0.15), key
    recalls = np.corrcoef((lambda x, n: x / n)(*RATES["recall"](drawn)).T)
    assert effect.correlation["recall"] == pytest.approx(recalls, abs=0.1)


def intervals(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from intervals(value, (*path, key))
        elif isinstance(value, list) and len(value) == 2 and any("interval" in part for part in (*path, key)):
            yield (*path, key), value


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(2, 4))
def test_no_interval_becomes_narrower(seed, people, classes):
    rng = np.random.default_rng(seed)
    person = rng.integers(people, size=400)
    true, guess = rng.integers(classes, size=400), rng.integers(classes, size=400)
    guess = np.where(rng.random(400) < rng.random(people)[person], true, guess)
    counts = counted(person, person % 3, true, guess, classes, chunk=200)
    plain = Counts(counts.labels, counts.groups, counts.overall, counts.by_group)
    wide = dict(intervals(summarise(counts, fairlearn=False)))
    for path, (low, high) in intervals(summarise(plain, fairlearn=False)):
        assert wide[path][0] <= low + 1e-9, path
        assert wide[path][1] >= high - 1e-9, path


@pytest.mark.parametrize("people", [16, 60])
def test_intervals_over_people_cover_where_those_over_rows_do_not(people):
    rng = np.random.default_rng(1)
    held = {True: 0, False: 0}
    for _ in range(300):
        counts = clustered(rng, people, 20, spread=4.0)
        for over_people, each in ((True, counts), (False, Counts(counts.labels, {}, counts.overall))):
            low, high = summarise(each)["accuracy_interval"] if not each.groups else _accuracy(each)
            held[over_people] += low <= 0.7 <= high
    assert held[True] / 300 >= 0.93
    assert held[False] / 300 < 0.75


def _accuracy(counts):
    whole = Counts(counts.labels, {}, counts.overall, people=counts.people.overall)
    return summarise(whole)["accuracy_interval"]


def test_equal_groups_of_alike_persons_raise_no_alarm():
    rng, sure, failed, rows_sure = np.random.default_rng(2), 0, 0, 0
    for _ in range(200):
        counts = clustered(rng, 50, 20, spread=4.0)
        sure += any(gap["sure"] for gap in findings(counts)["gaps"])
        failed += judge(counts, [Rule("accuracy_gap", 0.0, "group")])[0].verdict == "fail"
        plain = Counts(counts.labels, counts.groups, counts.overall, counts.by_group)
        rows_sure += any(gap["sure"] for gap in findings(plain)["gaps"])
    assert sure / 200 <= 0.06
    assert failed / 200 <= 0.06
    assert rows_sure / 200 > 0.2


def test_verdicts_on_some_groups_keep_their_persons():
    counts = clustered(np.random.default_rng(3), 60, 20, spread=2.0, groups=3)
    plain = Counts(counts.labels, counts.groups, counts.overall, counts.by_group)
    for rule in (
        Rule("accuracy_gap", 0.1, "group", reference="a"),
        Rule("accuracy", 0.5, "group", groups=("b",)),
        Rule("accuracy", 0.5),
    ):
        for wide, narrow in zip(judge(counts, [rule]), judge(plain, [rule]), strict=True):
            assert wide.interval is not None
            assert narrow.interval is not None
            assert wide.interval[1] - wide.interval[0] > 1.5 * (narrow.interval[1] - narrow.interval[0])


def test_the_effect_of_nobody_is_none():
    assert Effect().limits("recall", np.array([3, 0]), np.array([10, 0]), 0.95)[1].tolist() == [0, 1]


def test_sums_of_two_sites_give_the_intervals_of_all_their_people_in_one_place():
    """What a federated audit rests on: no site sees the rates of all, and yet the variance around them is exact."""
    rng = np.random.default_rng(7)
    person = np.sort(rng.integers(50, size=900))
    true, group = rng.integers(3, size=900), person % 2
    guess = np.where(rng.random(900) < rng.random(50)[person], true, rng.integers(3, size=900))
    whole = counted(person, group, true, guess, classes=3, chunk=100)
    sites = [
        counted(person[at], group[at], true[at], guess[at], classes=3, chunk=100)
        for at in (person < 20, person >= 20)
    ]
    vector = sum(site.people.to_vector() for site in sites)
    assert len(vector) == people_size(whole.labels, whole.groups)
    found = replace(sites[0] + sites[1], people=People.from_vector(vector, whole.labels, whole.groups))
    assert summarise(found) == summarise(whole) != summarise(replace(whole, people=None))
    assert summarise(Counts.from_json((sites[0] + sites[1]).to_json())) == summarise(whole)
    assert (sites[0] + replace(sites[1], people=None)).people is None
    by_hand = [(true == c).sum() for c in range(3)]
    rates = [(guess[true == c] == c).mean() for c in range(3)]
    for c in range(3):
        own = [((true == c) & (guess == c) & (person == i)).sum() for i in range(50)]
        rows = [((true == c) & (person == i)).sum() for i in range(50)]
        apart = np.array(own) - rates[c] * np.array(rows)
        alike = by_hand[c] ** 2 / (np.array(rows) ** 2).sum()
        spread = (apart**2).sum() / by_hand[c] ** 2 * alike / (alike - 1)
        effective = rates[c] * (1 - rates[c]) / spread * (1.959964 / stdtrit(alike - 1, 0.975)) ** 2
        assert found.effect().share("recall")[0, c] == pytest.approx(min(1, effective / by_hand[c]), rel=1e-6)


@pytest.mark.parametrize("spoil", [lambda v: v[:-1], lambda v: np.where(np.arange(len(v)) == 3, -1, v)])
def test_no_other_vector_is_taken_for_sums_over_people(spoil):
    vector = People.zero("uvw", {"group": ("a", "b")}).to_vector()
    with pytest.raises(DataError, match="no sums over people"):
        People.from_vector(spoil(vector), "uvw", {"group": ("a", "b")})
