"""What is installed: Python, the packages that FedFER asks for, the versions it was tested with, and known holes."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from client.work import OWN_LOSSES
from fer_models.plugins import KINDS, added, origin
from fer_models.readers import READERS
from fer_models.zoo import NETS
from server.debiasing.rules import OWN as OWN_WEIGHTINGS
from simulations.doctor.finding import Finding
from simulations.doctor.holes import AS_OF, HOLES, Hole

AREA = "versions"
OLDEST_PYTHON = (3, 11)
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""The versions that were tested together; there in a clone, not in a wheel."""

Installed = Callable[[str], str | None]
"""Name of a package -> its version, None where it is not installed."""


def installed(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def look(found: Installed = installed, python: tuple[int, ...] = sys.version_info[:3]) -> Iterator[Finding]:
    """Look at everything that is installed."""
    yield of_python(python)
    try:
        asked = requires("fedfer") or []
    except PackageNotFoundError:
        yield Finding(
            AREA, "error", "FedFER is not installed in this Python", "Run make setup, or pip install ."
        )
        return
    yield from of_requirements(asked, found)
    yield from of_extras(asked, found)
    if CONSTRAINTS.is_file():
        yield of_tested(CONSTRAINTS.read_text(), found)
    yield from of_holes(HOLES, found)
    yield from of_added()


def of_added() -> Iterator[Finding]:
    """Name what other packages add, which may run wherever a plan or a setting asks for it."""
    own = {"models": NETS, "losses": OWN_LOSSES, "readers": READERS, "weightings": OWN_WEIGHTINGS}
    for kind in KINDS:
        for name in added(kind):
            told = f"{origin(kind, name)} adds {name!r} to the {kind}"
            if name in own[kind]:
                told = f"{told}, a name that FedFER has itself, so it is never used"
                yield Finding(AREA, "warning", told, "Give it another name in its package, or uninstall it.")
            else:
                yield Finding(AREA, "note", told)


def of_python(python: tuple[int, ...]) -> Finding:
    """Look at the version of Python."""
    told = f"Python {'.'.join(map(str, python))} on {platform.system()} {platform.machine()}"
    if python < OLDEST_PYTHON:
        return Finding(AREA, "error", f"{told} is too old", "Install Python 3.11 or newer.")
    if platform.system() != "Linux":
        return Finding(
            AREA, "warning", told, "FedFER is tested on Linux alone: use it there, or a container."
        )
    return Finding(AREA, "ok", told)


def of_requirements(asked: Sequence[str], found: Installed) -> Iterator[Finding]:
    """Look whether every package that FedFER cannot do without is there in a version that it takes."""
    wrong = 0
    needed = [
        each for each in map(Requirement, asked) if each.marker is None or each.marker.evaluate({"extra": ""})
    ]
    for each in needed:
        have = found(each.name)
        if have is not None and each.specifier.contains(have, prereleases=True):
            continue
        wrong += 1
        told = f"{each.name} is missing" if have is None else f"{each.name} {have} is not {each.specifier}"
        yield Finding(AREA, "error", told, f"Run make setup, or pip install '{each.name}{each.specifier}'.")
    if not wrong:
        yield Finding(AREA, "ok", f"all {len(needed)} packages that FedFER needs, in versions that it takes")


def of_extras(asked: Sequence[str], found: Installed) -> Iterator[Finding]:
    """Say which extras are there, and what one that is missing would bring."""
    what = {
        "ray": "engine=ray and clusters",
        "mlflow": "tracking.mlflow",
        "wandb": "tracking.wandb",
        "openvino": "export to OpenVINO",
    }
    for extra, brings in what.items():
        parts = [
            each for each in map(Requirement, asked) if each.marker and each.marker.evaluate({"extra": extra})
        ]
        own = [each for each in parts if not each.marker or not each.marker.evaluate({"extra": ""})]
        if own and any(found(each.name) is None for each in own):
            cure = f"For {brings}: pip install 'fedfer[{extra}]'."
            yield Finding(AREA, "note", f"the extra {extra} is not installed", cure)


def of_tested(constraints: str, found: Installed) -> Finding:
    """Compare with the versions that were tested together."""
    pins = (
        Requirement(line) for line in constraints.splitlines() if line.strip() and not line.startswith("#")
    )
    other = sorted(
        f"{pin.name} {have}"
        for pin in pins
        if (have := found(pin.name)) is not None and not pin.specifier.contains(have, prereleases=True)
    )
    if not other:
        return Finding(AREA, "ok", "the versions that were tested together (constraints.txt)")
    told = (
        f"{len(other)} other than the tested versions: {', '.join(other[:6])}{', ...' if other[6:] else ''}"
    )
    return Finding(AREA, "note", told, "For equal bits on two machines, install with constraints.txt.")


def of_holes(holes: Sequence[Hole], found: Installed) -> Iterator[Finding]:
    """Look for versions with known holes."""
    serious = 0
    for hole in holes:
        have = found(hole.package)
        if have is None or not SpecifierSet(hole.affected).contains(have, prereleases=True):
            continue
        serious += hole.level == "error"
        yield Finding(AREA, hole.level, f"{hole.package} {have}: {hole.what} ({hole.advisory})", hole.cure)
    if not serious:
        yield Finding(
            AREA, "ok", f"no version with a hole of FedFER's list of {AS_OF} that an upgrade would close"
        )
