import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models.errors import ConfigError
from fer_models.labels import EXPRESSIONS, SEVEN
from simulations.faces import ATTRIBUTES, FacesConfig, draw, draw_with_truth
from simulations.faces.config import shares
from simulations.faces.people import normal, people
from simulations.faces.rendering import render
from simulations.faces.shots import COLUMNS, shots
from simulations.faces.units import DRAWS, EXPRESSION_UNITS, UNITS, contractions, expression_table

SEED = 3


def drawn(*units: str, faces: int = 16) -> np.ndarray:
    """The same persons in the same shots, with only the given units contracted."""
    config = FacesConfig(count=faces, noise=0, occlusion=0)
    rng = np.random.default_rng(0)
    who = people(config, SEED, faces)
    contracted = np.array([[unit in units for unit in UNITS]] * faces, np.float32)
    taken = shots(config, who, rng.random((faces, COLUMNS), np.float32))
    return render(who, taken, contracted, 48, 1, rng).astype(np.float32)


def test_samples_hold_what_they_promise() -> None:
    samples, truth = draw_with_truth(FacesConfig(count=37), SEED)
    assert samples.pictures.shape == (37, 48, 48)
    assert samples.labels == SEVEN
    assert set(samples.split) == {"train"}
    assert samples.subject is not None
    assert np.unique(samples.subject, return_counts=True)[1].tolist() == [5] * 7 + [2]
    assert len(set(samples.source)) == 37
    assert {name: set(column) <= set(ATTRIBUTES[name]) for name, column in samples.groups.items()} == {
        "gender": True,
        "age": True,
        "skin_tone": True,
    }
    for column in samples.groups.values():
        assert all(len(set(column[samples.subject == person])) == 1 for person in samples.subject)
    assert truth.label.shape == truth.intensity.shape == (37,)
    assert truth.units.shape == (37, len(UNITS))
    assert (truth.intensity[truth.label == SEVEN.index("neutral")] == 0).all()


@pytest.mark.parametrize(("size", "channels", "shape"), [(32, 1, (3, 32, 32)), (224, 3, (3, 224, 224, 3))])
def test_sizes_and_channels(size: int, channels: int, shape: tuple[int, ...]) -> None:
    samples = draw(FacesConfig(count=3, size=size, channels=channels), SEED)
    assert samples.pictures.shape == shape
    assert samples.pictures.std() > 20


def test_the_same_seed_gives_the_same_bits_and_more_faces_begin_alike() -> None:
    long, truth = draw_with_truth(FacesConfig(count=300), SEED)
    for count in (20, 270):
        short, short_truth = draw_with_truth(FacesConfig(count=count), SEED)
        assert np.array_equal(short.pictures, long.pictures[:count])
        assert np.array_equal(short.label, long.label[:count])
        assert np.array_equal(short_truth.units, truth.units[:count])
        assert all(np.array_equal(short.groups[name], long.groups[name][:count]) for name in ATTRIBUTES)
    assert not np.array_equal(draw(FacesConfig(count=20), SEED + 1).pictures, long.pictures[:20])


def test_no_two_faces_are_alike() -> None:
    pictures = draw(FacesConfig(count=300), SEED).pictures
    assert len({picture.tobytes() for picture in pictures}) == 300


def test_gray_is_the_luma_of_colour() -> None:
    gray = draw(FacesConfig(count=20, noise=0), SEED).pictures.astype(float)
    colour = draw(FacesConfig(count=20, noise=0, channels=3), SEED).pictures @ (0.299, 0.587, 0.114)
    assert np.quantile(np.abs(gray - colour), 0.95) <= 2


def test_classes_follow_their_shares() -> None:
    label = draw_with_truth(FacesConfig(count=1792, size=32, label_noise=0), SEED)[0].label
    assert np.abs(np.bincount(label) - 256).max() <= 8
    skewed = FacesConfig(count=2048, size=32, class_shares={"disgust": 0.02, "happiness": 0.4}, label_noise=0)
    counts = np.bincount(draw(skewed, SEED).label, minlength=7) / 2048
    expected = [0.116, 0.4, 0.116, 0.116, 0.116, 0.02, 0.116]
    assert np.abs(counts - expected).max() < 0.01


def test_group_shares() -> None:
    config = FacesConfig(count=600, size=32, pictures_per_person=1, group_shares={"skin_tone": {"dark": 0.1}})
    groups = draw(config, SEED).groups
    assert np.mean(groups["skin_tone"] == "dark") == pytest.approx(0.1, abs=0.04)
    assert np.mean(groups["skin_tone"] == "light") == pytest.approx(0.45, abs=0.07)
    assert np.mean(groups["gender"] == "man") == pytest.approx(0.5, abs=0.07)


def test_label_noise_by_group_leaves_the_pictures_alone() -> None:
    clean, _ = draw_with_truth(FacesConfig(count=600, size=32, label_noise=0), SEED)
    config = FacesConfig(count=600, size=32, label_noise=0, label_noise_by={"gender=woman": 0.4})
    samples, truth = draw_with_truth(config, SEED)
    wrong = samples.label != truth.label
    woman = samples.groups["gender"] == "woman"
    assert np.array_equal(samples.pictures, clean.pictures)
    assert np.array_equal(truth.label, clean.label)
    assert not wrong[~woman].any()
    assert wrong[woman].mean() == pytest.approx(0.4, abs=0.09)
    always, told = draw_with_truth(FacesConfig(count=50, size=32, label_noise=1), SEED)
    assert (always.label != told.label).all()


def test_of_several_groups_the_last_named_holds() -> None:
    by = {"gender=man": 1.0, "age=old": 0.0}
    samples, truth = draw_with_truth(FacesConfig(count=300, size=32, label_noise_by=by, label_noise=0), SEED)
    wrong = samples.label != truth.label
    old, man = samples.groups["age"] == "old", samples.groups["gender"] == "man"
    assert not wrong[old].any()
    assert wrong[man & ~old].all()


def test_a_camera_below_moves_the_faces_of_a_group_up_and_nobody_else_s() -> None:
    plain = draw(FacesConfig(count=120, noise=0), SEED)
    below = draw(FacesConfig(count=120, noise=0, pitch_by={"gender=man": 30}), SEED)
    above = draw(FacesConfig(count=120, noise=0, pitch_by={"gender=man": -30}), SEED)
    man = plain.groups["gender"] == "man"
    for each in (below, above):
        assert np.array_equal(each.label, plain.label)
        assert (each.pictures[~man] != plain.pictures[~man]).mean() < 0.01  # where a chunk's shapes are cut
        assert (each.pictures[man] != plain.pictures[man]).any((1, 2)).all()

    def shift(pictures: np.ndarray) -> float:
        """By how many rows the mean face would have to move to look most like the plain one."""
        mean = [each[man][:, :, 12:36].astype(float).mean(0) for each in (plain.pictures, pictures)]
        rows = range(-12, 13)
        errors = [np.abs(np.roll(mean[1], row, 0)[12:-12] - mean[0][12:-12]).mean() for row in rows]
        return float(rows[int(np.argmin(errors))])

    assert shift(below.pictures) > 0  # it lies higher, and would have to come down
    assert shift(above.pictures) < 0


def test_intensity_by_group() -> None:
    config = FacesConfig(count=900, size=32, intensity=0.6, spread=0.2, intensity_by={"age=old": 0.3})
    samples, truth = draw_with_truth(config, SEED)
    shown, old = truth.label != 0, samples.groups["age"] == "old"
    assert truth.intensity[shown & old].mean() == pytest.approx(0.3, abs=0.02)
    assert truth.intensity[shown & ~old].mean() == pytest.approx(0.6, abs=0.02)
    assert truth.intensity[shown & ~old].std() == pytest.approx(0.12, abs=0.02)


def test_units_are_those_of_the_expression() -> None:
    config = FacesConfig(count=200, size=32, labels=EXPRESSIONS, crosstalk=0)
    truth = draw_with_truth(config, SEED)[1]
    for index, name in enumerate(EXPRESSIONS):
        if name == "contempt":
            continue
        rows = truth.units[truth.label == index] > 0
        assert (rows == [unit in EXPRESSION_UNITS[name] for unit in UNITS]).all(), name
    contempt = truth.units[truth.label == EXPRESSIONS.index("contempt")]
    left, right = contempt[:, UNITS.index("12L")] > 0, contempt[:, UNITS.index("12R")] > 0
    assert (left ^ right).all()
    assert left.any()
    assert right.any()
    flat = draw_with_truth(FacesConfig(count=50, size=32, crosstalk=0, intensity=0), SEED)[1]
    assert not flat.units.any()


@given(
    intensity=st.floats(0, 1, width=32),
    crosstalk=st.floats(0, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_contractions_stay_in_range(intensity: float, crosstalk: float, seed: int) -> None:
    draws = np.random.default_rng(seed).random((8, DRAWS), np.float32)
    expression = expression_table(EXPRESSIONS)
    amount = contractions(expression, np.full(8, intensity, np.float32), crosstalk, draws)
    assert amount.dtype == np.float32
    assert amount.min() >= 0
    assert amount.max() <= 1


@pytest.mark.parametrize(
    ("units", "upper"),
    [
        (("1", "2"), True),
        (("4",), True),
        (("5",), True),
        (("12L", "12R"), False),
        (("15",), False),
        (("26",), False),
    ],
)
def test_units_move_their_part_of_the_face(units: tuple[str, ...], upper: bool) -> None:
    change = np.abs(drawn(*units) - drawn()).mean((0, 2))
    top, bottom = change[:24].sum(), change[24:].sum()
    assert (top > 3 * bottom) if upper else (bottom > 3 * top)


def test_one_sided_units_move_one_side() -> None:
    change = np.abs(drawn("12R", "14R") - drawn()).mean((0, 1))
    assert change[24:].sum() > 1.5 * change[:24].sum()


def test_a_dropped_jaw_opens_a_dark_mouth() -> None:
    assert drawn("26")[:, 33:40, 20:28].mean() < 0.7 * drawn()[:, 33:40, 20:28].mean()


def test_occlusion_and_noise_can_be_switched_off() -> None:
    still = FacesConfig(count=40, pose=0, light=0, noise=0, occlusion=0, crosstalk=0, intensity=0)
    calm = draw(still, SEED)
    assert calm.subject is not None
    first = calm.pictures[calm.subject == "person-0"].astype(float)
    face = first[:, 12:40, 14:34]
    assert np.abs(face - face[0]).max() <= 40  # a person looks the same but for the share of ambient light
    lively = draw(FacesConfig(count=40), SEED).pictures[:5].astype(float)[:, 12:40, 14:34]
    assert np.abs(lively - lively[0]).mean() > 2 * np.abs(face - face[0]).mean()


def test_expressions_can_be_learned_across_persons() -> None:
    samples, truth = draw_with_truth(FacesConfig(count=1500), SEED)
    small = samples.pictures.reshape(-1, 24, 2, 24, 2).mean((2, 4)).reshape(1500, -1) / 255
    small -= small.mean(1, keepdims=True)
    x, y = small[:1200], np.eye(7)[truth.label[:1200]]
    weights = np.linalg.solve(x.T @ x + 3 * np.eye(x.shape[1]), x.T @ (y - 1 / 7))
    accuracy = np.mean((small[1200:] @ weights).argmax(1) == truth.label[1200:])
    assert 0.4 < accuracy < 0.9


def test_bell_shaped_numbers() -> None:
    values = normal((np.arange(10_000, dtype=np.float32) + 0.5) / 10_000)
    assert values.mean() == pytest.approx(0, abs=1e-3)
    assert values.std() == pytest.approx(1, abs=0.01)
    assert np.abs(values).max() < 2.42


@given(st.dictionaries(st.sampled_from(SEVEN), st.floats(0, 0.14), max_size=6))
@settings(deadline=None, max_examples=30)
def test_shares_keep_what_is_named(named: dict[str, float]) -> None:
    table = shares(SEVEN, named, "class_shares")
    assert table.sum() == pytest.approx(1)
    assert all(table[SEVEN.index(name)] == pytest.approx(share) for name, share in named.items())


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ({"count": 0}, "count is 0"),
        ({"size": 31}, "from 32 to 224"),
        ({"channels": 2}, "1 for gray or 3 for colour"),
        ({"labels": ("neutral", "joy")}, "labels are"),
        ({"labels": ("neutral",)}, "at least two"),
        ({"class_shares": {"contempt": 0.1}}, "unknown value 'contempt'"),
        ({"class_shares": {"fear": 0.9, "anger": 0.2}}, "sum of at most 1"),
        ({"class_shares": {"fear": -0.1}}, "0 or more"),
        ({"class_shares": dict.fromkeys(SEVEN, 0.0)}, "do not divide"),
        ({"group_shares": {"eyes": {"blue": 1.0}}}, "unknown attribute 'eyes'"),
        ({"group_shares": {"age": {"young": 2.0}}}, "faces.group_shares.age"),
        ({"label_noise": 1.5}, "label_noise is 1.5"),
        ({"label_noise": float("nan")}, "label_noise is nan"),
        ({"label_noise_by": {"gender": 0.2}}, "Write gender= and one of woman, man"),
        ({"intensity_by": {"height=tall": 0.2}}, "unknown attribute 'height'"),
        ({"intensity_by": {"age=old": 2}}, "intensity_by[age=old] is 2"),
        ({"pitch_by": {"age=old": 61}}, "pitch_by[age=old] is 61"),
        ({"pose": -1}, "pose is -1"),
        ({"pictures_per_person": 0}, "pictures_per_person is 0"),
    ],
)
def test_wrong_knobs_name_the_cure(knob: dict, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        FacesConfig(**knob)
    assert words in str(error.value)
    assert error.value.cure
