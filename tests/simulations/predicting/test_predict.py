"""Expressions in pictures, folders and films, a line a face."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_models import errors
from fer_models.checkpoints import load_model, save_model
from fer_models.edge.faces import FaceFinder
from fer_models.edge.files import FILES, EdgeConfig, digests_of
from fer_models.edge.graphs import exported
from fer_models.edge.sources import Frame
from fer_models.transforms import mirrored_probabilities, to_input
from fer_models.zoo import ModelSpec, build
from simulations.faces import FacesConfig, draw
from simulations.predicting import stream
from simulations.predicting.asked import Prediction
from simulations.predicting.judges import judge_of
from simulations.predicting.output import Copies
from simulations.predicting.stream import Seen, seen

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
SPEC = ModelSpec("fer_nano", classes=7)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    save_model(folder, build(SPEC, 0), SPEC, labels=LABELS, facts={})
    return folder


@pytest.fixture(scope="module")
def faces():
    return draw(FacesConfig(count=5, pose=0, occlusion=0), 0).pictures


@pytest.fixture
def folder(tmp_path, faces):
    """Five faces, a scene with two, one without, and a damaged file."""
    place = tmp_path / "pictures"
    place.mkdir()
    for i, face in enumerate(faces):
        Image.fromarray(face).save(place / f"face-{i}.png")
    return place


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_a_face_with_the_probabilities_of_the_net(model, folder, faces, fedfer):
    code, out, err = fedfer("predict", str(model), str(folder), "faces=whole", "batch=2")
    assert code == 0
    assert "5 faces in 5 frames" in err
    found = lines(out)
    net = load_model(model)[0]
    wanted = mirrored_probabilities(net, to_input(faces)).detach().numpy()
    for row, own in zip(found, wanted, strict=True):
        assert list(row["probabilities"]) == list(LABELS)
        assert np.abs(np.array(list(row["probabilities"].values())) - own).max() < 1e-3
        assert row["label"] == LABELS[int(own.argmax())]
        assert row["box"] == [0, 0, 48, 48]
    assert [row["source"].rpartition("/")[2] for row in found] == [f"face-{i}.png" for i in range(5)]


def test_pictures_without_a_face_and_damaged_ones_are_told(model, folder, fedfer, tmp_path):
    Image.new("L", (90, 90), 100).save(folder / "wall.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "found.csv"
    code, _, err = fedfer("predict", str(model), str(folder), "format=csv", "--out", str(out))
    assert code == 0
    assert "1 unreadable" in err
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    by_name = {row["source"].rpartition("/")[2]: row for row in rows}
    assert by_name["wall.png"]["problem"] == "no face found"
    assert by_name["broken.jpg"]["problem"].startswith("unreadable picture")
    assert len(rows) == 7
    told = [row for row in rows if row["label"]]
    for row in told:
        assert abs(sum(float(row[label]) for label in LABELS) - 1) < 1e-3


def test_many_faces_of_a_picture(model, tmp_path, fedfer):
    face = draw(FacesConfig(count=1, size=96, pose=0, light=0, occlusion=0, noise=0), 0).pictures[0]
    scene = np.full((200, 480), int(np.median(face[:6])), np.uint8)
    for left in (20, 180, 340):
        scene[50:146, left : left + 96] = face
    Image.fromarray(scene).save(tmp_path / "three.png")
    code, out, err = fedfer("predict", str(model), str(tmp_path / "three.png"))
    assert (code, len(lines(out))) == (0, 3)
    assert sorted(row["face"] for row in lines(out)) == [0, 1, 2]
    code, out, err = fedfer("predict", str(model), str(tmp_path / "three.png"), "most=1")
    assert lines(out)[0]["faces_left"] == 2
    assert "2 faces left out by most=1" in err


def test_a_film_with_annotations_and_heat(model, tmp_path, faces, fedfer):
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 96))
    big = cv2.cvtColor(cv2.resize(faces[0], (96, 96)), cv2.COLOR_GRAY2BGR)
    for _ in range(6):
        writer.write(big)
    writer.release()
    words = ["faces=whole", "every=2", "gradcam=true", "--annotate", str(tmp_path / "copies")]
    code, out, err = fedfer("predict", str(model), str(film), *words)
    assert code == 0
    assert [row["seconds"] for row in lines(out)] == [0, 0.2, 0.4]
    assert "1 annotated copies" in err
    (copy,) = (tmp_path / "copies").iterdir()
    capture = cv2.VideoCapture(str(copy))
    assert capture.get(cv2.CAP_PROP_FPS) == 5  # every second of ten frames a second: as long as the film
    pictures = [capture.read()[1] for _ in range(3)]
    assert not capture.grab()
    colour = [np.ptp(each.astype(int), axis=2).max() for each in pictures]
    assert min(colour) > 50  # the original is gray; boxes and heat are not


def test_a_film_that_ends_too_soon_has_a_line_and_an_exit_code(model, tmp_path, faces, fedfer, refused):
    film, copies = tmp_path / "film.avi", tmp_path / "copies"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 48))
    for i in range(10):
        writer.write(cv2.cvtColor(faces[i % 5], cv2.COLOR_GRAY2BGR))
    writer.release()
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    found = fedfer("predict", str(model), str(film), "faces=whole", "--annotate", str(copies))
    *told, last = lines(found[1])
    assert told
    assert all(row["label"] in LABELS for row in told)
    assert last["problem"] == f"the film ends too soon: {len(told)} of 10 frames are there"
    assert len(list(copies.iterdir())) == 1
    summary, error = found[2].splitlines()
    assert summary.startswith(f"{len(told)} faces in {len(told)} frames; films that end too soon: 1")
    assert refused((found[0], found[1], f"{error}\n"), errors.DataError, "1 of the films ends too soon")


def test_memory_stays_flat_on_a_long_film(model, faces):
    """However long the stream, no more frames are read ahead than a batch."""
    judge = judge_of(model, Prediction())
    read = []

    def stream():
        for number in range(1000):
            read.append(number)
            yield Frame("film", number, None, faces[number % 5])

    found = seen(stream(), FaceFinder("whole"), judge, batch=4)
    for told in range(20):
        assert next(found).frame.number == told
        assert len(read) - told <= 4


def test_photographs_of_many_megapixels_go_on_in_smaller_batches(model, monkeypatch):
    """What waits for a batch to fill is bounded in bytes, whether there are faces or not."""
    large = np.zeros((100, 100), np.uint8)
    monkeypatch.setattr(stream, "MOST_BYTES", 3 * large.nbytes)
    for finder in (FaceFinder("whole"), lambda _: []):
        read = []
        source = (read.append(i) or Frame(f"{i}.jpg", 0, None, large) for i in range(12))
        for told, found in enumerate(seen(source, finder, judge_of(model, Prediction()), batch=32)):
            assert found.frame.source == f"{told}.jpg"
            assert len(read) - told <= 3
        assert len(read) == 12


def test_copies_of_two_pictures_that_differ_in_their_ending(model, tmp_path, faces, fedfer):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(faces[0]).save(tmp_path / name)
    words = [
        str(tmp_path / "a.png"),
        str(tmp_path / "a.bmp"),
        "faces=whole",
        "--annotate",
        str(tmp_path / "copies"),
    ]
    code, _, err = fedfer("predict", str(model), *words)
    assert code == 0
    assert "2 annotated copies" in err
    assert len(list((tmp_path / "copies").iterdir())) == 2


def test_a_film_that_cannot_be_written_is_told(model, tmp_path, faces):
    copies = Copies(tmp_path / "copies", judge_of(model, Prediction()), gradcam=False)
    (tmp_path / "copies").rmdir()
    nothing = np.zeros((0, 7), np.float32)
    with pytest.raises(errors.RunFolderError, match="the annotated film cannot be written"):
        copies(Seen(Frame("film.mp4", 0, 0.0, faces[0]), (), faces[:0], nothing))


def test_an_exported_graph_is_asked_in_the_same_way(folder, fedfer, refused, tmp_path):
    box, model, spec = tmp_path / "box", tmp_path / "net", ModelSpec("cnn_tiny", classes=7)
    box.mkdir()
    net = build(spec, 0)
    save_model(model, net, spec, labels=LABELS, facts={})
    (box / "model.onnx").write_bytes(exported(net, 1, 48, {}))
    config = EdgeConfig("onnx", LABELS, 1, 48, 79_000, {}, {})
    (box / "config.json").write_text(json.dumps(config.to_json(digests_of(box, FILES["onnx"]))))
    words = [str(folder), "faces=whole"]
    own, given = (lines(fedfer("predict", str(path), *words)[1]) for path in (model, box))
    for a, b in zip(own, given, strict=True):
        assert a["label"] == b["label"]
        assert abs(a["probability"] - b["probability"]) < 1e-3
    found = fedfer("predict", str(box), *words, "gradcam=true", "--annotate", str(tmp_path / "c"))
    assert refused(found, errors.ConfigError, "an exported graph has no gradients")


def test_names_of_one_s_own(model, folder, fedfer, refused, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("".join(f"{label}: {label[:3]}-\n" for label in LABELS))
    words = ["predict", str(model), str(folder), "faces=whole", f"labels={names}"]
    assert {row["label"][-1] for row in lines(fedfer(*words)[1])} == {"-"}
    names.write_text("joy: Freude\n")
    assert refused(fedfer(*words), errors.DataError, "the labels do not fit the model's classes")
    names.write_text("".join(f"{label}: same\n" for label in LABELS))
    assert refused(fedfer(*words), errors.DataError, "two classes have the same name")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ([], errors.ConfigError, "needs a model and something to look at"),
        (["MODEL"], errors.ConfigError, "needs a model and something to look at"),
        (["MODEL", "none.png"], errors.DataError, "no such file or folder"),
        (["MODEL", "977"], errors.DataError, "camera"),
        (["empty", "977"], errors.ModelError, "holds no complete model"),
        (["MODEL", "empty"], errors.DataError, "holds no picture"),
        (["MODEL", "empty", "bach=2"], errors.ConfigError, "Did you mean batch?"),
        (["MODEL", "empty", "batch=0"], errors.ConfigError, "batch is 0"),
        (["MODEL", "empty", "faces=dlib"], errors.ConfigError, "unknown way to find faces"),
        (["MODEL", "empty", "gradcam=true"], errors.ConfigError, "Write --annotate DIR"),
        (["MODEL", "empty", "--fast"], errors.ConfigError, "unknown option"),
        (["MODEL", "broken.png"], errors.DataError, "not one picture can be read"),
    ],
)
def test_mistakes(model, fedfer, tmp_path, monkeypatch, words, kind, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    code, _, err = fedfer("predict", *(str(model) if word == "MODEL" else word for word in words))
    assert code == kind.exit_code
    assert said in err.splitlines()[-1]
