"""``fedfer compare experiment=study``: climb the ladder with every seed, and leave a table and a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fer_models.errors import ModelError
from server.run_folder import RunFolder, reading, write_text
from simulations.display import Display
from simulations.ladder.edge import make_edge
from simulations.ladder.files import MARKDOWN, PICTURE, to_markdown, to_svg
from simulations.ladder.page import write_page
from simulations.ladder.rungs import DEBIASED, INT8, RUNGS, Rung, asked
from simulations.ladder.show import show
from simulations.ladder.table import CSV, ladder_csv, ladder_table
from simulations.privacy_audit.canary_run import RESULT
from simulations.privacy_audit.finished import FinishedRun
from simulations.study.run import Study, carry_out
from simulations.study.table import Facts


def run(words: list[str]) -> int:
    """Climb, print the table and write the page."""
    return carry_out(Ladder(asked(words)), show)


class Ladder(Study):
    """A study whose methods are the trainings of the rungs; a training may give several rungs."""

    kind = "ladder"

    @staticmethod
    def write_page(folder: Path, facts: Facts) -> Path:
        """Write the page, the tables and the picture, and return the page's path."""
        for name, text in ((CSV, ladder_csv), (MARKDOWN, to_markdown), (PICTURE, to_svg)):
            write_text(folder / name, text(facts))
        return write_page(folder, facts)

    def systems(self, method: str) -> list[str]:
        """Return what is trained in the run folder of a training."""
        return [rung.system for rung in RUNGS if rung.training == method]

    def complete(self, console: Console) -> None:
        """Audit the private nets of the first seed, and make the eight-bit nets."""
        for training in self.ran():
            if self.wanted.methods[training].privacy.enabled:
                self._audit(training, console)
        for seed in self.wanted.seeds:
            try:
                settings, place = self.wanted.settings(self._last, seed), self.wanted.place(INT8, seed)
                make_edge(self.wanted.place(self._last, seed), settings, place)
            except ModelError as error:
                self.refused[INT8] = str(error)
                console.print(f"warning: {INT8} is left out: {error}", highlight=False, soft_wrap=True)
                return

    @property
    def _last(self) -> str:
        """The training whose net goes to the edge."""
        return self.ran()[-1]

    def _audit(self, training: str, console: Console) -> None:
        place = self.wanted.place(training, self.wanted.seeds[0])
        if RunFolder(place).read_json(RESULT) is None:
            console.print(f"membership inference on {place.name}", highlight=False)
            with Display(console) as display:
                FinishedRun(place, [], display).run()

    def facts(self) -> Facts:
        """Return what ``summary.json`` says."""
        summaries = {name: self.summaries(name) for name in self.ran()}
        if INT8 not in self.refused:
            summaries[INT8] = self.summaries(INT8)
        rungs = [rung for rung in RUNGS if rung.training in summaries]
        runs = {
            rung.key: [each["systems"][rung.system] for each in summaries[rung.training]] for rung in rungs
        }
        settings = self.wanted.methods[self.wanted.first]
        found = ladder_table(runs)
        for rung in rungs:
            told = {"name": rung.name, "what": rung.what, "audited": self._audited(rung)}
            found["systems"][rung.key] |= told
        return {
            "name": settings.name,
            "study": self.kind,
            "data": summaries[self.wanted.first][0]["data"],
            "seeds": list(self.wanted.seeds),
            "order": list(runs),
            "fairness": self.wanted.methods[DEBIASED].fairness.method,
            "edge_of": self._last,
            "sizes": _sizes(summaries.get(INT8)),
            "refused": self.refused,
            **found,
        }

    def _audited(self, rung: Rung) -> Facts | None:
        """Return what the audit of the first seed's net found, None where nothing is claimed of its training."""
        if rung.system != "federated" or not self.wanted.methods[rung.training].privacy.enabled:
            return None
        place = self.wanted.place(rung.training, self.wanted.seeds[0])
        with reading(place / RESULT, "Delete it to audit again."):
            found = RunFolder(place).read_json(RESULT)
            kept = {
                key: found[key] for key in ("audited_epsilon", "claimed_epsilon", "confidence", "verdict")
            }
        return {**kept, "seed": self.wanted.seeds[0]}


def _sizes(edge: list[Facts] | None) -> Facts | None:
    if edge is None:
        return None
    return {key: edge[0]["systems"][INT8][key] for key in ("net_bytes", "model_bytes")}
