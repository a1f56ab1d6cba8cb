"""A whole study on loopback: a coordinator and three sites as real processes, with TLS and authentication."""

import base64
import contextlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import namedtuple
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from client.alone import holder
from client.audit_log import AuditLog
from client.ledger import Ledger, close_all
from client.plan import read_plan
from client.site_folder import SiteFolder
from client.site_process import AGENT_LOCK
from fer_models.errors import ConfigError, EngineError, PolicyError, RunFolderError
from fer_models.flat import FlatModel
from fer_models.metrics import summarise
from fer_models.samples import Samples
from fer_models.zoo import build
from server.bundle import bundle
from server.coordinator import Coordinator
from server.run_folder import RunFolder
from server.run_state import LOCK, PROGRESS
from server.superlink import control, nodes
from simulations.bench.loopback import children
from simulations.cli import main
from simulations.compose import composed
from simulations.federated import Sites, run_local
from simulations.prepare import prepare
from simulations.run_audit import count_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = (sys.executable, "-m", "simulations.cli")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PATIENCE = 600
WORDS = (
    "data.options.count=360", "partition.sites=3", "model=hog_linear", "local=private", "privacy=dp",
    "privacy.target_epsilon=2", "aggregation=secure", "server.rounds=2", "privacy.allow_useless=true",
    "statistics.enabled=true", "statistics.epsilon=0.2", "statistics.by=[gender]",
)  # fmt: skip


Ended = namedtuple("Ended", "returncode stdout stderr")


def command(*words):
    """Run a command in this process, which has everything imported."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def good(*words):
    found = command(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def until(true, what, pause=0.5):
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(pause)
    return found


def example():
    """Return docs/examples/three_sites.py as a module whose commands run in this process."""
    spec = spec_from_file_location("three_sites", ROOT / "docs" / "examples" / "three_sites.py")
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    found.fedfer = good
    return found


EXAMPLE = example()


class Study:
    """A coordinator's folder, three sites' folders, and their processes."""

    def __init__(self, folder, port):
        self.folder, self.path, self.running = folder, folder / "study", {}
        EXAMPLE.prepare(folder, WORDS, port)
        self.sites = [SiteFolder.open(folder / name) for name in EXAMPLE.SITES]

    def start(self, *, patient=True):
        """Start what does not run, and wait until all are connected unless told not to."""
        for name, each in EXAMPLE.commands(self.folder).items():
            if name not in self.running or self.running[name].poll() is not None:
                self.running[name] = subprocess.Popen(
                    [*COMMAND, *map(str, each)], env=ENVIRONMENT, stdout=subprocess.DEVNULL
                )
        coordinator = Coordinator.open(self.path)

        def connected():
            with contextlib.suppress(EngineError), control(coordinator) as client:
                return sum(node.status == "online" for node in nodes(client)) == 3

        if patient:
            until(connected, "the sites are not connected")

    def kill(self, *names, more=()):
        """Kill supervisors and, at the same moment, what they keep alive."""
        found = [self.running[name] for name in names]
        below = [pid for process in found for pid in children(process.pid)]
        for pid in filter(None, [*(process.pid for process in found), *below, *more]):
            os.kill(pid, signal.SIGKILL)
        for process in found:
            process.wait()

    def stop(self):
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(60)
            finally:
                process.kill()

    def model(self, run, plan):
        flat = FlatModel(build(plan.model, plan.seed))
        (weights,) = (run / "model").glob("*.safetensors")
        flat.module.load_state_dict(load_file(weights))
        return flat.full_vector


@pytest.fixture(scope="module")
def study(tmp_path_factory, free_ports):
    made = Study(tmp_path_factory.mktemp("loop"), free_ports)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def simulated(plan, folder):
    """What the simulation of the plan ends with."""
    settings, _ = composed(WORDS)
    prepared = prepare(settings)
    sites = Sites(prepared.samples, prepared.partition, settings.seed, folder / "ledgers")
    return run_local(plan, sites, RunFolder(folder / "simulated"), "federated", 1, lambda _: None)


def test_a_study_ends_with_the_very_model_of_its_simulation_though_servers_die(study, tmp_path):
    """Gate and SuperLink are killed between statistics and rounds, and come back by themselves.

    In the middle of an exchange the answer that is on its way is lost with them, and then the round may be.
    """
    plan = read_plan((study.folder / "dealt" / "plan.json").read_text())

    told = good("server", "statistics", study.path, *WORDS, "--run-dir", tmp_path / "run")
    assert "training pictures by gender and class" in told
    assert not (tmp_path / "run" / PROGRESS).exists()
    before = json.loads((study.path / "state" / "running.json").read_text())
    for name in ("gate", "superlink"):
        os.kill(before[name], signal.SIGKILL)
    study.start()
    out = good("server", "run", study.path, *WORDS, "--run-dir", tmp_path / "run")
    after = json.loads((study.path / "state" / "running.json").read_text())
    assert all(before[name] != after[name] for name in ("gate", "superlink"))
    assert "round 2/2" in out
    assert "lost" not in out
    expected = simulated(
        plan, tmp_path
    )  # in a folder of its own: here it would go on from the real run's checkpoint
    tables = [(tmp_path / each / "statistics.json").read_text() for each in ("run", "simulated")]
    assert tables[0] == tables[1]
    assert torch.equal(study.model(tmp_path / "run", plan), expected.vector)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["federated"]
    assert summary["epsilon"] == pytest.approx(expected.totals.epsilon)
    _, counts, parts = count_run([f"run={tmp_path / 'run'}"])
    # Without groups: a real site counts small ones as undisclosed.
    assert counts.overall.tolist() == expected.overall.overall.tolist(), (
        "what an audit of a run over real sites goes by"
    )
    assert summary["accuracy_interval"] == summarise(counts)["accuracy_interval"]
    assert parts["privacy"]["learned"] == summary["learned"]
    close_all()
    for site in study.sites:
        assert (
            Ledger(site.ledger_path, site.name, read_only=True).head.number == 3
        )  # statistics, once, and two rounds
    words = ("server", "run", study.path, study.folder / "dealt" / "plan.json")
    assert "done" in good(*words, "--run-dir", tmp_path / "run")  # the same plan, from a file
    other = command(*words, "--name", "x", "--run-dir", tmp_path / "run")
    assert other.returncode == RunFolderError.exit_code
    no_log_tells_of_a_site(study)


def masked(site):
    """How many vectors a site has masked in all, by its journal."""
    path = site.path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT COUNT(*) FROM masked").fetchone()[0]


def test_a_study_goes_on_whatever_is_killed(study, tmp_path):
    """The SuperLink with the process of the rounds, a site, an agent, and everything at once, as where the power fails.

    Each blow falls when some site has masked its vector of a round. Of three sites none may be missing, and yet no
    round is lost: all go on in the same session; nothing is masked or paid for twice.
    """
    run, rounds = tmp_path / "run", 5
    before = {site.name: releases(site) for site in study.sites}
    first = {site.name: masked(site) for site in study.sites}

    def told(number):
        path = run / PROGRESS
        return lambda: path.exists() and len(path.read_text().splitlines()) >= number

    def in_the_midst(number):
        """Wait until a round has ended, and a site has masked its vector of the next."""
        until(told(number), f"round {number} did not end", pause=0.05)
        until(
            lambda: max(masked(site) - first[site.name] for site in study.sites) > number,
            f"nobody has masked in round {number + 1}",
            pause=0.01,
        )

    def strike():
        state = study.path / "state" / "running.json"
        in_the_midst(1)
        os.kill(json.loads(state.read_text())["superlink"], signal.SIGKILL)
        os.kill(until(lambda: holder(run / LOCK), "no rounds are made", pause=0.05), signal.SIGKILL)
        in_the_midst(2)
        study.kill("site-1")
        study.start(patient=False)
        in_the_midst(3)
        os.kill(until(lambda: holder(study.sites[2].path / AGENT_LOCK), "no agent"), signal.SIGKILL)
        in_the_midst(4)
        study.kill("server", *(site.name for site in study.sites), more=[holder(run / LOCK)])
        study.start(patient=False)

    striking = threading.Thread(target=strike)
    striking.start()
    words = [word.replace("rounds=2", f"rounds={rounds}") for word in WORDS if "statistics" not in word]
    out = command(
        "server", "run", study.path, *words, "--name", "killed", "--run-dir", run, "--deadline", "300"
    )
    striking.join()
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("the process of the rounds died; it goes on from the last checkpoint") >= 2
    lines = [json.loads(line) for line in (run / PROGRESS).read_text().splitlines()]
    assert sorted({line["round"] for line in lines}) == list(range(1, rounds + 1))
    assert not [line["lost"] for line in lines if "lost" in line]
    summary = json.loads((run / "summary.json").read_text())["systems"]["federated"]
    close_all()
    for site in study.sites:
        # A round is charged once, however often it was asked for; and the evaluation in the end is masked, too.
        assert releases(site) - before[site.name] == rounds
        assert masked(site) - first[site.name] == rounds + 1
    ledgers = [Ledger(site.ledger_path, site.name, read_only=True) for site in study.sites]
    assert summary["epsilon"] <= max(each.epsilon(summary["delta"]).value for each in ledgers) + 1e-9
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "flwr-clientapp" not in processes
    for each in (study, *study.sites):
        log = AuditLog(each.path / "audit.jsonl")
        kinds = [entry.kind for entry in log.entries()]  # each held against its hash
        assert kinds.count("process_started") > kinds.count("process_ended")
    no_log_tells_of_a_site(study)


def releases(site):
    return Ledger(site.ledger_path, site.name, read_only=True).head.number if site.ledger_path.exists() else 0


def no_log_tells_of_a_site(study):
    """Whatever processes of sites and coordinator wrote for people to read, in real rounds, names no picture."""
    logs = [log for each in (study, *study.sites) for log in each.path.glob("state/**/*.log")]
    logs += [each.path / "audit.jsonl" for each in (study, *study.sites)]
    assert len(logs) >= 8
    told = b"".join(each.read_bytes() for each in logs)
    assert b"plan_met" in told
    for site in study.sites:
        samples = Samples.load(study.folder / "dealt" / site.name)
        words = {*samples.labels, "skin_tone", "undisclosed", "woman", *samples.source[:20].tolist()} - {""}
        for word in words:
            assert re.search(rb"\b" + re.escape(word.encode()) + rb"\b", told) is None, word
        picture = samples.pictures[0].tobytes()
        for form in (picture, picture.hex().encode(), base64.b64encode(picture)):
            assert form[100:140] not in told
        for count in {len(samples.label), *np.bincount(samples.label[samples.split == "train"]).tolist()}:
            assert re.search(rb"\b%d (pictures|rows|samples)" % count, told) is None
        for entry in AuditLog(site.path / "audit.jsonl").entries():
            assert set(entry.facts) <= {"name", "code", "plan", "run", "rule"}


def test_a_plan_that_a_policy_refuses_ends_with_its_rule(study, tmp_path):
    given = json.loads((study.folder / "dealt" / "plan.json").read_text())
    given["privacy"]["noise_multiplier"] = 0.1
    (tmp_path / "plan.json").write_text(json.dumps(given))
    found = command("server", "run", study.path, tmp_path / "plan.json", "--name", "loud")
    assert found.returncode == PolicyError.exit_code, found.stderr
    refusal = re.search(r"the run would cost epsilon .* \((site-\d), privacy.epsilon_a_run\)", found.stderr)
    assert found.stderr.count("\n") == 1
    told = good("site", "status", study.folder / refusal[1])
    assert "is refused by privacy.epsilon_a_run" in told
    assert "server: connected since" in told
    shown = good("server", "status", study.path)
    assert f"{refusal[1]} refuses by privacy.epsilon_a_run: the run would cost epsilon" in shown


def test_a_study_without_enough_sites_does_not_start(tmp_path, fedfer, refused):
    plan = tmp_path / "dealt" / "plan.json"
    good("data", "deal", *WORDS, "--run-dir", tmp_path / "dealt")
    good("server", "init", tmp_path / "study", "hosts=localhost")
    found = fedfer("server", "run", str(tmp_path / "study"), str(plan))
    assert refused(found, ConfigError, "0 sites take part, and the plan needs 3")
    assert refused(fedfer("server", "run", str(tmp_path / "study")), ConfigError, "needs a folder and a plan")
    assert refused(fedfer("server", "run", str(tmp_path), str(plan)), ConfigError, "holds no coordinator")


def test_a_bundle_names_what_is_installed_and_is_the_same_each_time():
    assert bundle() == bundle()
    assert len(bundle()) < 5_000
