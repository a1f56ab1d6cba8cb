"""A coordinator and three sites on one machine, as real processes: TLS, signed requests, secure sums, privacy.

What docs/deploy.md types line by line, in one go, over drawn faces. In an empty folder::

    python three_sites.py

At real sites every line runs on a machine of the site's own, with the site's own pictures, and the two fingerprints
are compared by people who call each other: a script that reads them itself, as this one does, has compared nothing.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

SITES = ("site-0", "site-1", "site-2")
PLAN = (
    "data.options.count=360", "partition.sites=3", "model=hog_linear", "local=private", "privacy=dp",
    "privacy.target_epsilon=2", "aggregation=secure", "server.rounds=2", "privacy.allow_useless=true",
)  # fmt: skip


def fedfer(*words: object) -> str:
    """Run a command, and return what it prints; a refusal ends the script with its line."""
    done = subprocess.run(["fedfer", *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def show(*words: object) -> None:
    """Run a command that speaks for itself."""
    subprocess.run(["fedfer", *map(str, words)], check=True)


def prepare(folder: Path, plan: tuple[str, ...] = PLAN, port: int = 9443) -> None:
    """Deal out faces, found the coordinator, and let three sites in."""
    fedfer("data", "deal", *plan, "--run-dir", folder / "dealt")
    study = folder / "study"
    fedfer("server", "init", study, "hosts=localhost", f"port={port}")
    for name in SITES:
        site = folder / name
        fedfer("site", "init", site, "--data", folder / "dealt" / name)
        fingerprint = told("fingerprint of .*: (.*)", fedfer("site", "enrol", site))
        fedfer("server", "approve", study, site / "request.json", "--fingerprint", fingerprint)
    fingerprint = told("fingerprint of .*: (.*)", fedfer("server", "sites", study))
    for name in SITES:  # study.json now names all three
        fedfer("site", "join", folder / name, study / "study.json", "--fingerprint", fingerprint)


def told(pattern: str, text: str) -> str:
    """Return what a command said at the place that a pattern marks."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def commands(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the command that each of the four keeps running."""
    sites = {name: ("site", "run", folder / name) for name in SITES}
    return {"server": ("server", "start", folder / "study"), **sites}


def ready(folder: Path) -> bool:
    """Return whether the server answers; `server run` itself waits for the sites."""
    return (
        subprocess.run(["fedfer", "server", "status", folder / "study"], capture_output=True).returncode == 0
    )


def main(folder: Path) -> None:
    """Prepare, start, train, look at what each side knows, and stop."""
    prepare(folder)
    running = [
        subprocess.Popen(["fedfer", *map(str, words)], stdout=subprocess.DEVNULL)
        for words in commands(folder).values()
    ]
    try:
        while not ready(folder):
            time.sleep(1)
        show("server", "run", folder / "study", folder / "dealt" / "plan.json")
        for name in SITES:
            show("site", "ledger", folder / name)
        show("server", "log", folder / "study")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


if __name__ == "__main__":
    main(Path())
