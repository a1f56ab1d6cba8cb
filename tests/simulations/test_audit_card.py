"""The model card of an audit: what the hub reads of it, and what people read."""

import copy
import json
import re
import warnings

import pytest
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from huggingface_hub import ModelCard

from fer_models.card import front_matter
from fer_models.counts import Counts
from fer_models.errors import RunFolderError
from simulations.audit import record
from simulations.audit_card import UNKNOWN_PRIVACY, card


@pytest.fixture(scope="module")
def folder(compared, tmp_path_factory):
    """An audit of the run, with limits; to be looked at, not written to."""
    from simulations.cli import main

    place = tmp_path_factory.mktemp("card")
    (place / "limits.yaml").write_text("rules: [{metric: accuracy, limit: 0.01}]\n")
    with pytest.raises(SystemExit) as ended:
        main(["audit", f"run={compared}", f"tolerance={place}/limits.yaml", "--out", str(place / "audit")])
    assert ended.value.code == 0
    return place / "audit"


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "README.md").read_text()


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "audit.json").read_text())


def test_the_hub_reads_the_figures(text, found):
    read = ModelCard(text)
    told = {each.metric_type: each.metric_value for each in read.data.eval_results}
    figures = found["figures"]
    for key in ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall"):
        assert told[key] == pytest.approx(figures[key], abs=5e-5)
    for attribute, parity in figures["parity"].items():
        gap = parity["accuracy_gap"]
        assert told.get(f"accuracy_gap_by_{attribute}") == (
            None if gap is None else pytest.approx(gap, abs=5e-5)
        )
    assert read.data.pipeline_tag == "image-classification"
    assert {"facial-expression-recognition", "differential-privacy"} <= set(read.data.tags)
    assert {each.dataset_split for each in read.data.eval_results} == {"test"}


def test_people_read_net_data_use_figures_groups_and_privacy(text, found, compared):
    config = json.loads((compared / "model" / "config.json").read_text())
    assert f"`cnn_tiny` (norm `gn`), {config['parameters']:,} parameters" in text
    assert found["source"]["net"] == {**config["spec"], "parameters": config["parameters"]}
    assert config["sha256"] in text
    privacy = found["privacy"]
    assert f"Epsilon {privacy['epsilon']:.2f} at delta {privacy['delta']:g}, for one picture." in text
    assert privacy["trust"] in text
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles[:5] == ["What was found", "Data", "Intended use", "Limits", "Figures"]
    assert "By skin tone" in titles and "Limits that were set beforehand" in titles
    low, high = found["figures"]["accuracy_interval"]
    assert f"| accuracy | {found['figures']['accuracy']:.4g} | {low:.4g} to {high:.4g} |" in text
    assert "| pass | accuracy |" in text
    assert f"fedfer audit run={compared.name}`" in text and str(compared) not in text


def test_the_card_is_made_of_the_record_alone(text, found):
    assert card(found) == text


def test_a_model_that_belongs_to_a_run_tells_its_privacy(fedfer, compared, words, tmp_path):
    data = [word for word in words if not word.startswith("model=")]
    for place, said in ((compared, "Epsilon 5.00 at delta"), (compared / "model", UNKNOWN_PRIVACY)):
        code, _, err = fedfer("audit", f"model={place}", *data, f"--out={tmp_path}/audit")
        assert (code, err) == (0, "")
        assert said in (tmp_path / "audit" / "README.md").read_text()


def test_predictions_have_no_card_and_an_earlier_one_goes(fedfer, compared, tmp_path):
    out = tmp_path / "audit"
    assert fedfer("audit", f"run={compared}", f"--out={out}")[0] == 0
    assert (out / "README.md").exists()
    assert fedfer("audit", f"run={compared}", "system=pooled", f"--out={out}")[0] == 0
    assert not (out / "README.md").exists()


def test_a_damaged_configuration_is_named(fedfer, refused, compared, tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for name in ("summary.json", "model/config.json", "model/model.safetensors"):
        (run / name).write_bytes((compared / name).read_bytes())
    config = json.loads((run / "model" / "config.json").read_text())
    changed = [{**config, "spec": {"name": "fer_nano"}}, {**config, "parameters": None}, []]
    for broken in ("{", *map(json.dumps, changed)):
        (run / "model" / "config.json").write_text(broken)
        assert refused(fedfer("audit", f"run={run}"), RunFolderError, "a damaged file", "config.json")


NET = {
    "name": "fer_nano",
    "norm": "gn",
    "classes": 2,
    "channels": 1,
    "size": 48,
    "dropout": 0.2,
    "parameters": 9,
}


def counted(groups):
    true, guess = [0, 1] * 40, [0, 0] * 40
    counts = Counts.of(true, guess, ("a", "b"), {"who|<b>": groups})
    return record({"net": NET, "model_sha256": "00", "data": "x\n---\ny: <z>"}, counts)


def test_few_pictures_and_odd_names():
    text = card(counted(["one"] * 75 + ["<i>|two"] * 5))
    assert "| &lt;i>\\|two | fewer than 10 |" in text
    assert "## By who\\|&lt;b>" in text
    assert "<" not in text.split("---\n", 2)[2]
    assert "there are no groups to compare" in text
    assert (
        yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["dataset"]["name"]
        == "x --- y: <z>"
    )
    assert "differential-privacy" not in ModelCard(text).data.tags


def test_the_balance_of_the_data_is_told(text, found):
    bias = found["bias"]
    assert (
        f"| expressions | {bias['classes']['evenness']:.4g} | {bias['classes']['imbalance_ratio']:.4g} | –"
        in text
    )
    gender = bias["attributes"]["gender"]
    low, high = gender["cramers_v_interval"]
    assert f"| {gender['cramers_v_corrected']:.4g} | {low:.4g} to {high:.4g} |" in text


def test_groups_within_groups_read_as_text_and_as_metadata():
    found = counted(["one"] * 80)
    found["figures"]["parity"]["a*b"] = found["figures"]["parity"].pop("who|<b>")
    assert "## By a\\*b" in card(found)
    assert "accuracy_gap_by_a_b" not in card(found)  # one group only: no gap
    head = front_matter("n", "d", {"accuracy gap by a*b": 0.25}, private=False)
    (result,) = ModelCard(head + "\n# n\n").data.eval_results
    assert (result.metric_type, result.metric_name) == ("accuracy_gap_by_a_b", "accuracy gap by a*b")


def test_a_sure_difference_is_told():
    found = counted(["one"] * 80)
    found["findings"] = {
        "comparisons": 3,
        "gaps": [
            {"attribute": "age", "class": "b", "group": "old", "rate": 0.25, "against": "young", "sure": True}
            | {"against_rate": 0.75, "difference_interval": [0.1, 0.8]},
            {"attribute": "age", "class": None, "sure": False},
        ],
    }
    assert "- age: recall of b 0.25 for old, 0.75 for young; the difference is 0.1 to 0.8." in card(found)


def test_without_privacy_the_card_says_so():
    found = copy.deepcopy(counted(["one"] * 80))
    found["privacy"] = {"epsilon": None, "learned": "All of it.", "audited_epsilon": None}
    assert "Trained without differential privacy" in card(found) and "\n\nAll of it." in card(found)
    found["privacy"] = {"epsilon": 8.0, "delta": 1e-5, "unit": "subject", "audited_epsilon": 0.5}
    assert "Epsilon 8.00 at delta 1e-05, for one person with all pictures." in card(found)
    assert "An attack shows that it is 0.50 at least." in card(found)


def test_the_run_s_own_card_has_metadata_too(compared):
    read = ModelCard((compared / "model" / "README.md").read_text())
    summary = json.loads((compared / "summary.json").read_text())["systems"]["federated"]
    told = {each.metric_type: each.metric_value for each in read.data.eval_results}
    assert told == {
        key: pytest.approx(summary[key], abs=5e-5)
        for key in ("accuracy", "balanced_accuracy", "worst_recall")
    }
    assert "differential-privacy" in read.data.tags


def test_metadata_without_figures_have_no_index():
    head = front_matter("n", "d", {"accuracy": None}, private=False)
    assert "model-index" not in yaml.safe_load(head.split("---\n")[1])
