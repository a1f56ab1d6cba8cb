"""Expressions as sequences: which frames are taken, whose they are, and the votes on CREMA-D's clips."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.listing import OTHER_FILE
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


def write_video(path, shades):
    """A video of one shade a frame."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FLV1"), 30, (32, 32))
    for shade in shades:
        writer.write(np.full((32, 32, 3), shade, np.uint8))
    writer.release()


def test_cremad_videos_as_their_owners_ship_them(cremad, rows):
    shutil.rmtree(cremad / "frames")
    write_video(cremad / "VideoFlash/1001_DFA_ANG_XX.flv", range(0, 240, 24))
    write_video(cremad / "VideoFlash/1002_IEO_NEU_XX.flv", [200])
    (cremad / "VideoFlash/1002_IEO_SAD_HI.flv").write_text("version https://git-lfs.github.com/spec/v1")
    (cremad / "VideoFlash/index.html").write_text("")
    samples = read("cremad", cremad, frames=2, size=16, unreadable="skip")
    assert [row[:2] + row[3:4] for row in rows(samples)] == [
        ("VideoFlash/1001_DFA_ANG_XX.flv#1", "anger", "1001"),
        ("VideoFlash/1001_DFA_ANG_XX.flv#2", "anger", "1001"),
        ("VideoFlash/1002_IEO_NEU_XX.flv#1", "neutral", "1002"),
        ("VideoFlash/1002_IEO_NEU_XX.flv#2", "neutral", "1002"),
    ]
    # Of ten frames the middles of two halves: the third and the eighth; of one frame that one.
    assert samples.pictures.mean((1, 2)) == pytest.approx([48, 168, 200, 200], abs=12)
    assert samples.skipped == {OTHER_FILE: 1, "unreadable picture": 2}
    with pytest.raises(DataError, match="no video with frames") as caught:
        read("cremad", cremad)
    assert caught.value.where.endswith("1002_IEO_SAD_HI.flv")
