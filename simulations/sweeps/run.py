"""``fedfer compare experiment=methods`` and ``experiment=sweeps``: run every cell, and leave tables and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from fer_models.errors import ConfigError, PartitionError, PrivacyError, SecureAggregationError, TrainingError
from server.report import page as report
from server.run_folder import RunFolder, write_text
from simulations.comparison import Comparison
from simulations.display import Display
from simulations.settings import Settings
from simulations.study.page import PAGE
from simulations.study.run import Study, carry_out, whole
from simulations.study.table import Facts
from simulations.sweeps.cells import TUNING, Asked, Cell, Kind, asked
from simulations.sweeps.facts import COLUMNS, CSV, MARKDOWN, curve_of, figures_of, said, to_csv, to_markdown
from simulations.sweeps.picture import curves, moves

PICTURE = "picture.svg"
"""The picture of a sweep, in its folder."""

LEFT_OUT = (ConfigError, PartitionError, PrivacyError, SecureAggregationError, TrainingError)
"""Errors of a cell that leave the others as they are."""

TEMPLATES = Path(__file__).parent / "templates"


def run(words: list[str], kind: Kind) -> int:
    """Run a sweep, print its table, and say where its files are."""
    return carry_out(Sweep(asked(words, kind)), show)


def show(facts: Facts, console: Console) -> None:
    """Print the figures of all cells, and what was left out."""
    table = Table("group", "line", "at", *COLUMNS.values(), title_justify="left")
    for found in facts["systems"].values():
        table.add_row(found["group"], found["line"], found["name"], *(said(found, key) for key in COLUMNS))
    console.print(table)
    for name, reason in facts["refused"].items():
        console.print(f"left out: {name}: {reason}", highlight=False, soft_wrap=True, markup=False)


class Sweep(Study):
    """A study whose methods are the cells of a sweep; where a cell has rates to choose from, runs of their own choose.

    A rate is chosen by balanced accuracy, with a seed whose pictures are none of the table's.
    """

    kind = "sweep"
    wanted: Asked

    def __init__(self, wanted: Asked) -> None:
        super().__init__(wanted)
        self._chosen: dict[str, str] = {}

    @property
    def identity(self) -> Facts:
        """What makes two sweeps the same: methods and sweeps share no folder, as their tables have the same names."""
        return {"study": self.kind, "command": self.wanted.kind.word}

    def prepare(self, console: Console) -> None:
        """Try the first cell; the others are tried when their turn comes, for trying all takes minutes."""
        del console
        if not self._whole(self.wanted.first, self.wanted.seeds[0]):
            self._comparison(self.wanted.first, self.wanted.seeds[0], _silent).prepare()

    def run(self, console: Console) -> Facts:
        """Choose rates, run what is missing, and leave the files; see :meth:`simulations.study.run.Study.run`."""
        first = self.wanted.methods[self.wanted.first]
        opened = RunFolder(self.wanted.folder)
        opened.open(self.identity, OmegaConf.to_yaml(OmegaConf.structured(first)))
        methods = dict(self.wanted.methods)
        for number, (key, choices) in enumerate(self.wanted.choices.items(), 1):
            console.print(f"{number}/{len(self.wanted.choices)} choosing a rate for {key}", highlight=False)
            tried = [self._tried(key, i, settings, console) for i, settings in enumerate(choices)]
            best = tried.index(max(tried))
            self._chosen[key] = self.wanted.cells[key].choices[best]
            methods[key] = self.wanted.options[key][best]
        self.wanted = replace(self.wanted, methods=methods)
        return super().run(console)

    def _tried(self, key: str, index: int, settings: Settings, console: Console) -> float:
        """Return the balanced accuracy of a cell with one of its choices, 0 where training diverges."""
        place = self.wanted.folder / "tuning" / f"{key}-{index}"
        if not whole(place, settings, ["federated"]):
            try:
                with Display(console) as display:
                    comparison = Comparison(settings, place, ["federated"], display)
                    comparison.prepare()
                    comparison.run()
            except TrainingError:
                return 0.0
        return float(
            RunFolder(place).read_json("summary.json")["systems"]["federated"]["balanced_accuracy"] or 0.0
        )

    def trained(self, method: str, seed: int, console: Console) -> None:
        """Train what is missing of one run; a cell that cannot run, or that ends, is left out, with the reason."""
        if method in self.refused:
            return
        try:
            super().trained(method, seed, console)
        except LEFT_OUT as error:
            self.refused[method] = str(error)
            console.print(
                f"warning: {method} is left out: {error}", highlight=False, soft_wrap=True, markup=False
            )

    def systems(self, method: str) -> list[str]:
        """Return what is trained of a cell: the federated system alone."""
        del method
        return ["federated"]

    def facts(self) -> Facts:
        """Return what ``summary.json`` says."""
        ran = {key: self.summaries(key) for key in self.ran()}
        first, wanted = next(iter(ran.values())), self.wanted
        systems = {
            key: self._cell(wanted.cells[key], [each["systems"]["federated"] for each in found])
            for key, found in ran.items()
        }
        groups = {found["group"] for found in systems.values()}
        return {
            "name": next(iter(wanted.methods.values())).name,
            "study": self.kind,
            "command": wanted.kind.word,
            "data": first[0]["data"],
            "seeds": list(wanted.seeds),
            "tuning_seed": TUNING if self._chosen else None,
            "order": list(systems),
            "groups": {name: axis for name, axis in wanted.kind.groups.items() if name in groups},
            "curves": wanted.kind.curves,
            "refused": self.refused,
            "systems": systems,
        }

    def _cell(self, cell: Cell, found: list[Facts]) -> Facts:
        made = figures_of(cell, found) | {"chosen": self._chosen.get(cell.key, "")}
        if self.wanted.kind.curves:
            made["curve"] = curve_of([self.wanted.place(cell.key, seed) for seed in self.wanted.seeds])
        return made

    @staticmethod
    def write_page(folder: Path, facts: Facts) -> Path:
        """Write the picture, the tables and the page, and return the page's path."""
        draw: Callable[[Facts], str] = curves if facts["curves"] else moves
        picture = draw(facts)
        write_text(folder / PICTURE, picture)
        write_text(folder / MARKDOWN, to_markdown(facts))
        write_text(folder / CSV, to_csv(facts["systems"]))
        rows = [
            (found["group"], found["line"], found["name"], [said(found, key) for key in COLUMNS])
            for found in facts["systems"].values()
        ]
        template = report.environment(TEMPLATES).get_template("sweep.html.jinja")
        page = template.render(facts=facts, picture=Markup(picture), names=list(COLUMNS.values()), rows=rows)
        write_text(folder / PAGE, page)
        return folder / PAGE


def _silent(record: Facts) -> None:
    """Take a record and show nothing: nothing runs yet."""
