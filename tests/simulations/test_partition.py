from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.errors import DataError, PartitionError, RunFolderError
from fer_models.samples import Samples
from simulations.dealing import cut, deal, fit, keep_minimum
from simulations.partition import KINDS, Partition, PartitionSpec, partition, values_of
from simulations.partition_picture import COLOURS, partition_picture


def table_of(
    count: int, seed: int = 0, person: int = 0, classes: int = 4, test: float = 0.25, **columns: Any
) -> Samples:
    """Rows with random labels and groups; ``person`` rows a person, 0 when persons are not known."""
    rng = np.random.default_rng(seed)
    unit = np.arange(count) // max(1, person)
    held = rng.random(unit[-1] + 1) < test
    held[:classes] = False
    label = rng.integers(0, classes, count)
    label[:classes] = np.arange(classes)
    groups = {"gender": np.array(["woman", "man", "undisclosed"])[rng.integers(0, 3, unit[-1] + 1)][unit]}
    fields: dict[str, Any] = {
        "pictures": np.zeros((count, 1, 1), np.uint8),
        "label": label.astype(np.int16),
        "labels": ("neutral", "happiness", "surprise", "sadness", "anger")[:classes],
        "source": np.array([f"place-{i % 3}/{i}.png" for i in unit]),
        "split": np.where(held[unit], "test", "train"),
        "subject": np.array([f"p{i}" for i in unit]) if person else None,
        "groups": groups,
    }
    return Samples(**{**fields, **columns})


def held(part: Partition, samples: Samples, split: str = "train") -> np.ndarray:
    return part.table(samples, "label", split).sum(1)


specs = st.builds(
    PartitionSpec,
    kind=st.sampled_from(KINDS),
    sites=st.integers(1, 6),
    alpha=st.floats(0.05, 50),
    attribute=st.just("gender"),
    purity=st.floats(0, 1),
    minimum=st.integers(1, 12),
)


@given(spec=specs, seed=st.integers(0, 1000), person=st.sampled_from([0, 1, 3]))
@settings(deadline=None, max_examples=30)
def test_a_partition_is_complete_disjoint_whole_and_kept_to_its_minimum(
    spec: PartitionSpec, seed: int, person: int
) -> None:
    samples = table_of(240, seed, person)
    try:
        part = partition(samples, spec, seed=seed)
    except PartitionError as error:
        assert error.cure
        assert spec.kind in ("group", "column")
        return
    rows = [part.rows(site, samples, split) for site in range(spec.sites) for split in ("train", "test")]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(240))
    assert held(part, samples).min() >= spec.minimum
    if samples.subject is not None:
        for name in set(samples.subject):
            assert len(set(part.site[samples.subject == name])) == 1
    assert np.array_equal(part.site, partition(samples, spec, seed=seed).site)


def test_another_seed_divides_otherwise() -> None:
    samples = table_of(200)
    first, second = (partition(samples, PartitionSpec(sites=4), seed=seed).site for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_iid_sites_are_equal() -> None:
    samples = table_of(1003)
    part = partition(samples, PartitionSpec("iid", sites=10), seed=0)
    for split in ("train", "test"):
        sizes = held(part, samples, split)
        assert sizes.max() - sizes.min() <= 1
    shares = part.table(samples, "label", "train") / held(part, samples)[:, None]
    assert shares.std(0).max() < 0.08


def test_label_skew_follows_alpha_and_tests_what_it_trains() -> None:
    samples = table_of(4000, test=0.5)
    spread = {}
    for alpha in (0.1, 1.0, 1000.0):
        part = partition(samples, PartitionSpec("label", sites=5, alpha=alpha), seed=2)
        train, test = (part.table(samples, "label", split) for split in ("train", "test"))
        spread[alpha] = (train / train.sum(0)).std(0).mean()
        assert np.abs(train / train.sum(0) - test / test.sum(0)).max() < 0.01
    assert spread[0.1] > 1.5 * spread[1.0] > 15 * spread[1000.0]


def test_label_skew_of_whole_persons_is_still_skew() -> None:
    samples = table_of(4000, person=4, test=0.5)
    part = partition(samples, PartitionSpec("label", sites=5, alpha=0.3), seed=0)
    train, test = (part.table(samples, "label", split) for split in ("train", "test"))
    even = partition(samples, PartitionSpec("iid", sites=5), seed=0).table(samples, "label", "train")
    shares, level = train / train.sum(1, keepdims=True), even / even.sum(1, keepdims=True)
    assert shares.std(0).mean() > 3 * level.std(0).mean()
    assert np.abs(train / train.sum(0) - test / test.sum(0)).max() < 0.06


def test_quantity_skew_changes_sizes_and_not_classes() -> None:
    samples = table_of(4000, test=0.5)
    part = partition(samples, PartitionSpec("quantity", sites=5, alpha=0.5, minimum=50), seed=0)
    train, test = held(part, samples), held(part, samples, "test")
    assert train.max() > 4 * train.min()
    assert np.abs(train / train.sum() - test / test.sum()).max() < 0.01
    assert (part.table(samples, "label", "train") / train[:, None]).std(0).max() < 0.08


def test_group_skew_with_sites_of_one_group() -> None:
    samples = table_of(900, person=3)
    part = partition(samples, PartitionSpec("group", sites=7, attribute="gender"), seed=0)
    table = part.table(samples, "gender")
    assert ((table > 0).sum(1) == 1).all()
    assert (table > 0).sum(0).tolist() in ([2, 2, 3], [2, 3, 2], [3, 2, 2])


def test_mixed_sites_stand_beside_sites_of_one_group() -> None:
    samples = table_of(3000)
    spec = PartitionSpec("group", sites=8, attribute="gender", mixed=4)
    table = partition(samples, spec, seed=0).table(samples, "gender", "train")
    homes, mixed = table[:4], table[4:]
    assert ((homes > 0).sum(1) == 1).all()
    assert (homes.sum(0) > 0).all()
    assert mixed / table.sum(0) == pytest.approx(np.full((4, 3), 1 / 8), abs=0.005)
    assert homes.sum(0) / table.sum(0) == pytest.approx([0.5] * 3, abs=0.01)


def test_purity_is_the_share_of_a_group_at_its_own_sites() -> None:
    samples = table_of(3000)
    part = partition(samples, PartitionSpec("group", sites=3, attribute="gender", purity=0.7), seed=0)
    table = part.table(samples, "gender", "train")
    own = table.max(0) / table.sum(0)
    assert own == pytest.approx([0.8, 0.8, 0.8], abs=0.01)  # 0.7 and a third of the rest
    mixed = partition(samples, PartitionSpec("group", sites=3, attribute="gender", purity=0), seed=0)
    table = mixed.table(samples, "gender", "train")
    assert (table.max(0) - table.min(0)).max() <= 1


def test_a_column_decides() -> None:
    samples = table_of(600)
    part = partition(samples, PartitionSpec("column", sites=3, attribute="source"), seed=0)
    places = np.array([source.split("/")[0] for source in samples.source])
    assert all(len(set(part.site[places == place])) == 1 for place in set(places))
    packed = partition(samples, PartitionSpec("column", sites=2, attribute="gender"), seed=0)
    assert sorted((packed.table(samples, "gender") > 0).sum(1).tolist()) == [1, 2]
    people = table_of(600, person=5)
    clusters = partition(people, PartitionSpec("column", sites=4, attribute="subject"), seed=0)
    sizes = held(clusters, people)
    assert sizes.max() - sizes.min() <= 10


def test_units_stay_together_and_follow_their_training_rows() -> None:
    samples = table_of(120)
    units = np.arange(120) // 2 * 7
    for kind in ("iid", "label", "quantity"):
        part = partition(samples, PartitionSpec(kind, sites=4, minimum=5), seed=1, units=units)
        assert np.array_equal(part.site[::2], part.site[1::2])
        assert held(part, samples).min() >= 5


def test_many_small_sites() -> None:
    samples = table_of(24_000, test=0.2)
    for kind in ("iid", "label", "quantity"):
        part = partition(samples, PartitionSpec(kind, sites=1000), seed=0)
        assert held(part, samples).min() >= 10


def test_a_class_only_the_test_part_lacks_does_no_harm() -> None:
    samples = table_of(200)
    samples = samples.take(np.flatnonzero((samples.label != 1) | (samples.split == "train")))
    assert len(partition(samples, PartitionSpec(sites=3), seed=0).site) == len(samples)


def test_cut_in_hand_checked_shares() -> None:
    rng = np.random.default_rng(0)
    sizes = np.ones(10, np.int64)
    assert np.bincount(cut(sizes, np.array([0.5, 0.0, 0.3, 0.2]), rng)).tolist() == [5, 0, 3, 2]
    assert np.bincount(cut(sizes, np.zeros(5), rng)).tolist() == [2, 2, 2, 2, 2]
    whole = cut(np.array([6, 1, 1, 1, 1]), np.array([0.6, 0.4]), np.random.default_rng(1))
    assert abs(np.bincount(whole, [6, 1, 1, 1, 1]) - (6, 4)).max() < 6


def test_fit_gives_a_unit_to_the_site_that_lacks_it() -> None:
    strata = np.array([[3, 1], [1, 2]])
    need = np.array([[0.0, 4.0], [3.0, 0.0]])
    site, left = fit(strata, need, np.random.default_rng(0))
    assert site.tolist() == [1, 0]
    assert left.tolist() == [[-1.0, 1.0], [1.0, -1.0]]


def test_deal_of_pure_strata_is_exact() -> None:
    strata = np.repeat(np.eye(2, dtype=np.int64), 4, 0)
    site = deal(strata, np.array([[1.0, 3.0], [1.0, 1.0]]), np.random.default_rng(0))
    assert [np.bincount(site[:4], minlength=2).tolist(), np.bincount(site[4:]).tolist()] == [[1, 3], [2, 2]]


def test_the_minimum_is_taken_from_the_largest_site_and_from_like_units() -> None:
    strata = np.eye(2, dtype=np.int64)[[0, 0, 0, 1, 1, 1, 0, 1, 1, 0]]
    site = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    moved = keep_minimum(site, strata, np.zeros(3, np.intp), 3, np.random.default_rng(0), "none")
    assert np.bincount(moved).tolist() == [4, 3, 3]
    assert np.flatnonzero(moved != site).tolist() != []
    assert set(np.flatnonzero(moved != site)) < {0, 1, 2}  # site 2 holds stratum 0 and gets more of it
    with pytest.raises(PartitionError, match=r"site 2 has 1 training rows .* ask less"):
        keep_minimum(site, strata, np.arange(3), 3, np.random.default_rng(0), "ask less")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"kind": "random"}, "unknown kind 'random' (partition.kind). Use one of iid, label"),
        ({"sites": 0}, "0 sites (partition.sites). Ask for one site or more"),
        ({"alpha": 0.0}, "alpha is 0.0 (partition.alpha). Use a number above 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"purity": 1.2}, "purity is 1.2"),
        ({"minimum": 0}, "minimum is 0"),
        ({"mixed": 2}, "2 mixed sites of 2 (partition.mixed)"),
        ({"mixed": -1}, "-1 mixed sites"),
        ({"sites": 60, "minimum": 10}, "cannot give 60 sites 10 each (partition.sites). Ask for at most 1"),
        (
            {"kind": "group", "attribute": "eyes"},
            "unknown column 'eyes' (partition.attribute). Use one of gender",
        ),
        ({"kind": "column", "attribute": "eyes"}, "Use one of gender, source, subject"),
        ({"kind": "column", "attribute": "subject"}, "do not say who is on a picture"),
        ({"kind": "column", "attribute": "gender", "sites": 4}, "3 values for 4 sites (partition.sites)"),
        ({"kind": "group", "attribute": "gender", "sites": 2}, "Ask for 3 sites or more"),
        ({"kind": "group", "attribute": "gender", "sites": 6, "mixed": 4}, "Ask for 7 sites or more"),
        ({"kind": "column", "attribute": "gender", "sites": 2, "minimum": 70}, "smaller minimum"),
    ],
)
def test_requests_that_cannot_be_met_name_the_cure(facts: dict[str, Any], words: str) -> None:
    samples = table_of(200)
    with pytest.raises(PartitionError) as error:
        partition(samples, PartitionSpec(**{"sites": 2, **facts}), seed=0)
    assert words in str(error.value)
    assert error.value.exit_code == 4


def test_a_class_nobody_has_is_refused() -> None:
    samples = table_of(50)
    samples = replace(samples, split=np.where(samples.label == 2, "test", samples.split))
    with pytest.raises(PartitionError, match="no training row of class surprise"):
        partition(samples, PartitionSpec(sites=2), seed=0)


def test_units_too_large_to_move_are_refused_with_the_cure() -> None:
    samples = table_of(40, person=20, test=0.0)
    with pytest.raises(PartitionError, match="fewer sites, a larger alpha or a smaller minimum"):
        partition(samples, PartitionSpec("label", sites=3, minimum=10), seed=0)


def test_tables() -> None:
    samples = table_of(6, classes=2, label=np.array([0, 1, 0, 1, 1, 1], np.int16), split=np.full(6, "train"))
    samples = replace(samples, groups={"age": np.array(["old", "young", "old", "old", "young", "young"])})
    part = Partition(np.array([0, 0, 1, 1, 1, 0], np.int32), 3)
    assert part.table(samples).tolist() == [[1, 2], [1, 2], [0, 0]]
    assert part.table(samples, "age").tolist() == [[1, 2], [2, 1], [0, 0]]
    assert part.table(samples, "label", "test").sum() == 0
    assert part.rows(0, samples, "train").tolist() == [0, 1, 5]
    assert values_of(samples, "age")[0] == ("old", "young")
    with pytest.raises(PartitionError, match="unknown column 'eyes'"):
        part.table(samples, "eyes")
    with pytest.raises(PartitionError, match="a row has no site"):
        Partition(np.array([0, -1], np.int32), 2)


def test_save_and_load(tmp_path: Path) -> None:
    part = partition(table_of(100), PartitionSpec(sites=3), seed=0)
    part.save(tmp_path / "partition")
    again = Partition.load(tmp_path / "partition")
    assert np.array_equal(again.site, part.site)
    assert again.site.dtype == np.int32
    assert again.sites == 3


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    partition(table_of(100), PartitionSpec(sites=3), seed=0).save(tmp_path / "partition")
    facts = tmp_path / "partition" / "partition.json"
    for text in ("{", "{}", '{"sites": 2, "rows": 100}', '{"sites": 3, "rows": 99}'):
        facts.write_text(text)
        with pytest.raises(DataError, match="no saved partition"):
            Partition.load(tmp_path / "partition")
    with pytest.raises(DataError, match="Divide the samples again"):
        Partition.load(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="cannot write the partition"):
        partition(table_of(100), PartitionSpec(sites=3), seed=0).save(facts)


def test_the_picture_shows_every_row(tmp_path: Path) -> None:
    samples = table_of(300)
    part = partition(samples, PartitionSpec(sites=4), seed=0)
    figure = partition_picture(part, samples)
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 300  # type: ignore[attr-defined]
    assert len(bars) == 4 * len(samples.labels)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == list(samples.labels)[::-1]
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 2000


def test_many_sites_become_one_area() -> None:
    samples = table_of(1200)
    part = partition(samples, PartitionSpec("iid", sites=60), seed=0)
    axes = partition_picture(part, samples, by="gender", split="train").axes[0]
    tops = np.array([patch.get_data().values for patch in axes.patches])  # type: ignore[attr-defined]
    assert tops.shape == (3, 60)
    assert tops[-1].sum() == np.count_nonzero(samples.split == "train")
    assert axes.get_ylabel() == "train rows"


def test_more_values_than_named_colours() -> None:
    samples = table_of(200)
    groups = {"town": np.array([f"town-{i % 12:02d}" for i in range(200)])}
    part = partition(samples, PartitionSpec("iid", sites=2), seed=0)
    axes = partition_picture(part, replace(samples, groups=groups), by="town").axes[0]
    colours = {bar.get_facecolor() for bar in axes.patches}
    assert len(colours) == 12 > len(COLOURS)
