"""What the tests of several rooms share: small real samples, sites, plans, and a browser."""

import contextlib
import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

with contextlib.redirect_stderr(sys.__stderr__):
    # Which dp-accounting imports. Its handler closes the stream that it found, save for the interpreter's own, when
    # Hydra sets logging up; and pytest's capture is such a stream.
    import absl.logging  # noqa: F401

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)  # by typer, which Flower imports
    import flwr.app  # noqa: F401

from client.plan import Attribute, LocalWork, Plan, Privacy, ServerWork
from fer_models.samples import Samples
from fer_models.zoo import ModelSpec
from simulations.cli import main
from simulations.federated import Sites
from simulations.partition import Partition

os.environ["FEDFER_CACHE"] = os.devnull  # no test leaves anything in the home of whoever runs it
torch.set_num_threads(1)  # several threads make small nets slow on a busy machine

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="session")
def browse():
    """Run a browser on a file: browse(folder, target, *flags) -> (what it printed, its log)."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on the PATH: looked for {', '.join(BROWSERS)}")

    def run(folder, target, *flags):
        """Use a profile of its own in ``folder``; the browser's whole group ends with it."""
        command = [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, target.as_uri()]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            out, log = process.communicate(timeout=90)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 0, log
        return out, log

    return run


@pytest.fixture(scope="session")
def in_frames(browse):
    """Ask a page at several widths: in_frames(folder, page, script, expression, widths, *flags) -> a list of answers.

    ``expression`` sees the script's names and ``frame``, the frame with the page in it.
    """

    def run(folder, page, script, expression, widths, *flags):
        content = html.escape(page.read_text())
        frames = "".join(
            f'<iframe style="width:{width}px;height:9000px;border:0" srcdoc="{content}"></iframe>'
            for width in widths
        )
        asked = f'[...document.querySelectorAll("iframe")].map(frame => ({expression}))'
        told = f"window.onload = () => {{ document.body.dataset.result = JSON.stringify({asked}); }};"
        harness = folder / "harness.html"
        harness.write_text(f"<!DOCTYPE html><body>{frames}<script>{script}\n{told}</script></body>")
        out, log = browse(folder, harness, "--dump-dom", *flags)
        result = re.search(r'data-result="([^"]*)"', out)
        assert result, log
        return json.loads(html.unescape(result[1]))

    return run


@pytest.fixture(scope="session")
def hindrances(in_frames):
    """hindrances(folder, page, *flags): what hinders people who cannot see, at the widths of a phone and a desk."""
    script = (Path(__file__).parent / "accessibility.js").read_text()
    opened = "frame.contentDocument.querySelectorAll('details').forEach(each => each.open = true)"

    def run(folder, page, *flags):
        asked = f"{opened}, hindrances(frame.contentDocument)"
        found = in_frames(folder, page, script, asked, (380, 1280), *flags)
        return [each for sentences in found for each in sentences]

    return run


@pytest.fixture(scope="session")
def axe(browse):
    """axe(folder, page, *flags): what axe-core finds serious or critical, at the widths of a phone and a desk."""
    package = find_spec("axe_core_python")  # found and not imported: it would import a driver of browsers
    assert package is not None and package.origin is not None
    script = (Path(package.origin).parent / "axe.min.js").read_text()
    asked = (
        "document.querySelectorAll('details').forEach(each => each.open = true);"
        "axe.run().then(found => { document.body.dataset.result = JSON.stringify([found.passes.length, found.violations"
        ".filter(each => ['serious', 'critical'].includes(each.impact)).map(each => each.id + ': ' + "
        "each.nodes.map(node => node.html.slice(0, 200)).join(' | '))]); });"
    )

    def run(folder, page, *flags):
        # Without its policy the copy may run scripts, of which the page itself has none.
        plain = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
        copy = folder / "axe.html"
        copy.write_text(plain.replace("</body>", f"<script>{script}</script><script>{asked}</script></body>"))
        found = []
        for width in (380, 1280):
            out, log = browse(
                folder,
                copy,
                "--dump-dom",
                f"--window-size={width},900",
                "--virtual-time-budget=30000",
                *flags,
            )
            result = re.search(r'data-result="([^"]*)"', out)
            assert result, log
            passed, violations = json.loads(html.unescape(result[1]))
            assert passed > 15, "axe has looked at the page"
            found += violations
        return found

    return run


def small_samples(rows=90, seed=0, size=48):
    """Noise with a bright band whose height tells the class, two thirds for training; nobody's face."""
    rng = np.random.default_rng(seed)
    label = (np.arange(rows) % 3).astype(np.int16)
    pictures = rng.integers(0, 200, (rows, size, size), np.uint8)
    for row, true in enumerate(label):
        pictures[row, size // 3 * true : size // 3 * true + 8] = 255
    return Samples(
        pictures=pictures,
        label=label,
        labels=("neutral", "happiness", "surprise"),
        source=np.array([f"row:{i}" for i in range(rows)]),
        split=np.where(np.arange(rows) % 9 < 6, "train", "test"),
        groups={"age": np.where(rng.random(rows) < 0.5, "old", "young")},
        name="noise",
    )


@pytest.fixture
def fedfer(capsys):
    """Run a command in this process: fedfer("simulate", "seed=1") -> (exit code, standard output, standard error)."""

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def refused():
    """refused(found, kind, *said): whether a command ended in one line of that kind, with those words."""

    def check(found, kind, *said):
        code, _, err = found
        assert code == kind.exit_code
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.rstrip()[-1] in ".?"
        for words in said:
            assert words in err
        return True

    return check


@pytest.fixture(scope="session")
def small():
    return small_samples()


@pytest.fixture(scope="session")
def sites_of(small):
    """sites_of(sizes, ledgers=None): sites that hold that many rows each of the small samples, in a mixed order."""

    def make(sizes=(20, 30, 40), ledgers=None, seed=7, samples=small):
        site = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        return Sites(
            samples, Partition(np.random.default_rng(1).permutation(site), len(sizes)), seed, ledgers
        )

    return make


PLAN = Plan(
    labels=("neutral", "happiness", "surprise"),
    model=ModelSpec("cnn_tiny", classes=3, size=48),
    local=LocalWork(amount=2, batch=8, learning_rate=0.1, augment=False),
    server=ServerWork(rounds=2),
    groups=(Attribute("age", ("old", "young")),),
    seed=3,
)


@pytest.fixture(scope="session")
def plan_of():
    """plan_of(private=False, local={}, **server): a plan for the small samples with some values changed."""

    def make(private=False, local=None, seed=3, **server):
        work = replace(PLAN.local, **(local or {}))
        if private:
            work = replace(work, rate=0.3)
            server = {"weighting": "uniform", **server}
        privacy = Privacy(1.0, clip=1.0, delta=1e-3, nominal_units=20) if private else None
        return replace(PLAN, local=work, server=replace(PLAN.server, **server), privacy=privacy, seed=seed)

    return make


@pytest.fixture(scope="module")
def free_ports():
    """Return a port that is free, and so is the next; other test processes look from another place on."""
    for port in range(20000 + 2 * (os.getpid() % 5000), 32000, 2):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("", port))
            two.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no free ports")
