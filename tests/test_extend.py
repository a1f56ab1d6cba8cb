"""The pages on adding something of one's own, followed word for word: their files, and their lines in order."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fer_models import plugins
from fer_models.errors import ConfigError, ModelError
from fer_models.readers import read

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(DOCS.glob("extend-*.md"))
INSTALL = ["python", "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e"]


def files(page):
    """Every file of a page: (name, content)."""
    return re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def lines(page):
    """The words of every line that is to be typed."""
    typed = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in "".join(typed).replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the packages of all pages, installed as the pages say but for their place."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    packages = []
    for page in PAGES:
        for name, content in files(page):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(content)
        packages += [f"./{words[-1]}" for words in lines(page) if words[:-1] == INSTALL]
    assert len(packages) == len(PAGES) == 4
    command = [sys.executable, *INSTALL[1:-1], "--quiet", "--target", str(target), *packages]
    subprocess.run(command, cwd=source, check=True, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": ""})
    return target


@pytest.fixture
def followed(installed, tmp_path, monkeypatch, fedfer):
    """followed(page): do what a page says in an empty folder -> what each fedfer line printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(installed))
    for kept in (plugins.added, plugins.load):
        kept.cache_clear()

    def follow(page):
        told = []
        for name, content in files(page):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        for words in lines(page):
            if words[:-1] == INSTALL:
                continue
            if words[0] == "python":
                runpy.run_path(words[1])
                continue
            code, out, err = fedfer(*words[1:])
            assert code == 0, (words, err)
            told.append(out)
        return told

    yield follow
    for kept in (plugins.added, plugins.load):
        kept.cache_clear()


def summaries(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*/summary.json"))]


def test_add_a_net(followed, tmp_path, fedfer, refused):
    told, *_ = followed(DOCS / "extend-model.md")
    assert "stripes 0.1.0" in told
    plain, private = summaries(tmp_path)
    assert plain["systems"]["federated"]["epsilon"] is None
    assert private["systems"]["federated"]["epsilon"] > 0
    assert refused(fedfer("models", "stripe", "speed=false"), ModelError, "Did you mean stripes?")
    assert refused(fedfer("models", "stripes", "attention=cbam"), ModelError, "no place for attention")


def test_add_a_loss(followed, tmp_path, fedfer, refused):
    told, *_ = followed(DOCS / "extend-loss.md")
    assert "Generalised cross-entropy; bears wrong labels better. q is local.strength." in told
    assert told.count("refused: the loss of one picture reacts to another picture of the batch") == 1
    (run,) = (tmp_path / "runs").glob("*/plan.json")
    assert '"generalised"' in run.read_text()
    words = ("simulate", "data.options.count=210", "partition.sites=3", "model=cnn_tiny")
    found = fedfer(*words, "local.loss=contrast", "local.strength=1")
    assert refused(found, ConfigError, "the loss contrast has no strength")


def test_add_a_data_set(followed, tmp_path, fedfer, refused):
    checked, _ = followed(DOCS / "extend-data.md")
    assert "the person did not agree to research" in checked
    samples = read("lantern", tmp_path / "lantern", takes=1)
    assert len(samples) == 23 * 3
    assert set(samples.groups["gender"]) == {"female", "male"}
    words = ("site", "init", "clinic", "--reader", "lantern", "--data", "lantern", "--name", "clinic")
    assert fedfer(*words)[0] == 0
    words = ("data", "check", "data=imagefolder", "data.reader=lanterns", "data.root=lantern")
    assert refused(fedfer(*words), ConfigError, "lantern")


def test_add_a_fair_method(followed, tmp_path, fedfer, refused):
    followed(DOCS / "extend-fairness.md")
    (summary,) = summaries(tmp_path)
    steered = summary["systems"]["federated"]["fairness"]
    assert steered["weighting"] == "cell_dro"
    cells = [weight for row in steered["weights"][:-1] for weight in row]
    assert max(cells) == 1 and min(cells) < 1 and len(set(cells)) > 2
    words = ("simulate", "experiment=planted_bias", "fairness=minimax", "fairness.weighting=cell_drop")
    assert refused(fedfer(*words), ConfigError, "fairness.weighting", "Did you mean cell_dro?")
