"""fedfer doctor: what is in order, what is found wrong, and how it ends."""

import json
import os
import re
from pathlib import Path

import pytest

from client.randomness import KeyedStream
from fer_models.errors import ConfigError, InstallationError
from simulations.doctor import machine, randomness, speeds, versions
from simulations.doctor.command import require
from simulations.doctor.finding import LEVELS, Finding
from simulations.doctor.holes import AS_OF, HOLES

ROOT = Path(__file__).resolve().parents[3]
ASKED = ["torch>=2.6", "numpy", "ray==2.55.1; extra == 'ray'"]


def levels(findings, level):
    return [each for each in findings if each.level == level]


def test_this_machine_is_looked_at_and_the_file_says_what_was_printed(fedfer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = fedfer("doctor", "--json", "found.json")
    assert (code, err) == (0, ""), out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["level"] in LEVELS[:3]
    areas = {each["area"] for each in found["findings"]}
    assert {"versions", "randomness", "processors", "memory", "disk", "browser", "CUDA", "speed"} <= areas
    for each in found["findings"]:
        assert each["what"] in out
        assert each["level"] == "ok" or each["cure"] in out
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"], "nothing else is left behind"


def test_a_word_too_many_is_refused(fedfer, refused):
    assert refused(fedfer("doctor", "quick"), ConfigError, "'quick'")


def test_an_error_ends_in_its_exit_code_with_its_cure():
    fine = Finding("disk", "warning", "little", "Free some.")
    require([fine])
    with pytest.raises(InstallationError, match=r"stuck, and 1 more \(randomness\)\. Repair it\."):
        require(
            [fine, Finding("randomness", "error", "stuck", "Repair it."), Finding("a", "error", "b", "C.")]
        )
    assert InstallationError.exit_code == 19


# Versions


def test_packages_that_are_missing_or_too_old_are_named_with_what_to_install():
    have = {"torch": "2.5.1"}
    found = list(versions.of_requirements(ASKED, have.get))
    assert [each.level for each in found] == ["error", "error"]
    assert "torch 2.5.1 is not >=2.6" in found[0].what
    assert "pip install 'torch>=2.6'" in found[0].cure
    assert "numpy is missing" in found[1].what
    assert [each.level for each in versions.of_requirements(ASKED, {"torch": "2.6.0", "numpy": "2"}.get)] == [
        "ok"
    ]


def test_a_missing_extra_is_a_note():
    (found,) = versions.of_extras(ASKED, {}.get)
    assert (found.level, "fedfer[ray]" in found.cure) == ("note", True)
    assert list(versions.of_extras(ASKED, {"ray": "2.55.1"}.get)) == []


def test_other_versions_than_the_tested_ones_are_told():
    assert versions.of_tested("torch==2.14.1\nray==2.55.1\n", {"torch": "2.14.1"}.get).level == "ok"
    found = versions.of_tested("torch==2.14.1\n", {"torch": "2.13.0"}.get)
    assert (found.level, "torch 2.13.0" in found.what) == ("note", True)


@pytest.mark.parametrize(("python", "level"), [((3, 10, 9), "error"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")])
def test_python(python, level):
    assert versions.of_python(python).level == level


@pytest.mark.parametrize(
    ("package", "version", "advisories"),
    [
        ("torch", "2.9.1", ["CVE-2026-24747"]),
        ("torch", "2.10.0", []),
        ("torch", "2.14.1+cpu", []),
        ("ray", "2.53.0", ["CVE-2026-27482", "CVE-2026-41486"]),
        ("ray", "2.55.1", []),
        ("cryptography", "47.0.0", ["GHSA-537c-gmf6-5ccf"]),
        ("cryptography", "49.0.0", ["CVE-2026-69247"]),
        ("pillow", "12.2.0", ["CVE-2026-59203"]),
        ("protobuf", "5.29.6", []),
        ("protobuf", "6.33.4", ["CVE-2026-0994"]),
    ],
)
def test_known_holes_are_errors_where_an_upgrade_closes_them(package, version, advisories):
    found = levels(versions.of_holes(HOLES, {package: version}.get), "error")
    assert len(found) == len(advisories)
    for each, advisory in zip(found, advisories, strict=True):
        assert advisory in each.what
        assert each.cure


def test_the_tested_versions_have_no_hole_that_an_upgrade_closes():
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    assert {hole.package for hole in HOLES} <= set(pins)
    found = list(versions.of_holes(HOLES, pins.get))
    assert levels(found, "error") == []
    assert len(levels(found, "note")) == 2, "those of Ray that Flower's pin keeps"


def test_the_page_lists_the_same_holes():
    page = (ROOT / "docs" / "doctor.md").read_text()
    told = re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| (error|note) \|$", page, re.MULTILINE)
    assert told == [(hole.package, hole.affected, hole.advisory, hole.level) for hole in HOLES]
    assert AS_OF in page


# Randomness


def test_the_system_and_all_known_answers_are_right():
    assert [each.level for each in randomness.look()] == ["ok", "ok"]


@pytest.mark.parametrize("draw", [bytes, lambda n: os.urandom(n - 1) + b"\0", lambda n: bytes([7]) * n])
def test_a_generator_that_is_stuck_or_lopsided_is_an_error(draw):
    assert randomness.of_system(draw).level == "error"


def test_noise_masks_and_streams_that_come_out_otherwise_are_errors(monkeypatch):
    class Other(KeyedStream):
        def words(self, count):
            return super().words(count) ^ 1 << 20

    monkeypatch.setattr(randomness, "KeyedStream", Other)
    monkeypatch.setattr(randomness, "add_masks", lambda body, words64, keys, signs: None)
    monkeypatch.setattr(randomness, "SECRET", bytes(32))
    found = list(randomness.look())
    assert found[1].level == "error"
    for name in ("AES-256 stream", "masks", "X25519"):
        assert name in found[1].what


def test_noise_of_another_scale_is_an_error(monkeypatch):
    class Louder(KeyedStream):
        def normal(self, count):
            return 1.001 * super().normal(count)

    monkeypatch.setattr(randomness, "KeyedStream", Louder)
    assert "normal noise" in list(randomness.look())[1].what


# The machine


def test_fewer_processors_than_shown_ask_for_workers(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    found = next(iter(machine.of_processors({})))
    assert found.level == "warning"
    assert "engine.workers=1" in found.cure


def test_more_threads_than_processors_are_a_warning():
    found = levels(machine.of_processors({"OMP_NUM_THREADS": "4096"}), "warning")
    assert "OMP_NUM_THREADS" in found[-1].what


def test_little_memory_under_a_limit_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text(str(1 << 30))
    (tmp_path / "memory.current").write_text(str(1 << 29))
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    found = machine.of_memory()
    assert (found.level, found.what) == ("warning", "0.5 GiB of memory left")


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    assert machine.of_keeping(tmp_path / "nowhere").level == "error"
    assert machine.of_keeping(tmp_path).level != "error"


def test_a_file_system_without_access_modes_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)
    assert "access modes" in machine.of_keeping(tmp_path).what


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, 0),
        ({"HTTPS_PROXY": "http://proxy"}, 1),
        ({"https_proxy": "http://proxy", "NO_PROXY": "127.0.0.1,localhost"}, 0),
    ],
)
def test_a_proxy_that_would_be_asked_for_the_machine_itself(environment, found):
    assert len(list(machine.of_proxies(environment))) == found


def test_slow_steps_and_masks_are_warnings():
    assert speeds.of_step(0.01, 0.05).level == speeds.of_mask(0.5).level == "warning"
    assert speeds.of_step(0.01, 0.02).level == speeds.of_mask(0.001).level == "ok"
