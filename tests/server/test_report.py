"""The page itself: what it says, that it stays offline, and that no text becomes markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fer_models import metrics
from fer_models.counts import Counts
from fer_models.errors import RunFolderError
from server.report import wording, write_report

LABELS = ("neutral", "happiness", "contempt")
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'{{ 7*7 }}"
VOID = {"meta", "br", "img", "link", "input", "hr", "path"}


def counts(right, attribute="age", values=("young", "old", "undisclosed", "oldest")):
    """400 rows of three classes, a share of ``right`` predicted right, in four groups."""
    true = np.repeat([0, 1, 2], [240, 140, 20])
    predicted = np.where(np.arange(400) % 100 < 100 * right, true, (true + 1) % 3)
    group = np.array(values)[np.r_[np.tile([0, 0, 1, 2], 99), [0, 0, 3, 3]]]
    return Counts.of(true, predicted, LABELS, {attribute: group}, {attribute: values})


def summary(**changes):
    systems = {}
    for name, right in (("pooled", 0.8), ("federated", 0.7), ("local_only", 0.5)):
        systems[name] = metrics.summarise(counts(right)) | {
            "epsilon": None,
            "cpu_seconds": 90.0,
            "bytes_up": 0,
        }
    systems["federated"] |= {
        "epsilon": 8.0,
        "delta": 1e-5,
        "rounds": 20,
        "visits": 5000,
        "bytes_up": 1_500_000,
        "sites": metrics.across_sites([counts(0.7), counts(0.6)]),
        "per_site": [
            {
                "site": name,
                "accuracy": 0.7,
                "balanced_accuracy": 0.6,
                "train": 800,
                "test": 50,
                "epsilon": 7.5,
            }
            for name in ("north", "south")
        ],
    }
    facts = {"name": "trial", "data": {"name": "drawn faces", "train": 1600, "test": 400, "classes": 3}}
    return facts | {"plan_hash": "abc123", "systems": systems, "order": list(systems)} | changes


def record(system, number, **changes):
    figures = {"accuracy": 0.3 + 0.02 * number, "balanced_accuracy": 0.3, "worst_recall": 0.1}
    spent = {"epsilon": float(number), "visits": 250 * number, "bytes_up": 1000, "seconds": 1.5}
    return {"system": system, "round": number, "parity": {"age": 0.05}} | figures | spent | changes


PARTITION = {
    "sites": ["north", "south"],
    "by": {"label": {"values": list(LABELS), "table": [[500, 280, 20], [460, 340, 0]]}},
}


@pytest.fixture(scope="module")
def facts():
    return summary()


@pytest.fixture
def folder(tmp_path, facts):
    write(tmp_path, facts)
    return tmp_path


def write(path: Path, facts, partition=PARTITION, lines=None, config="privacy:\n  epsilon: 8.0\n"):
    (path / "summary.json").write_text(json.dumps(facts))
    (path / "partition.json").write_text(json.dumps(partition))
    lines = [record("federated", n) for n in range(1, 21)] if lines is None else lines
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "config.yaml").write_text(config)


class Page(HTMLParser):
    """Collects elements and text, and checks that every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_holds_every_part(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    assert [each.name for each in folder.glob("*.part")] == []
    page = Page(path)
    text = page.text
    assert "Training together under privacy (epsilon 8.0) keeps 87.5 % of the pooled model's accuracy" in text
    assert "it reaches 70.0 % accuracy (95 % interval 65.3 to 74.3 %) on 400 test pictures." in text
    assert "The difference is larger than the chance of picking these test pictures explains." in text
    assert "A site that trains alone reaches 50.0 % on average: joining adds 20.0 points" in text
    assert "Always answering neutral would be right for 60.0 %." in text
    for part in (
        "Pooled, together, alone",
        "few pictures",
        "Round by round",
        "undisclosed",
        "fewer than 10 pictures",
        "not compared",
        "Who holds what: label",
        "lowest 60.0 %",
        "800 training, 50 test, epsilon 7.5",
        "at most a factor of 2,981",
        "What this page can and cannot say",
        "abc123",
        "privacy: epsilon: 8.0",
        "1.5 MB",
    ):
        assert part in text, part
    assert {each["id"] for each in page.all("section")} == {
        "ladder", "recall", "training", "groups", "sites", "privacy", "limits", "origin"
    }  # fmt: skip


def test_probes_stand_beside_the_difference_in_recall(tmp_path, facts):
    told = json.loads(json.dumps(facts))
    probe = {"linear": 0.52, "linear_interval": [0.45, 0.59], "mlp": 0.71, "mlp_interval": [0.65, 0.77]}
    told["systems"]["federated"]["probes"] = {"age": {**probe, "chance": 0.5, "groups": ["old", "young"]}}
    write(tmp_path, told)
    text = Page(write_report(tmp_path)).text
    assert "Can the group be told from the features?" in text
    assert "does not say that errors are equal" in text
    gap = told["systems"]["federated"]["parity"]["age"]["equal_opportunity_difference"]
    row = f"50.0 % 52.0 % 45.0 to 59.0 % 71.0 % 65.0 to 77.0 % {gap:.3f}"
    assert row in text.replace(wording.SPACE, " ")
    told["systems"]["federated"]["probes"] = {"age": {"note": "fewer than two groups"}}
    write(tmp_path, told)
    text = Page(write_report(tmp_path)).text
    assert "is not known: fewer than two groups." in text
    assert "Can the group be told" not in text


def test_bars_and_intervals_stand_where_the_figures_say(folder):
    page = Page(write_report(folder))
    bars = [each["style"] for each in page.all("i")]
    assert bars[0] == "width:80.0%"
    whisker = next(each["style"] for each in page.all("u"))
    left, width = (float(value) for value in re.findall(r"[\d.]+", whisker))
    low, high = summary()["systems"]["pooled"]["accuracy_interval"]
    assert (left, left + width) == pytest.approx((100 * low, 100 * high), abs=0.02)


def test_nothing_is_loaded_and_nothing_runs(folder):
    path = write_report(folder)
    page, html = Page(path), path.read_text()
    assert not re.search(r"(?:src|href|srcset|action|data)\s*=\s*[\"']?\s*(?:https?:)?//", html)
    assert not re.search(r"url\(|@import|@font-face|javascript:", html)
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "iframe", "object", "embed", "img", "link", "form", "base"}
    )
    assert all(attributes["href"].startswith("#") for attributes in page.all("a"))
    policy = next(each for each in page.all("meta") if each.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_tables_charts_and_sections_can_be_read_aloud(folder):
    page = Page(write_report(folder))
    assert len(page.all("table")) == len(page.all("caption")) >= 7
    assert all(each.get("scope") in ("row", "col") for each in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids
    for anchor in page.all("a"):
        assert anchor["href"][1:] in ids
    charts = [each for each in page.all("svg") if each.get("role") == "img"]
    assert len(charts) == 6
    assert all(each.get("role") or each.get("aria-hidden") for each in page.all("svg"))
    assert [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)][:3] == ["h1", "h2", "h3"]


def test_names_from_anywhere_stay_text(tmp_path, facts):
    hostile = json.loads(json.dumps(facts).replace("contempt", json.dumps(HOSTILE)[1:-1]))
    own = counts(0.7, HOSTILE, ("young", "old", "undisclosed", HOSTILE))
    hostile["systems"]["federated"] |= {"parity": metrics.summarise(own)["parity"], "note": HOSTILE}
    hostile["systems"]["federated"]["per_site"][0]["site"] = HOSTILE
    hostile["systems"][HOSTILE] = hostile["systems"]["pooled"]
    hostile |= {"name": HOSTILE, "data": {HOSTILE: HOSTILE, "list": [HOSTILE]}, "plan_hash": HOSTILE}
    partition = {"sites": [HOSTILE], "by": {HOSTILE: {"values": [HOSTILE], "table": [[3]]}}}
    lines = [record(HOSTILE, n, parity={HOSTILE: 0.1}) for n in (1, 2)]
    write(tmp_path, hostile, partition, lines, config=f"</pre>{HOSTILE}")
    page = Page(write_report(tmp_path))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img"})
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("alert(1)</script>") >= 20
    assert "{{ 7*7 }}" in page.text


def test_missing_parts_are_left_out(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"systems": {"pooled": {"accuracy": 0.5}}}))
    page = Page(write_report(tmp_path))
    assert {each["id"] for each in page.all("section")} == {"ladder", "privacy", "limits"}
    assert "The system “Pooled” reaches 50.0 % accuracy." in page.text
    assert "trained without differential privacy" in page.text


def test_a_run_that_goes_on_has_curves_and_no_figures(tmp_path):
    whole = "".join(json.dumps(record("federated", n)) + "\n" for n in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(whole + '{"system": "fede')
    page = Page(write_report(tmp_path))
    assert "This run has not finished" in page.text
    assert {each["id"] for each in page.all("section")} == {"training", "limits"}


def test_many_sites_are_folded_and_the_page_stays_small(tmp_path, facts):
    many = json.loads(json.dumps(facts))
    row = many["systems"]["federated"]["per_site"][0]
    many["systems"]["federated"]["per_site"] = [row | {"site": f"site-{n}"} for n in range(300)]
    partition = {
        "sites": [f"site-{n}" for n in range(300)],
        "by": {"label": {"values": list(LABELS), "table": [[5, 2, 1]] * 300}},
    }
    lines = [record("federated", n, accuracy=0.5) for n in range(1, 3001)]
    write(tmp_path, many, partition, lines)
    path = write_report(tmp_path)
    text = Page(path).text
    assert "And 260 further sites, in the table." in text
    assert "All 300 sites" in text
    assert path.stat().st_size < 600_000


def changed(facts, change):
    copy = json.loads(json.dumps(facts))
    change(copy)
    return json.dumps(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(systems=[]),
        lambda s: s.update(systems={"pooled": 3}),
        lambda s: s.update(order="pooled"),
        lambda s: s.update(order=[1]),
        lambda s: s.update(name=7),
        lambda s: s.update(data={"sites": True}),
        lambda s: s.update(data={"sites": {"a": 1}}),
        lambda s: s["systems"]["pooled"].update(accuracy="high"),
        lambda s: s["systems"]["pooled"].update(accuracy=float("nan")),
        lambda s: s["systems"]["pooled"].update(accuracy_interval=[0.1]),
        lambda s: s["systems"]["pooled"].update(accuracy_interval=[0.9, 0.1]),
        lambda s: s["systems"]["pooled"].update(accuracy_interval=[None, 0.1]),
        lambda s: s["systems"]["federated"].update(per_site={"north": 1}),
        lambda s: s["systems"]["federated"].update(per_site=[1]),
    ],
)
def test_a_damaged_summary_is_an_error_with_its_place(folder, facts, change):
    (folder / "summary.json").write_text(changed(facts, change))
    with pytest.raises(RunFolderError, match=r"a damaged file: expected .*\(summary\.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", b"{", "this is no JSON"),
        ("summary.json", b"[1]", "expected an object"),
        ("metrics.jsonl", b'{"system": "federated"}\nnonsense\n', r"no JSON.*metrics\.jsonl:2"),
        ("metrics.jsonl", b'{"system": 3}\n', r"expected a string.*metrics\.jsonl:1: system"),
        (
            "partition.json",
            b'{"sites": ["a"], "by": {"x": {"values": ["u"], "table": [[1, 2]]}}}',
            "1 counts",
        ),
        (
            "partition.json",
            b'{"sites": ["a"], "by": {"x": {"values": ["u"], "table": []}}}',
            "each of 1 sites",
        ),
        (
            "partition.json",
            b'{"sites": ["a"], "by": {"x": {"values": ["u"], "table": [["1"]]}}}',
            "finite number",
        ),
        ("config.yaml", b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_file_is_an_error_with_its_place(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=message):
        write_report(folder)


def test_a_folder_without_a_run_and_a_page_that_cannot_be_written(tmp_path, folder):
    for path in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(RunFolderError, match=r"neither summary\.json nor metrics\.jsonl"):
            write_report(path)
    assert not (tmp_path / "nowhere").exists()
    (folder / "report.html").mkdir()
    with pytest.raises(RunFolderError, match="cannot write"):
        write_report(folder)
