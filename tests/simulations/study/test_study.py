"""A whole study from the command line: runs, table, page, going on, refusals."""

import json
import re

import pytest

from fer_models import errors
from server.run_folder import RunFolder
from simulations.study.page import render

TINY = [
    "data.options.count=400",
    "data.options.pictures_per_person=2",
    "data.groups=[gender]",
    "model=hog_linear",
    "partition=iid",
    "partition.sites=3",
    "local=private",
    "server=fedadam",
    "server.rounds=6",
    "server.evaluate_every=6",
    "engine.workers=1",
]
PRIVATE = ["privacy=dp", "privacy.target_epsilon=50"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study") / "run"


@pytest.fixture
def study(folder, fedfer):
    """A private study of two methods over two seeds; it runs once, later it is only read again."""
    words = ["compare", *TINY, *PRIVATE, "fairness=none,logit_adjustment", "seed=0,1"]
    code, out, err = fedfer(*words, "--run-dir", str(folder))
    assert (code, err) == (0, "")
    return words, out, json.loads((folder / "summary.json").read_text())


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*-seed-*/**/*") if path.is_file()}


def test_every_method_ran_with_every_seed(study, folder):
    _, out, facts = study
    assert {path.name for path in folder.iterdir()} == {
        *(f"{method}-seed-{seed}" for method in ("none", "logit_adjustment") for seed in (0, 1)),
        *("config.yaml", "plan.json", "state.json", "summary.json", "report.html"),
    }
    assert RunFolder(folder).complete
    assert (facts["study"], facts["seeds"], facts["order"]) == (
        "fairness",
        [0, 1],
        ["none", "logit_adjustment"],
    )
    for method in facts["order"]:
        figures = facts["systems"][method]
        for seed in (0, 1):
            summary = json.loads((folder / f"{method}-seed-{seed}" / "summary.json").read_text())
            run = summary["systems"]["federated"]
            assert figures["accuracy_seeds"][seed] == run["accuracy"]
            assert (
                figures["parity"]["gender"]["accuracy_gap_seeds"][seed]
                == run["parity"]["gender"]["accuracy_gap"]
            )
        assert 49 < figures["epsilon"] <= 50
    for words in ("logit_adjustment", "accuracy gap", "none, no privacy", "Means over seeds 0, 1"):
        assert words in out


def test_the_first_method_also_runs_without_privacy(study, folder):
    facts = study[2]
    runs = [json.loads((folder / f"none-seed-{i}" / "summary.json").read_text())["systems"] for i in (0, 1)]
    without = [run["federated_without_privacy"]["accuracy"] for run in runs]
    assert facts["reference"]["accuracy_seeds"] == without
    other = json.loads((folder / "logit_adjustment-seed-0" / "summary.json").read_text())
    assert list(other["systems"]) == ["federated"]


def test_the_seeds_pictures_are_shared_by_the_methods(study, folder):
    divisions = [
        (folder / f"{method}-seed-{seed}" / "partition.json").read_bytes()
        for seed in (0, 1)
        for method in ("none", "logit_adjustment")
    ]
    assert divisions[0] == divisions[1] != divisions[2] == divisions[3]


def test_a_run_of_a_study_is_the_run_that_simulate_makes(study, folder, fedfer, tmp_path):
    words = [*TINY, *PRIVATE, "fairness=logit_adjustment", "seed=1", "--run-dir", str(tmp_path)]
    assert fedfer("simulate", *words)[::2] == (0, "")
    own = folder / "logit_adjustment-seed-1"
    for name in ("model/model.safetensors", "plan.json", "partition.json"):
        assert (tmp_path / name).read_bytes() == (own / name).read_bytes()


def test_what_is_whole_stays_and_more_seeds_are_added(study, folder, fedfer):
    words, _, facts = study
    before = stamps(folder)
    (folder / "none-seed-1" / "state.json").write_text('{"status": "running"}')  # as a kill leaves it
    (folder / "none-seed-1" / "summary.json").unlink()
    code, out, _ = fedfer(*words[:-1], "seed=0,1,2", "--run-dir", str(folder))
    assert code == 0
    assert "6/6 logit_adjustment, seed 2" in out
    assert "seed 0\n" not in out
    after = stamps(folder)
    again = {path for path in before if after[path] != before[path]}
    assert {path.relative_to(folder).parts[0] for path in again} == {"none-seed-1"}
    more = json.loads((folder / "summary.json").read_text())
    for key in ("accuracy", "worst_recall"):
        assert more["systems"]["none"][f"{key}_seeds"][:2] == facts["systems"]["none"][f"{key}_seeds"]
    assert fedfer(*words, "--run-dir", str(folder))[0] == 0
    assert json.loads((folder / "summary.json").read_text()) == facts


def test_other_settings_on_the_same_folder_are_refused(study, folder, fedfer, refused):
    words = [*study[0], "server.rounds=7", "--run-dir", str(folder)]
    assert refused(fedfer(*words), errors.RunFolderError, "another configuration")


def test_the_page_holds_every_method_and_loads_nothing(study, folder):
    page = (folder / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    for words in ("logit_adjustment", "none, without privacy", "seeds", "groups of gender", "Pareto"):
        assert words in page
    assert page.count('class="chart"') == 3
    assert not re.search(r"<script|https?://|src=", page)
    charts = re.findall(r"<svg viewBox[^>]*class=\"chart\".*?</svg>", page, re.DOTALL)
    for chart in charts:
        assert chart.count('class="mark"') == 2
        places = [float(n) for pair in re.findall(r"translate\(([\d.]+),([\d.]+)\)", chart) for n in pair]
        assert all(0 <= place <= 320 for place in places)


def test_names_are_escaped(study):
    facts = {**study[2], "name": "<b>&"}
    assert "<h1>&lt;b&gt;&amp;</h1>" in render(facts)


def test_a_method_that_cannot_run_is_left_out_with_the_reason(fedfer, tmp_path):
    words = [*TINY, *PRIVATE, "privacy.counts_epsilon=null", "compare.without_privacy=false", "seed=0"]
    code, out, _ = fedfer("compare", *words, "fairness=none,logit_adjustment", "--run-dir", str(tmp_path))
    assert code == 0
    assert "left out: logit_adjustment: the shares of the classes" in out
    assert "one seed tells no interval" in out
    facts = json.loads((tmp_path / "summary.json").read_text())
    assert facts["order"] == ["none"]
    assert facts["reference"] is None
    assert list(facts["refused"]) == ["logit_adjustment"]
    assert "one seed gives no interval" in (tmp_path / "report.html").read_text()
    assert "privacy.counts_epsilon=0.5" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["fairness=none,focul"], errors.ConfigError, "Did you mean focal"),
        (["fairness=none,focal", "partition.sites=5000"], errors.PartitionError, "(partition.sites)"),
        (
            ["fairness=logit_adjustment,none", *PRIVATE, "privacy.counts_epsilon=null"],
            errors.PrivacyError,
            "noise",
        ),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_folder(fedfer, refused, tmp_path, words, kind, said):
    found = fedfer("compare", *TINY, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, said)
    assert list(tmp_path.iterdir()) == []
