"""Reading from the command line: where decoded pictures are kept, what is said meanwhile, what lies on both sides."""

import csv

import numpy as np
import pytest
from PIL import Image

from fer_models.errors import ConfigError, RunFolderError
from simulations import reading
from simulations.prepare import load, split
from simulations.reading import Shown, cache_of
from simulations.settings import DataSettings


@pytest.fixture
def tree(tmp_path):
    """Eight drawn pictures of four people; the last copies the first, which is a test picture, and so is a person."""
    lines = ["file_name,label,subject,split"]
    for index in range(8):
        pixels = np.random.default_rng(0 if index in (0, 7) else 9 + index).integers(
            0, 255, (16, 16), np.uint8
        )
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        part = "test" if index < 3 else "train"
        lines.append(f"{index}.png,{('happy', 'sad')[index % 2]},p{index % 4},{part}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    return tmp_path


def of(tree, **facts):
    return DataSettings(reader="imagefolder", root=str(tree), size=16, **facts)


def test_a_folder_of_stores_is_used_and_said(tree, tmp_path_factory, capsys):
    cache = tmp_path_factory.mktemp("cache")
    first = load(of(tree, cache=str(cache)), 0)
    assert f"kept in {cache}" in capsys.readouterr().err
    again = load(of(tree, cache=str(cache)), 0)
    assert capsys.readouterr().err == ""
    assert np.array_equal(first.pictures, again.pictures)
    assert isinstance(again.pictures, np.memmap)


def test_auto_goes_on_without_a_store_and_a_folder_of_ones_own_does_not(tree, monkeypatch, capsys):
    monkeypatch.setattr(reading, "Cache", lambda folder, *_, **told: _cache(folder, **told))
    assert len(load(of(tree), 0)) == 8
    assert "Reading without a store" in capsys.readouterr().err
    with pytest.raises(RunFolderError, match=r"data\.cache=none"):
        load(of(tree, cache=str(tree / "0.png" / "cache")), 0)


def _cache(folder, tell=lambda _: None):
    from fer_models.stores import Cache

    return Cache(folder, 0, 0, tell)


def test_where_stores_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDFER_CACHE", str(tmp_path / "a"))
    assert cache_of("auto", print).folder == tmp_path / "a"
    monkeypatch.delenv("FEDFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_of("auto", print).folder == tmp_path / "fedfer"
    assert cache_of("none", print) is None
    assert DataSettings(reader="kdef").facts() == DataSettings(reader="kdef", cache="none").facts()
    assert "copies" not in DataSettings(reader="kdef").facts()
    assert DataSettings(reader="kdef", copies="all").facts()["copies"] == "all"


def test_progress_is_told_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(reading.time, "monotonic", lambda: now[0])
    with Shown("kdef") as shown:
        for second in range(0, 50):
            now[0] = float(second)
            shown(10 * second, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading kdef: 20 of 1,000, 98 s left", "reading kdef: 320 of 1,000, 68 s left"]


def test_people_and_copies_on_both_sides_are_said_on_every_load(tree, capsys):
    found = split(load(of(tree), 0), of(tree), 0)
    assert found.skipped == {"copy of a test picture": 1}
    err = capsys.readouterr().err
    assert "warning: 3 people lie in test and in another part too, such as p0" in err
    assert "pictures lie" not in err
    split(load(of(tree), 0), of(tree, copies="keep"), 0)
    assert "1 pictures lie in test and in another part too" in capsys.readouterr().err


def test_copies_are_listed(tree, tmp_path_factory, fedfer, refused):
    file = tmp_path_factory.mktemp("out") / "copies.csv"
    words = ("data", "check", "data=imagefolder", f"data.root={tree}", "data.size=16")
    code, out, _ = fedfer(*words, "--copies", str(file))
    assert code == 3
    assert "1 pictures that occur more than once" in out
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [tuple(row.values()) for row in rows] == [
        ("1", "0.png", "test", "happiness"),
        ("1", "7.png", "train", "sadness"),
    ]
    assert refused(fedfer(*words, "--copies", str(file.parent)), ConfigError, "no place for a file")
