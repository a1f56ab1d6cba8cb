"""Sets whose file names tell everything: each in its owner's spelling, with names that are odd or unknown."""

import pytest

from fer_models.errors import ConfigError, DataError
from fer_models.readers import read
from fer_models.readers.posed import CALM, OTHER_NAME, SECOND


def told(rows, samples, *groups):
    return [row[1:2] + row[3:] for row in rows(samples, *groups)]


def test_kdef(draw, rows):
    root = draw(
        "KDEF/AF01/AF01AFS.JPG", "KDEF/BF01/BF01ANS.JPG", "KDEF/AM01/AM01SUS.JPG", "KDEF/AM01/AM01NEHL.JPG"
    )
    draw("KDEF/AF01/AF01DIF.JPG", "AKDEF/FAFFL.JPG")  # a truncated angle, and an averaged face
    samples = read("kdef", root)
    assert told(rows, samples, "gender", "angle") == [
        ("fear", "F01", "female", "frontal"),
        ("surprise", "M01", "male", "frontal"),
        ("anger", "F01", "female", "frontal"),
    ]
    assert samples.skipped == {OTHER_NAME: 2, "angle not asked for: half left": 1}
    assert len(read("kdef", root, angles=["frontal", "half left"])) == 4
    with pytest.raises(ConfigError, match="frontal, half left"):
        read("kdef", root, angles=["straight"])
    with pytest.raises(ConfigError):
        read("kdef", root, angles=[])


def test_rafd(draw, rows):
    root = draw(
        "Rafd090_01_Caucasian_female_angry_frontal.jpg",
        "Rafd090_29_Moroccan_male_contemptuous_left.jpg",
        "Rafd090_40_Kid_female_happy_right.jpg",
        "Rafd180_01_Caucasian_female_angry_frontal.jpg",
    )
    samples = read("rafd", root)
    assert told(rows, samples, "gender", "ethnicity", "age", "gaze") == [
        ("anger", "01", "female", "white", "adult", "frontal"),
        ("contempt", "29", "male", "moroccan", "adult", "left"),
        ("happiness", "40", "female", "white", "child", "right"),
    ]
    assert samples.skipped == {"angle not asked for: camera 180": 1}


def test_faces(draw, rows):
    root = draw("004_o_m_a_a.jpg", "004_o_m_n_b.jpg", "066_y_f_h_a.jpg", "Thumbs.jpg")
    samples = read("faces_mpi", root)
    assert told(rows, samples, "gender", "age") == [
        ("anger", "004", "male", "old"),
        ("neutral", "004", "male", "old"),
        ("happiness", "066", "female", "young"),
    ]
    assert samples.skipped == {OTHER_NAME: 1}


def test_nimstim(draw, rows):
    root = draw(
        "01F_AN_C.BMP", "29M_SP_X.BMP", "29m_sp_x.jpg", "42M_CA_C.BMP", "03F_HA_.O.BMP", "codebook.bmp"
    )
    samples = read("nimstim", root)
    assert told(rows, samples, "gender", "mouth") == [
        ("anger", "01", "female", "closed"),
        ("happiness", "03", "female", "open"),
        ("surprise", "29", "male", "exuberant"),
    ]
    assert samples.skipped == {SECOND: 1, CALM: 1, OTHER_NAME: 1}
    assert read("nimstim", root, calm="neutral").labels[0] == "neutral"
    with pytest.raises(ConfigError, match="leave_out, neutral"):
        read("nimstim", root, calm="yes")


def test_mug(draw, rows):
    root = draw("manual/images/001_an_001_0056.jpg", "manual/images/052_su_002_0033.jpg")
    assert told(rows, read("mug", root)) == [("anger", "001"), ("surprise", "052")]


@pytest.mark.parametrize(
    ("reader", "name", "message"),
    [
        ("kdef", "AF01XXS.JPG", "unknown expression 'xx'"),
        ("rafd", "Rafd090_01_Caucasian_female_bored_frontal.jpg", "unknown expression 'bored'"),
        ("rafd", "Rafd090_01_Asian_female_angry_frontal.jpg", "unknown ethnicity 'asian'"),
        ("rafd", "Rafd090_01_Kid_girl_angry_frontal.jpg", "unknown gender 'girl'"),
        ("rafd", "Rafd060_01_Kid_male_angry_frontal.jpg", "unknown angle '060'"),
        ("rafd", "Rafd090_01_Kid_male_angry_up.jpg", "unknown gaze 'up'"),
        ("faces_mpi", "004_x_m_a_a.jpg", "unknown age 'x'"),
        ("faces_mpi", "004_o_m_c_a.jpg", "unknown expression 'c'"),
        ("nimstim", "01F_SU_C.BMP", "unknown expression 'su'"),
        ("nimstim", "01F_AN_Z.BMP", "unknown mouth 'z'"),
        ("mug", "001_xx_001_0001.jpg", "unknown expression 'xx'"),
    ],
)
def test_unknown_codes(draw, reader, name, message):
    root = draw(name)
    with pytest.raises(DataError, match=message) as caught:
        read(reader, root)
    assert caught.value.where == str(root / name)


@pytest.mark.parametrize("reader", ["kdef", "rafd", "faces_mpi", "nimstim", "mug"])
def test_a_folder_of_something_else(draw, reader):
    root = draw("holiday.jpg")
    with pytest.raises(DataError, match=f"1 times: {OTHER_NAME}"):
        read(reader, root)
