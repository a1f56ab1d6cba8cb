"""A whole comparison: all five systems, the contract of summary.json, a complete folder, an audit that agrees."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from client.ledger import Ledger
from client.trust import POOLED, trust_of
from fer_models.checkpoints import load_model
from fer_models.counts import Counts
from server.run_folder import RunFolder
from simulations.cli import main
from simulations.compose import composed
from simulations.prepare import prepare

SYSTEMS = ["pooled", "local_only", "federated_without_privacy", "pooled_private", "federated"]
PRIVATE = ("pooled_private", "federated")
PARITY = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "accuracy_gap",
)


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(compared):
    return compared


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def ready(words):
    return prepare(composed(words)[0])


# The folder


def test_the_folder_is_complete(folder, ready):
    held = files(folder)
    expected = {"config.yaml", "plan.json", "state.json", "metrics.jsonl", "partition.json", "summary.json"}
    expected |= {"report.html", "model/model.safetensors", "model/config.json", "baselines/pooled.json"}
    expected |= {f"ledger/site-{i}.sqlite" for i in range(3)}
    expected |= {f"baselines/local_only-site-{i}.json" for i in range(3)}
    expected |= {f"events/{name}/events.out.tfevents.0.fedfer" for name in ("pooled", *SYSTEMS[2:])}
    assert expected <= held.keys()
    assert all(path.stat().st_size for path in held.values())
    assert not [name for name in held if name.endswith(".part") or "tmp" in name]
    assert json.loads(held["state.json"].read_text()) == {"status": "complete"}
    plan = json.loads(held["plan.json"].read_text())
    assert plan["hash"] == ready.plan.digest
    assert plan["systems"] == SYSTEMS


def test_the_configuration_can_be_run_again(folder):
    text = (folder / "config.yaml").read_text()
    assert "target_epsilon: 5.0" in text
    assert "name: test run" in text
    assert "count: 300" in text


def test_metrics_are_one_object_a_line(folder):
    records = RunFolder(folder).metrics()
    rounds = {name: [r["round"] for r in records if r["system"] == name] for name in SYSTEMS}
    assert rounds["federated"] == rounds["federated_without_privacy"] == [2, 4]
    assert len(rounds["pooled"]) == 2
    assert rounds["local_only"] == []
    for record in records:
        assert {
            "loss",
            "accuracy",
            "balanced_accuracy",
            "worst_recall",
            "parity",
            "epsilon",
            "visits",
        } <= set(record)
    private = [r["epsilon"] for r in records if r["system"] == "federated"]
    assert 0 < private[0] < private[1] <= 5
    assert all((r["epsilon"] is None) == (r["system"] not in PRIVATE) for r in records)


def test_the_partition_is_told(folder, ready):
    told = json.loads((folder / "partition.json").read_text())
    assert told["sites"] == ["site-0", "site-1", "site-2"]
    assert told["by"]["label"]["values"] == list(ready.samples.labels)
    assert told["by"]["label"]["table"] == ready.partition.table(ready.samples).tolist()
    assert set(told["by"]) == {"label", "gender", "age", "skin_tone"}
    assert all(np.sum(table["table"]) == 300 for table in told["by"].values())


def test_the_ledger_is_what_the_summary_says(folder, summary, ready):
    for site in summary["systems"]["federated"]["per_site"]:
        ledger = Ledger(folder / "ledger" / f"{site['site']}.sqlite", site["site"], read_only=True)
        assert ledger.epsilon(ready.plan.privacy.delta).value == site["epsilon"]
        assert sum(each.count for each in ledger.history()) == 4 * ready.plan.local.amount


def test_the_model_is_the_average_of_the_last_checkpoint(folder, ready):
    module, spec, labels = load_model(folder / "model")
    assert (spec, labels) == (ready.plan.model, ready.plan.labels)
    found = RunFolder(folder).load_checkpoint("checkpoint-federated")
    assert found is not None
    flat = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    assert sorted(flat.tolist()) == sorted(found[0]["average"].tolist())
    assert load_file(folder / "model" / "model.safetensors").keys() == module.state_dict().keys()


def test_the_page_holds_every_system(folder):
    page = (folder / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "test run" in page
    for words in ("site-2", "surprise", "skin tone"):
        assert words in page


# The summary


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_the_contract_s_keys(summary, system):
    figures = summary["systems"][system]
    for key in ("accuracy", "balanced_accuracy", "worst_recall"):
        low, high = figures[f"{key}_interval"]
        assert 0 <= low <= figures[key] <= high <= 1
    assert set(figures["recall"]) == {
        "neutral",
        "happiness",
        "surprise",
        "sadness",
        "anger",
        "disgust",
        "fear",
    }
    assert set(figures["recall_interval"]) == set(figures["recall"])
    assert figures["worst_recall"] == min(value for value in figures["recall"].values() if value is not None)
    assert set(figures["parity"]) == {"gender", "age", "skin_tone"}
    for parity in figures["parity"].values():
        assert set(PARITY) <= set(parity)
    assert figures["cpu_seconds"] > 0
    assert (figures["bytes_up"] > 0) == system.startswith("federated")
    for key in ("epsilon", "delta", "noise", "trust"):
        assert (figures[key] is not None) == (system in PRIVATE)


def test_the_order_and_the_data_are_told(summary, ready):
    assert summary["order"] == list(summary["systems"]) == SYSTEMS
    train, test = (len(ready.samples.rows(split)) for split in ("train", "test"))
    people = len(np.unique(ready.samples.subject))
    expected = {"name": "faces", "train": train, "test": test, "classes": 7, "sites": 3, "subjects": people}
    assert summary["data"] == expected
    assert (summary["name"], summary["plan_hash"]) == ("test run", ready.plan.digest)


def test_privacy_stays_within_the_target(summary, ready):
    figures = summary["systems"]["federated"]
    assert 4.9 < figures["epsilon"] <= 5
    assert figures["delta"] == ready.plan.privacy.delta
    assert figures["noise_multiplier"] == ready.plan.privacy.noise_multiplier
    assert figures["unit"] == "record"
    assert (figures["noise"], figures["trust"]) == ("site", trust_of(ready.plan.privacy, simulated=True))


def test_the_private_yardstick_has_the_same_epsilon_in_one_place(folder, summary, ready):
    figures, privacy = summary["systems"]["pooled_private"], ready.plan.privacy
    assert 4.9 < figures["epsilon"] <= 5
    assert figures["noise_multiplier"] == privacy.noise_multiplier, "the same steps, rate and accountant"
    assert (figures["noise"], figures["trust"]) == ("pooled", POOLED)
    assert figures["visits"] == pytest.approx(summary["systems"]["federated"]["visits"], abs=20)
    assert "per_site" not in figures
    ledgers = list((folder / "baselines" / "ledger-pooled_private").iterdir())
    assert len(ledgers) == 1
    assert Ledger(ledgers[0], read_only=True).epsilon(figures["delta"]).value == figures["epsilon"]


def test_baselines_see_as_many_pictures_as_the_federation(folder, summary, ready):
    visits = {name: summary["systems"][name]["visits"] for name in SYSTEMS}
    batch = min(128, max(16, len(ready.samples.rows("train")) // 16))
    assert abs(visits["pooled"] - visits["federated_without_privacy"]) <= batch
    sites = 3 * 16
    assert abs(visits["local_only"] - visits["federated_without_privacy"]) <= sites
    assert abs(visits["federated"] - visits["federated_without_privacy"]) < 0.5 * visits["federated"]


def test_local_models_are_summed_from_their_counts(folder, summary, ready):
    facts = [json.loads((folder / "baselines" / f"local_only-site-{i}.json").read_text()) for i in range(3)]
    tests = len(ready.samples.rows("test"))
    right = [int(np.trace(Counts.from_json(each["counts"]["all"]).overall)) for each in facts]
    local = summary["systems"]["local_only"]
    assert local["accuracy"] == pytest.approx(sum(right) / (3 * tests))
    assert local["best_accuracy"] == pytest.approx(max(right) / tests)
    assert local["best_site"] == f"site-{int(np.argmax(right))}"
    own = [Counts.from_json(each["counts"]["own"]) for each in facts]
    assert sum(counts.rows for counts in own) == tests
    assert local["own_accuracy"] == pytest.approx(sum(int(np.trace(c.overall)) for c in own) / tests)
    train = [len(ready.partition.rows(i, ready.samples, "train")) for i in range(3)]
    assert [site["train"] for site in local["per_site"]] == train == [each["train"] for each in facts]
    assert [site["test"] for site in local["per_site"]] == [counts.rows for counts in own]


def test_nothing_in_the_summary_is_infinite(summary):
    def numbers(value):
        if isinstance(value, dict):
            for item in value.values():
                yield from numbers(item)
        elif isinstance(value, list):
            for item in value:
                yield from numbers(item)
        elif isinstance(value, float):
            yield value

    assert all(math.isfinite(number) for number in numbers(summary))


# The same command again


def test_a_whole_folder_is_left_as_it_is(folder, compare):
    before = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in files(folder).items()}
    compare(folder)
    compare(folder, "engine.workers=2")
    assert {
        name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in files(folder).items()
    } == before


def test_processes_give_the_same_bits(folder, tmp_path, compare):
    compare(tmp_path / "run", "engine.workers=2")
    for name in ("model/model.safetensors", "partition.json", "plan.json"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes()
    one, other = (
        Ledger(path / "ledger" / "site-1.sqlite", read_only=True) for path in (tmp_path / "run", folder)
    )
    assert list(one.events) == list(other.events)
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    kept = json.loads((folder / "summary.json").read_text())
    for figures in (*found["systems"].values(), *kept["systems"].values()):
        figures.pop("cpu_seconds")
    assert found == kept


def copied(folder, to, without):
    """A run that was stopped: everything but some files, and not complete."""
    for name, path in files(folder).items():
        if not name.startswith(without):
            copy = to / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (to / "state.json").write_text('{"status": "running"}')


def test_a_report_that_was_lost_is_made_from_what_is_there(folder, tmp_path, compare):
    """A run that was stopped at its very end trains nothing again."""
    copied(folder, tmp_path, ("summary.json", "report.html"))
    compare(tmp_path)
    for name in ("summary.json", "report.html", "metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def lines(folder, *systems):
    found = [r for r in RunFolder(folder).metrics() if r["system"] in systems]
    return [{k: v for k, v in r.items() if k != "seconds"} for r in found]


def test_lines_of_work_that_is_done_again_are_told_once(folder, tmp_path, compare):
    """The pooled model and the private federation were lost with their checkpoints; their lines were not."""
    copied(
        folder,
        tmp_path,
        ("summary.json", "report.html", "baselines/pooled", "checkpoint-federated.", "model"),
    )
    compare(tmp_path)
    ledgers = [
        json.loads((path / "summary.json").read_text())["systems"]["federated"] for path in (tmp_path, folder)
    ]
    assert ledgers[0]["epsilon"] == ledgers[1]["epsilon"]
    for system in SYSTEMS:
        again, first = lines(tmp_path, system), lines(folder, system)
        for one, other in zip(again, first, strict=True):  # what the ledger held before counts from the start
            assert (one.pop("epsilon") or 0) >= (other.pop("epsilon") or 0)
        assert again == first
    for system in ("pooled", "federated"):
        events = EventAccumulator(str(tmp_path / "events" / system))
        events.Reload()
        told = [round(record["round"]) for record in lines(folder, system)]
        assert [event.step for event in events.Scalars("accuracy")] == told
    assert (tmp_path / "model/model.safetensors").read_bytes() == (
        folder / "model/model.safetensors"
    ).read_bytes()


def test_the_federation_without_privacy_is_the_one_that_privacy_none_runs(folder, tmp_path, words):
    """It differs in privacy alone, and so weighs sites by their size again."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *words, "privacy=none", "--run-dir", str(tmp_path)])
    assert ended.value.code == 0
    without = [{**line, "system": "federated"} for line in lines(folder, "federated_without_privacy")]
    assert lines(tmp_path, "federated") == without
