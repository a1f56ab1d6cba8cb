"""Several sets as one table: classes, people, groups and splits of sets that know different things."""

import numpy as np
import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.labels import UNDISCLOSED
from fer_models.readers import read
from fer_models.readers.many import NOT_COMMON, SET
from fer_models.samples import UNKNOWN_CLASS
from simulations.partition import PartitionSpec, partition


@pytest.fixture
def folders(draw):
    """JAFFE with seven classes, FACES with six and groups, a class-folder tree with contempt and its own test part."""
    codes = ("AN", "DI", "FE", "HA", "NE", "SA", "SU")
    draw(
        *(f"jaffe/{person}.{code}1.{n}.tiff" for person in ("KA", "NA", "YM") for n, code in enumerate(codes))
    )
    draw(*(f"faces/{n:03}_{age}_f_{e}_a.jpg" for n, age in enumerate("ymo") for e in "adfhns"))
    return draw(
        "tree/train/contempt/1.png", "tree/train/happy/2.png", "tree/train/sad/3.png", "tree/test/happy/4.png"
    )


SETS = [{"reader": "jaffe", "root": "jaffe"}, {"reader": "faces_mpi", "root": "faces"}]
TREE = {"reader": "classfolders", "root": "tree", "name": "tree"}


def test_common_classes(folders):
    samples = read("many", folders, sets=SETS, test=0.4, classes="common")
    assert samples.known is None
    assert samples.labels == ("neutral", "happiness", "sadness", "anger", "disgust", "fear")
    assert samples.skipped == {f"jaffe: {NOT_COMMON}": 3}
    assert np.unique(samples.groups[SET], return_counts=True)[1].tolist() == [18, 18]
    assert samples.name == "jaffe and faces_mpi"


def test_every_set_has_a_test_part_of_whole_people(folders):
    samples = read("many", folders, sets=SETS, test=0.4)
    for name in ("jaffe", "faces_mpi"):
        own = samples.groups[SET] == name
        parts = [set(samples.subject[own & (samples.split == split)]) for split in ("train", "test")]
        assert all(parts)
        assert not parts[0] & parts[1]
    again = read("many", folders, sets=SETS, test=0.4)
    assert again.split.tolist() == samples.split.tolist()


def test_official_parts_and_unknown_people_stay(folders):
    samples = read("many", folders, sets=[*SETS, TREE], test=0.4, classes="all")
    own = samples.groups[SET] == "tree"
    assert samples.split[own].tolist() == ["test", "train", "train", "train"]
    assert len(set(samples.subject[own])) == 4, "nobody is known to be somebody else"
    assert (samples.subject_is, samples.people) == ("unit", None), "pictures of unknown people are no people"
    assert read("many", folders, sets=SETS, test=0.4).people is not None
    assert samples.labels == (
        "neutral",
        "happiness",
        "surprise",
        "sadness",
        "anger",
        "disgust",
        "fear",
        "contempt",
    )
    contempt = samples.label == samples.labels.index("contempt")
    assert samples.source[contempt].tolist() == ["tree/train/contempt/1.png"]


def test_what_a_set_does_not_tell_is_undisclosed(folders):
    samples = read("many", folders, sets=[*SETS, TREE], test=0.4)
    by_set = {name: samples.groups[SET] == name for name in ("jaffe", "faces_mpi", "tree")}
    assert set(samples.groups["ethnicity"][by_set["jaffe"]]) == {"asian"}
    assert set(samples.groups["ethnicity"][by_set["faces_mpi"]]) == {UNDISCLOSED}
    assert set(samples.groups["age"][by_set["faces_mpi"]]) == {"young", "middle-aged", "old"}
    assert set(samples.groups["gender"][by_set["tree"]]) == {UNDISCLOSED}


def test_what_a_set_does_not_know_is_no_target(folders):
    samples = read("many", folders, sets=[SETS[1], TREE], test=0.4)
    assert samples.labels == ("neutral", "happiness", "sadness", "anger", "disgust", "fear", "contempt")
    targets = samples.targets(np.arange(len(samples)))
    tree = samples.groups[SET] == "tree"
    assert (targets[~tree, 6] == UNKNOWN_CLASS).all()
    assert (targets[~tree, :6].sum(1) == 1).all()
    assert (targets[tree][:, [0, 3, 4, 5]] == UNKNOWN_CLASS).all()
    assert targets[tree][samples.split[tree] == "test"].tolist() == [[-1, 1, 0, -1, -1, -1, 0]]
    told = read("many", folders, sets=[SETS[1], {**TREE, "options": {"labels": samples.labels}}], test=0.4)
    assert told.known[told.groups[SET] == "tree"].all(), "labels say what annotators could choose"


def test_rows_keep_their_pictures_and_classes(folders):
    samples = read("many", folders, sets=SETS, size=16, test=0.4)
    alone = read("faces_mpi", folders / "faces", size=16)
    for source, picture, label in zip(alone.source, alone.pictures, alone.label, strict=True):
        row = samples.source.tolist().index(f"faces_mpi/{source}")
        assert (samples.pictures[row] == picture).all()
        assert samples.labels[samples.label[row]] == alone.labels[label]


def test_one_set_a_site(folders):
    samples = read("many", folders, sets=SETS, test=0.4)
    division = partition(samples, PartitionSpec("column", sites=2, attribute=SET, minimum=1), seed=0)
    assert [len(set(samples.groups[SET][division.site == site])) for site in (0, 1)] == [1, 1]


def test_votes_of_one_set_stand_beside_labels_of_another(folders, write):
    write(
        "jaffe/README_FIRST.txt",
        "# HAP SAD SUR ANG DIS FEA PIC\n"
        + "".join(
            f"{n} 3.0 1.0 1.5 1.0 1.0 1.0 {person}-AN1\n" for n, person in enumerate(("KA", "NA", "YM"))
        ),
    )
    rated = {**SETS[0], "options": {"target": "rated"}}
    samples = read("many", folders, sets=[rated, SETS[1]], test=0.4, classes="common")
    assert samples.labels == ("neutral", "happiness")
    assert samples.votes.sum(1).tolist() == [1.0] * len(samples)
    assert len(samples) == 6 + 6


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "0 data sets"),
        (SETS[:1], "1 data sets"),
        ([*SETS, {"reader": "kdef"}], "without a reader or a root"),
        ([*SETS, {"reader": "kdef", "root": "a", "size": 3}], "unknown key 'size'"),
        ([*SETS, SETS[0]], "two sets are called 'jaffe'"),
        ([SETS[0], {"reader": "many", "root": "."}], "or one is many"),
    ],
)
def test_requests_that_are_wrong(folders, sets, message):
    with pytest.raises(ConfigError, match=message):
        read("many", folders, sets=sets)


def test_sets_that_do_not_go_together(folders, draw):
    draw("odd/contempt/1.png", "odd/contempt/2.png", "odd/contempt/3.png")
    odd = {"reader": "classfolders", "root": "odd"}
    with pytest.raises(DataError, match="no class is common"):
        read("many", folders, sets=[SETS[0], odd], test=0.4, classes="common")
    with pytest.raises(DataError, match="faces_mpi has 48 x 48 pixels in 3 channels"):
        read("many", folders, sets=[SETS[0], {**SETS[1], "options": {"channels": 3}}], test=0.4)
    with pytest.raises(ConfigError, match="common, all"):
        read("many", folders, sets=SETS, classes="some")
