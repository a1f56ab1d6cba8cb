"""Whatever codes the files hold: no reader ever gives a class or a group outside the common vocabulary."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_models import labels
from fer_models.errors import DataError, FedferError
from fer_models.labels import UNDISCLOSED, VOCABULARY
from fer_models.readers import READERS, read
from fer_models.readers.people import VALUES
from fer_models.samples import SPLITS

FREE = {"fer2013", "imagefolder", "many"}
"""Readers whose whole tables are read below: a user's own groups are free words."""

TREES = {
    "affectnet": lambda a, b, c, d: {
        "training.csv": "subDirectory_filePath,face_x,face_y,face_width,face_height,expression\n"
        f"a.jpg,0,0,8,8,{a}\nb.jpg,0,0,8,8,{b}\n",
        "validation.csv": "subDirectory_filePath,face_x,face_y,face_width,face_height,expression\n",
        "Manually_Annotated_Images/a.jpg": "",
        "fair/train.csv": f"name,expression,age,gender,race\na.jpg,{a},{b},{c},{d}\n",
        "fair/valid.csv": "name,expression,age,gender,race\n",
        "fair/test.csv": "name,expression,age,gender,race\n",
    },
    "ckplus": lambda a, b, c, d: {
        "cohn-kanade-images/S001/001/S001_001_00000001.png": "",
        "cohn-kanade-images/S001/001/S001_001_00000002.png": "",
        "Emotion/S001/001/S001_001_00000002_emotion.txt": a,
    },
    "classfolders": lambda a, b, c, d: {f"{a}/1.png": "", f"{b}/2.png": ""},
    "faces_mpi": lambda a, b, c, d: {f"001_{a[:1]}_{b[:1]}_{c[:1]}_a.jpg": "", f"002_y_f_{d[:1]}_a.jpg": ""},
    "fairface": lambda a, b, c, d: {
        "fairface_label_train.csv": f"file,age,gender,race\ntrain/1.jpg,{a},{b},{c}\n",
        "fairface_label_val.csv": f"file,age,gender,race\nval/1.jpg,0-2,Male,{d}\n",
    },
    "jaffe": lambda a, b, c, d: {f"{a}.{b}1.1.tiff": "", f"KA.{c}2.2.tiff": ""},
    "kdef": lambda a, b, c, d: {f"A{a[:1]}01{b}S.JPG": "", f"AF01{c}{d}.JPG": ""},
    "mug": lambda a, b, c, d: {f"001_{a}_001_0001.jpg": "", f"002_{b}_001_0001.jpg": ""},
    "nimstim": lambda a, b, c, d: {f"01{a[:1]}_{b}_{c[:1]}.BMP": "", f"02F_{d}_O.BMP": ""},
    "rafd": lambda a, b, c, d: {
        f"Rafd090_01_{a}_{b}_{c}_frontal.jpg": "",
        f"Rafd090_02_Kid_male_sad_{d}.jpg": "",
    },
    "rafdb": lambda a, b, c, d: {
        "EmoLabel/list_patition_label.txt": f"train_00001.jpg {a}\n",
        "Image/aligned/train_00001_aligned.jpg": "",
        "Annotation/manual/train_00001_manu_attri.txt": f"{'1 2 ' * 5} {b} {c} {d}",
    },
    "caers": lambda a, b, c, d: {f"{a}/{b}/1.png": "", f"test/{c}/2.png": ""},
    "cremad": lambda a, b, c, d: {
        "VideoDemographics.csv": f"ActorID,Age,Sex,Race,Ethnicity\n1001,{a},{b},{c},x\n",
        "processedResults/tabulatedVotes.csv": ",A,D,F,H,N,S,fileName\n200001,0,1,0,0,0,0,1001_DFA_ANG_XX\n",
        f"frames/1001_DFA_{d}_XX/1.jpg": "",
        "frames/1001_DFA_ANG_XX/1.jpg": "",
    },
    "dfew": lambda a, b, c, d: {
        "EmoLabel_DataSplit/train(single-labeled)/set_1.csv": f"video_name,label\n{a},{b}\n",
        "EmoLabel_DataSplit/test(single-labeled)/set_1.csv": f"video_name,label\n1,{c}\n",
        "Clip/clip_224x224/00001/1.jpg": "",
    },
    "expw": lambda a, b, c, d: {
        "label/label.lst": f"a.jpg 0 0 0 9 9 {a} {b}\nb.jpg 0 0 {c} 9 9 90 {d}\n",
        "image/origin/a.jpg": "",
    },
    "ferg": lambda a, b, c, d: {f"{a}/{a}_{b}/1.png": "", f"ray/ray_{c}/1.png": "", f"ray/{d}/1.png": ""},
    "ferv39k": lambda a, b, c, d: {
        "FERV39K_train.txt": f"x/War/{a}/0001 9 {b}\n",
        "FERV39K_test.txt": f"x/War/{c}/0001 9 {d}\n",
        f"2_ClipsforFaceCrop/War/{a}/0001/1.jpg": "",
    },
    "london": lambda a, b, c, d: {
        "london_faces_info.csv": f"face_id,face_age,face_gender,face_eth\n001,{a},{b},{c}\n",
        "001_03.jpg": "",
        f"001_{d}.jpg": "",
    },
    "ferv39k with the owner's lists": lambda a, b, c, d: {
        "4_setups/All_scenes/train_All.csv": f"War/{a}/0001 {b}\n",
        "4_setups/All_scenes/test_All.csv": f"War/{c}/0001 {d}\n",
        f"2_ClipsforFaceCrop/War/{a}/0001/1.jpg": "",
    },
    "mafw with the owner's lists": lambda a, b, c, d: {
        "Train & Test Set/single/no_caption/set_1/train.txt": f"00001.mp4 {a}\n00001.mp4 {c}\n",
        "Train & Test Set/single/no_caption/set_1/test.txt": f"00001.mp4 {b}\n",
        "data/frames/00001/1.jpg": "",
    },
    "mafw": lambda a, b, c, d: {
        "MAFW_set_1_train.txt": f"x/00001 9 {a}\n",
        "MAFW_set_1_test.txt": f"x/00001 9 {b}\n",
        "data/faces/00001/1.jpg": "",
    },
    "oulucasia": lambda a, b, c, d: {
        f"VL/{a}/{b}/{c}/1.jpeg": "",
        f"VL/Strong/P001/{d}/1.jpeg": "",
        "NI/Dark/P001/Anger/1.jpeg": "",
    },
    "sfew": lambda a, b, c, d: {
        f"Train_Aligned_Faces/{a}/film_000000000_00000000.png": "",
        f"Val_Aligned_Faces/{b}/{c}_000000000_00000000.png": "",
    },
    "utkface": lambda a, b, c, d: {f"{a}_{b}_{c}_2017.jpg": "", f"20_{d}_0_2017.jpg": ""},
}
"""Reader -> the files of its set, with four words where codes stand."""

KNOWN = sorted(
    {
        *(
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
            "9",
            "10",
            "11",
            "70+",
            "00-02",
            "0-2",
            "more than 70",
        ),
        *(
            "Male",
            "Female",
            "male",
            "female",
            "Unsure",
            "m",
            "f",
            "y",
            "o",
            "F",
            "M",
            "S",
            "HL",
            "X",
            "C",
            "O",
        ),
        *("White", "Asian", "East Asian", "Caucasian", "Moroccan", "Kid", "KA", "YM", "frontal", "left"),
        *labels.TWO_LETTER_CODES,
        *labels.ALIASES,
        *(word.lower() for word in labels.TWO_LETTER_CODES),
    }
)
"""Words that some set knows, so that one set's word stands where another's belongs."""

WORDS = st.one_of(st.sampled_from(KNOWN), st.text("abAB019+-. é", min_size=1, max_size=5).filter(str.strip))


def test_every_reader_has_a_tree():
    assert {name.partition(" ")[0] for name in TREES} == set(READERS) - FREE


@pytest.mark.parametrize("reader", TREES)
@settings(max_examples=40, deadline=None)
@given(words=st.tuples(WORDS, WORDS, WORDS, WORDS), option=st.booleans())
def test_classes_and_groups_have_common_names(reader, words, option):
    lister = READERS[reader.partition(" ")[0]].__wrapped__
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, text in TREES[reader](*words).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        options = {"protocol": root / "fair"} if option and (root / "fair").is_dir() else {}
        try:
            listing = lister(root, **options)
        except DataError as error:
            assert error.where
            assert error.cure
            return
    assert set(listing.names) <= set(VOCABULARY)
    assert set(listing.splits) <= set(SPLITS)
    for column, values in listing.groups.items():
        assert column == "scene" or set(values) <= {*VALUES[column], UNDISCLOSED}
    assert all(listing.skipped.values())


PIXELS = " ".join(["7"] * 48 * 48)
BOX = '"(0, 0, 48, 48)"'
HEADER = f"Usage,Image name,{','.join(labels.FERPLUS_COLUMNS)}"

TABLES = {
    "csv": lambda a, b, c, d: {
        "fer2013.csv": f"emotion,pixels,Usage\n{a},{PIXELS},Training\n{b},{PIXELS},{c}\n"
    },
    "votes": lambda a, b, c, d: {
        "fer2013.csv": f"emotion,pixels,Usage\n0,{PIXELS},Training\n",
        "fer2013new.csv": f"{HEADER}\nTraining,x,{a},{b},{c},{d},0,0,0,0,0,0\n",
    },
    "tree": lambda a, b, c, d: {
        f"train/{a}/Training_1.png": "",
        f"test/{b}/{c}_1.png": "",
        f"{d}/sad/1.png": "",
    },
    "ferplus": lambda a, b, c, d: {
        "FER2013Train/label.csv": f"a.png,{BOX},{a},{b},{c},{d},0,0,0,0,0,0\n",
        "FER2013Valid/label.csv": f"a.png,{BOX},{d},0,0,0,0,0,0,{c},0,0\n",
        "FER2013Test/label.csv": f"{a},{BOX},5,0,0,0,0,0,0,0,0,0\n",
        "FER2013Train/a.png": "",
        "FER2013Valid/a.png": "",
    },
    "imagefolder": lambda a, b, c, d: {
        "metadata.csv": f"file_name,label,gender,split\na.png,{a},{b},{c}\na.png,{d},,\n",
        "a.png": "",
    },
    "many": lambda a, b, c, d: {
        f"one/train/{a}/1.png": "",
        f"one/test/{b}/1.png": "",
        "two/metadata.csv": f"file_name,label,split\na.png,{c},train\na.png,{d},test\n",
        "two/a.png": "",
    },
}
"""Layouts that are read whole, pictures and all."""

SETS = [{"reader": "classfolders", "root": "one"}, {"reader": "imagefolder", "root": "two"}]


@pytest.mark.parametrize("layout", TABLES)
@settings(max_examples=25, deadline=None)
@given(words=st.tuples(WORDS, WORDS, WORDS, WORDS))
def test_whole_tables_have_common_names(layout, words):
    reader = layout if layout in READERS else "fer2013"
    options = {"many": {"sets": SETS}, "csv": {"rule": "original"}, "tree": {"rule": "original"}}.get(
        layout, {}
    )
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, text in TABLES[layout](*words).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                Image.new("L", (8, 8), 3).save(root / name)
            else:
                (root / name).write_text(text)
        try:
            samples = read(reader, root, **options)
        except FedferError as error:
            assert error.where
            assert error.cure
            return
    assert set(samples.labels) <= set(VOCABULARY)
    assert set(samples.split.tolist()) <= set(SPLITS)
    assert all(samples.skipped.values())
    assert np.isfinite(samples.targets(np.arange(len(samples)))).all()


def test_the_vocabulary_has_no_name_twice():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert not any(UNDISCLOSED in values for values in VALUES.values())
