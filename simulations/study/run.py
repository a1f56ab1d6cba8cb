"""``fedfer compare fairness=A,B seed=0,1``: run every method with every seed, and leave a table and a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from fer_models.errors import ConfigError, PrivacyError
from server.run_folder import RunFolder, reading
from simulations.comparison import Comparison
from simulations.display import Display, new_console
from simulations.settings import Settings
from simulations.study.asked import Asked, asked
from simulations.study.page import write_page
from simulations.study.show import show
from simulations.study.table import Facts, table

REFERENCE = "federated_without_privacy"
"""What the first method of a private study is trained as besides."""


def run(words: list[str]) -> int:
    """Run a study, print its table and write its page."""
    return carry_out(Study(asked(words)), show)


def carry_out(study: Study, shown: Callable[[Facts, Console], None]) -> int:
    """Prepare and run a study, print what it found by ``shown`` and where its page is, and return an exit code."""
    console = new_console()
    study.prepare(console)
    console.print(f"run folder: {study.wanted.folder}", highlight=False, soft_wrap=True)
    shown(study.run(console), console)
    console.print(f"page: {study.wanted.folder / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


class Study:
    """Runs a study in its folder, where each method and seed has a folder of its own.

    What is whole is left as it is, so that the same command goes on where a study was stopped, and one that asks for
    more methods or seeds trains only those.

    Attributes
    ----------
    kind : of study, as its folder and its facts call it.
    refused : methods that cannot run with these settings -> the reason.
    """

    kind = "fairness"

    def __init__(self, wanted: Asked) -> None:
        self.wanted = wanted
        self.refused: dict[str, str] = {}

    def prepare(self, console: Console) -> None:
        """Try each method with the first seed; one that cannot run here becomes a row with the reason.

        Raises
        ------
        FedferError : the first method cannot run, or there is another mistake than in a method's settings.
        """
        seed = self.wanted.seeds[0]
        for method in self.wanted.methods:
            try:
                if not self._whole(method, seed):
                    self._comparison(method, seed, _silent).prepare()
            except (ConfigError, PrivacyError) as error:
                if method == self.wanted.first:
                    raise
                self.refused[method] = str(error)
                warning = f"warning: {method} is left out: {error}"
                console.print(warning, highlight=False, soft_wrap=True, markup=False)

    def run(self, console: Console) -> Facts:
        """Run what is missing, write ``summary.json`` and ``report.html``, and return what the former says."""
        folder = RunFolder(self.wanted.folder)
        settings = self.wanted.methods[self.wanted.first]
        folder.open(self.identity, OmegaConf.to_yaml(OmegaConf.structured(settings)))
        folder.write_json("state.json", {"status": "running"})
        jobs = [(method, seed) for seed in self.wanted.seeds for method in self.ran()]
        for number, (method, seed) in enumerate(jobs, 1):
            if not self._whole(method, seed):
                console.print(f"{number}/{len(jobs)} {method}, seed {seed}", highlight=False)
                self.trained(method, seed, console)
        self.complete(console)
        facts = self.facts()
        folder.write_json("summary.json", facts)
        self.write_page(self.wanted.folder, facts)
        folder.finish()
        return facts

    @property
    def identity(self) -> Facts:
        """What makes two studies the same study: only the same one goes on in its folder."""
        return {"study": self.kind}

    def ran(self) -> list[str]:
        """Return the methods that are not refused."""
        return [method for method in self.wanted.methods if method not in self.refused]

    def systems(self, method: str) -> list[str]:
        """Return what is trained in the run folder of a method."""
        settings = self.wanted.methods[method]
        beside = settings.privacy.enabled and settings.compare.without_privacy
        return [REFERENCE, "federated"] if method == self.wanted.first and beside else ["federated"]

    def _comparison(self, method: str, seed: int, observer: Callable[..., None]) -> Comparison:
        place = self.wanted.place(method, seed)
        return Comparison(self.wanted.settings(method, seed), place, self.systems(method), observer)

    def _whole(self, method: str, seed: int) -> bool:
        return whole(
            self.wanted.place(method, seed), self.wanted.settings(method, seed), self.systems(method)
        )

    def trained(self, method: str, seed: int, console: Console) -> None:
        """Train what is missing of one run."""
        with Display(console) as display:
            comparison = self._comparison(method, seed, display)
            comparison.prepare()
            comparison.run()

    def complete(self, console: Console) -> None:
        """Do what takes all runs; here nothing."""

    def facts(self) -> Facts:
        """Return what ``summary.json`` says."""
        summaries = {method: self.summaries(method) for method in self.ran()}
        first = summaries[self.wanted.first]
        runs = {name: [each["systems"]["federated"] for each in found] for name, found in summaries.items()}
        without = [each["systems"].get(REFERENCE) for each in first]
        settings = self.wanted.methods[self.wanted.first]
        return {
            "name": settings.name,
            "study": self.kind,
            "data": first[0]["data"],
            "seeds": list(self.wanted.seeds),
            "order": list(runs),
            "refused": self.refused,
            **table(runs, None if None in without else without),
        }

    @staticmethod
    def write_page(folder: Path, facts: Facts) -> Path:
        """Write the page, and return its path."""
        return write_page(folder, facts)

    def summaries(self, method: str) -> list[dict[str, Any]]:
        """Return what each seed's run of a method came to: its ``data`` and ``systems``."""
        places = [self.wanted.place(method, seed) for seed in self.wanted.seeds]
        return [_summary(place) for place in places]


def whole(place: Path, settings: Settings, systems: list[str]) -> bool:
    """Whether a run has ended with these settings; with others it is looked at closely, and may be refused."""
    if not (place / "config.yaml").exists() or not RunFolder(place).complete:
        return False
    plan = RunFolder(place).read_json("plan.json")
    same = (place / "config.yaml").read_text() == OmegaConf.to_yaml(OmegaConf.structured(settings))
    return same and plan.get("systems") == systems


def _summary(place: Path) -> dict[str, Any]:
    with reading(place / "summary.json", "Delete that folder to run it again."):
        found = RunFolder(place).read_json("summary.json")
        return {"data": found["data"], "systems": found["systems"]}


def _silent(record: dict[str, Any]) -> None:
    """Take a record and show nothing: nothing runs yet."""
