"""Expressions as sequences: which frames are taken, whose they are, and the votes on CREMA-D's clips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.sequences import EMPTY, NO_VOTES, OTHER_LIGHT, OTHER_NAME, TIE, middle_frames


@given(st.integers(0, 40), st.integers(1, 12))
def test_middle_frames_are_spread_evenly(total, count):
    taken = middle_frames(list(range(total)), count)
    assert len(taken) == min(total, count)
    assert taken == sorted(set(taken))
    if total:
        assert abs(sum(taken) / len(taken) - (total - 1) / 2) <= 1, "they lie around the middle"


def test_one_frame_is_the_middle_one():
    assert middle_frames(["a", "b", "c", "d", "e"], 1) == ["c"]
    with pytest.raises(ConfigError, match="1 frame or more"):
        middle_frames(["a"], 0)


@pytest.fixture
def oulu(draw):
    base = "PreProcess_Img"
    draw(*(f"{base}/VL_Acropped/Strong/P001/Anger/{n:03}.jpeg" for n in range(5)))
    draw(*(f"{base}/VL_Acropped/Weak/P051/Happiness/{n:03}.jpeg" for n in range(2)))
    return draw(f"{base}/NI_Acropped/Dark/P080/Sadness/000.jpeg")


def test_oulucasia(oulu, rows):
    samples = read("oulucasia", oulu, peaks=2)
    assert [(row[0][-8:], *row[1:]) for row in rows(samples, "spectrum", "illumination", "place")] == [
        ("003.jpeg", "anger", "train", "P001", "visible", "strong", "Oulu"),
        ("004.jpeg", "anger", "train", "P001", "visible", "strong", "Oulu"),
    ]
    assert samples.skipped == {OTHER_LIGHT: 2}
    every = read(
        "oulucasia", oulu, spectrum=["visible", "near infrared"], illumination=["strong", "weak", "dark"]
    )
    assert [row[1:] for row in rows(every, "spectrum", "illumination", "place")][-2:] == [
        ("happiness", "train", "P051", "visible", "weak", "Beijing"),
        ("happiness", "train", "P051", "visible", "weak", "Beijing"),
    ]
    with pytest.raises(ConfigError, match="1 frame or more"):
        read("oulucasia", oulu, peaks=0)
    (oulu / "PreProcess_Img/VL_Acropped/Strong/P001/Fear").mkdir()
    assert read("oulucasia", oulu).skipped == {OTHER_LIGHT: 2, EMPTY: 1}
    with pytest.raises(ConfigError, match="visible, near infrared"):
        read("oulucasia", oulu, spectrum=["infrared"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Strong/P081/Anger", "unknown person 'P081'"),
        ("Bright/P001/Anger", "unknown light"),
        ("Weak/P001/Awe", "unknown label"),
    ],
)
def test_oulucasia_folders_that_are_unknown(oulu, draw, name, message):
    draw(f"PreProcess_Img/VL_Acropped/{name}/000.jpeg")
    with pytest.raises(DataError, match=message):
        read("oulucasia", oulu)


def test_dfew(draw, write, rows):
    root = draw(*(f"Clip/clip_224x224/00007/{n}.jpg" for n in range(1, 4)), "Clip/clip_224x224/00123/1.jpg")
    write("EmoLabel_DataSplit/train(single-labeled)/set_2.csv", "video_name,label\n7,1\n9,4\n")
    path = write("EmoLabel_DataSplit/test(single-labeled)/set_2.csv", "video_name,label\n00123,7\n")
    samples = read("dfew", root, fold=2)
    assert rows(samples) == [
        ("Clip/clip_224x224/00007/2.jpg", "happiness", "train", "Clip/clip_224x224/00007"),
        ("Clip/clip_224x224/00123/1.jpg", "fear", "test", "Clip/clip_224x224/00123"),
    ]
    assert samples.skipped == {EMPTY: 1}
    assert len(read("dfew", root, fold=2, frames=3)) == 4
    for row, message in {"00123,0": "unknown label '0'", "../1,2": "no clip '../1'"}.items():
        path.write_text(f"video_name,label\n{row}\n")
        with pytest.raises(DataError, match=message) as caught:
            read("dfew", root, fold=2)
        assert caught.value.where == f"{path}:2"
    with pytest.raises(DataError, match=r"no set_1\.csv"):
        read("dfew", root)
    with pytest.raises(ConfigError, match="fold is 6"):
        read("dfew", root, fold=6)


PREFIX = "/data/somebody/FERV39K/2_ClipsforFaceCrop"


def test_ferv39k(draw, write, rows):
    root = draw("2_ClipsforFaceCrop/Terror/Neutral/0026/1.jpg", "2_ClipsforFaceCrop/War/Angry/0001/1.jpg")
    write("FERV39K_train.txt", f"{PREFIX}/Terror/Neutral/0026 12 2\n")
    path = write("FERV39K_test.txt", f"{PREFIX}/War/Angry/0001 9 3\n")
    samples = read("ferv39k", root)
    assert [row[1:3] + row[4:] for row in rows(samples, "scene")] == [
        ("neutral", "train", "Terror"),
        ("anger", "test", "War"),
    ]
    wrong = {
        f"{PREFIX}/War/Angry/0001 9 4": "the code says surprise, the folder Angry",
        f"{PREFIX}/War/Angry/0001 9 11": "unknown code '11'",
        f"{PREFIX}/War/Angry/0001 9": "names no clip",
        "Angry/0001 9 3": "names no clip",
    }
    for line, message in wrong.items():
        path.write_text(line)
        with pytest.raises(DataError, match=message) as caught:
            read("ferv39k", root)
        assert caught.value.where == f"{path}:1"


def test_mafw(draw, write, rows):
    root = draw("data/faces/00001/1.jpg", "data/faces/00215/1.jpg")
    write("MAFW_set_1_train.txt", "/data/somebody/MAFW/data/faces/00001 65 7\n\n")
    write("MAFW_set_1_test.txt", "/data/somebody/MAFW/data/faces/00215 87 10\n")
    samples = read("mafw", root)
    assert samples.labels == ("contempt", "disappointment")
    assert [row[2] for row in rows(samples)] == ["train", "test"]


VOTES = """\
"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"
"100001",9,0,0,0,0,0,"1001_DFA_ANG_XX",9,1,"A"
"200001",1,6,0,0,2,0,"1001_DFA_ANG_XX",9,0.66,"D"
"200002",5,5,0,0,1,1,"1001_IEO_HAP_LO",12,0.41,"A:D"
"200003",0,0,0,0,9,1,"1002_IEO_NEU_XX",10,0.9,"N"
"300001",0,0,9,0,0,0,"1002_IEO_SAD_HI",9,1,"F"
"""


@pytest.fixture
def cremad(draw, write):
    write(
        "VideoDemographics.csv",
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Unknown,Hispanic\n",
    )
    write("processedResults/tabulatedVotes.csv", VOTES)
    clips = ("1001_DFA_ANG_XX", "1001_IEO_HAP_LO", "1002_IEO_NEU_XX", "1002_IEO_SAD_HI")
    return draw(*(f"frames/{clip}/0001.jpg" for clip in clips), "frames/other/0001.jpg")


def test_cremad_as_played(cremad, rows):
    samples = read("cremad", cremad)
    assert [row[1:] for row in rows(samples, "gender", "ethnicity", "age", "intensity")] == [
        ("anger", "train", "1001", "male", "white", "45-59", "unspecified"),
        ("happiness", "train", "1001", "male", "white", "45-59", "low"),
        ("neutral", "train", "1002", "female", "undisclosed", "18-29", "unspecified"),
        ("sadness", "train", "1002", "female", "undisclosed", "18-29", "high"),
    ]
    assert samples.votes is None
    assert samples.skipped == {OTHER_NAME: 1}


def test_cremad_as_seen_on_the_silent_face(cremad, rows):
    samples = read("cremad", cremad, target="face")
    assert [row[1] for row in rows(samples)] == ["disgust", "neutral"]
    assert samples.labels == ("neutral", "disgust")
    assert samples.skipped == {OTHER_NAME: 1, TIE: 1, NO_VOTES: 1}
    wide = read("cremad", cremad, target="face", labels=["anger", "disgust", "neutral", "sadness"])
    assert wide.votes.tolist() == [[1, 6, 2, 0], [0, 0, 9, 1]]


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("1003_DFA_ANG_XX", "actor '1003' is not in"),
        ("1001_DFA_SUR_XX", "unknown expression 'SUR'"),
        ("1001_DFA_ANG_YY", "unknown level 'YY'"),
    ],
)
def test_cremad_clips_that_are_unknown(cremad, draw, clip, message):
    draw(f"frames/{clip}/0001.jpg")
    with pytest.raises(DataError, match=message) as caught:
        read("cremad", cremad)
    assert caught.value.where.endswith(clip)


def test_cremad_tables_that_are_wrong(cremad, write):
    path = write("processedResults/tabulatedVotes.csv", VOTES.replace("1,6,0", "1,-6,0"))
    with pytest.raises(DataError, match="no number of votes") as caught:
        read("cremad", cremad, target="face")
    assert caught.value.where == f"{path}:3"
    path = write("VideoDemographics.csv", "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Martian,None\n")
    with pytest.raises(DataError, match="unknown race 'Martian'") as caught:
        read("cremad", cremad)
    assert caught.value.where == f"{path}:2"
