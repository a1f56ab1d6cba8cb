"""A folder for one's own pictures, and everything that is wrong with it."""

import pytest
from PIL import Image

from fer_models.errors import ConfigError, DataError, RunFolderError
from fer_models.readers import read
from simulations.own_data import MOST_SHOWN


@pytest.fixture
def ward(fedfer, tmp_path):
    """The template, filled with pictures for its example rows."""
    assert fedfer("data", "template", str(tmp_path / "ward"))[0] == 0
    for number, name in enumerate(("0001.png", "0002.jpg", "0003.jpg")):
        Image.new("L", (16, 16), 60 * number).save(tmp_path / "ward/images" / name)
    return tmp_path / "ward"


def test_the_filled_template_is_right_and_can_be_read(fedfer, ward):
    code, out, _ = fedfer("data", "validate", str(ward))
    assert (code, out.strip()) == (0, "3 rows, nothing to correct")
    samples = read("imagefolder", ward)
    assert samples.groups["gender"].tolist() == ["female", "female", "undisclosed"]
    assert samples.subject.tolist() == ["person-1", "person-1", "person-2"]
    told = (ward / "README.txt").read_text()
    assert all(column in told for column in (ward / "metadata.csv").read_text().splitlines()[0].split(","))


def test_every_mistake_is_told_at_once(fedfer, ward):
    (ward / "images/damaged.png").write_text("no picture")
    with (ward / "metadata.csv").open("a") as file:
        file.write("images/0001.png,cheerful,p,female,24,white,\n")  # a file twice, an unknown label
        file.write("images/absent.png,sad,p,female,2x,white,later\n")  # no file, no number, no split
        file.write("../0001.png,sad,p,,,,\n")
        file.write("images/damaged.png,sad,p,,,,\n")
    code, out, _ = fedfer("data", "validate", str(ward))
    assert code == 3
    lines = out.splitlines()
    assert [line.partition(".")[0] for line in lines[:2]] == [
        "line 5: images/0001",
        "line 5: unknown label 'cheerful'",
    ]
    assert "stands in line 2 already" in lines[0]
    assert [line[:7] for line in lines[2:]] == [
        "line 6:",
        "line 6:",
        "line 6:",
        "line 7:",
        "line 8:",
        "7 rows,",
    ]
    assert "missing picture" in lines[2]
    assert "unknown split 'later'" in lines[3]
    assert "'2x' in column 'age'" in lines[4]
    assert "leaves the folder" in lines[5]
    assert "unreadable picture" in lines[6]
    assert lines[7] == "7 rows, 7 to correct"


def test_a_long_list_is_cut_and_counted(fedfer, ward):
    with (ward / "metadata.csv").open("a") as file:
        file.writelines(f"images/0001.png{n},happy,p,,,,\n" for n in range(MOST_SHOWN + 5))
    lines = fedfer("data", "validate", str(ward))[1].splitlines()
    assert len(lines) == MOST_SHOWN + 2
    assert lines[-2:] == ["and 5 more", f"{MOST_SHOWN + 8} rows, {MOST_SHOWN + 5} to correct"]


def test_a_table_is_never_overwritten(fedfer, refused, ward):
    before = (ward / "metadata.csv").read_text()
    assert refused(fedfer("data", "template", str(ward)), RunFolderError, "has a metadata.csv")
    assert (ward / "metadata.csv").read_text() == before


@pytest.mark.parametrize("verb", ["template", "validate"])
def test_mistakes_of_the_command(fedfer, refused, verb):
    assert refused(fedfer("data", verb), ConfigError, f"fedfer data {verb} DIR")
    assert refused(fedfer("data", verb, "a", "b"), ConfigError, "needs one folder")


def test_folders_without_a_table(fedfer, refused, tmp_path):
    assert refused(fedfer("data", "validate", str(tmp_path)), DataError, "no metadata.csv")
    assert refused(fedfer("data", "validate", str(tmp_path / "absent")), DataError, "no such file")


def test_several_sets_check_as_one(fedfer, ward, tmp_path):
    for number, name in enumerate(("happy/1.png", "sad/2.png", "happy/3.png", "sad/4.png")):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 10 + 20 * number).save(path)
    sets = "[{reader: imagefolder, root: ward}, {reader: classfolders, root: tree, name: trees}]"
    words = ("data", "check", "data=many", f"data.root={tmp_path}", f"data.options.sets={sets}")
    code, out, err = fedfer(*words, "data.options.test=0.5", "data.options.classes=common")
    assert code == 0, err
    assert "imagefolder and trees: 3 pictures" in out
    assert "class that not every set has" in out


def trees(root, sets):
    """Class-folder trees of 30 drawn pictures each, whose bar lies at a height of its class."""
    heights = {"happy": 0, "sad": 5, "fear": 10}
    for name, classes in sets.items():
        for number in range(30):
            word = classes[number % len(classes)]
            picture = Image.new("L", (16, 16), number)
            picture.paste(255, (0, heights[word], 16, heights[word] + 4))
            path = root / name / word / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def words_of(root, *more):
    sets = "[{reader: classfolders, root: a, name: a}, {reader: classfolders, root: b, name: b}]"
    data = ("data=many", f"data.root={root}", f"data.options.sets={sets}")
    sites = ("partition=column", "partition.attribute=set", "partition.sites=2", "model=cnn_tiny")
    work = ("server.rounds=1", "local.amount=2", "local.batch=8", "local.augment=false", "engine.workers=1")
    return ("simulate", *data, *sites, *work, f"--run-dir={root / 'run'}", *more)


@pytest.mark.parametrize("private", [False, True])
def test_sites_of_different_classes_train_one_model(fedfer, tmp_path, private):
    trees(tmp_path, {"a": ("happy", "sad"), "b": ("sad", "fear")})
    more = (
        "privacy.enabled=true",
        "privacy.noise_multiplier=1.0",
        "local.rate=0.5",
        "privacy.allow_useless=true",
    )
    code, _, err = fedfer(*words_of(tmp_path, *(more if private else ())))
    assert code == 0, err


def test_smoothing_is_refused_where_classes_are_not_known(fedfer, refused, tmp_path):
    trees(tmp_path, {"a": ("happy", "sad"), "b": ("sad", "fear")})
    assert refused(fedfer(*words_of(tmp_path, "local.smoothing=0.1")), DataError, "local.smoothing=0")
