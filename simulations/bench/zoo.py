"""Every net of the zoo for the same processor minutes, on pictures of FER2013 that none of them saw.

FER2013's training part alone, with a fifth of its pictures held out without copies on both sides. Each net is trained
on FER+'s votes, on the original labels, or on either, by the recipe of :mod:`simulations.bench.zoo_training`. The
classical systems of :mod:`simulations.classical` stand in the same table; they take the time that they take. What is
tried out is judged on a fifth of the *training* pictures (``part=validation``), so that the test part chooses nothing.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from client.evaluation import count, evaluate
from client.strict import nearest, parse
from fer_models.checkpoints import save_model
from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError
from fer_models.memory import keep_freed_memory
from fer_models.metrics import summarise
from fer_models.readers import read
from fer_models.samples import Samples
from fer_models.splits import hold_out
from fer_models.zoo import NETS, parameter_count
from server.run_folder import write_text
from simulations import classical
from simulations.bench.fer2013 import data_of
from simulations.bench.run import Figures, Options
from simulations.bench.zoo_page import write_page
from simulations.bench.zoo_rows import FILE, Row, load_rows, origin, rows_of, same, save_rows
from simulations.bench.zoo_training import Recipe, Training, changed, new_net
from simulations.display import new_console
from simulations.threads import one_thread

RULES = {"votes": "majority", "original": "original"}
"""Name of the targets -> rule of the reader."""

PARTS = ("test", "validation")
"""What nets are judged on: the fifth that is held out, or a fifth of the rest, which then trains nothing."""

FIGURES = ("accuracy", "balanced_accuracy", "worst_recall")

STATE = "state.safetensors"
"""File of a training that is not over."""

KNOWN = (*NETS, *classical.NAMES)
"""What ``nets=`` may name."""


@dataclass(frozen=True)
class Asked:
    """What is trained: nets, kinds of targets, processor minutes for each, how, and what it is judged on.

    Attributes
    ----------
    rows : file of figures, which is read and added to; None keeps none.
    train : whether to train what is not there yet.
    """

    nets: tuple[str, ...]
    targets: tuple[str, ...]
    minutes: float
    part: str
    recipe: Recipe
    rows: Path | None = None
    train: bool = True

    def row(self, system: str, kind: str) -> Row:
        """Return what says which training is meant, and the command that makes it again."""
        row: Row = {"system": system, "targets": kind, "part": self.part, "minutes": None, "recipe": None}
        words = [f"nets={system}", f"targets={kind}"]
        if system not in classical.NAMES:
            recipe = replace(self.recipe, rate=self.recipe.peak(system))
            row |= {"minutes": self.minutes, "recipe": asdict(recipe)}
            words += [f"minutes={self.minutes:g}", *changed(recipe)]
        if self.part != PARTS[0]:
            words.append(f"part={self.part}")
        return row | {"command": f"fedfer bench zoo {' '.join(words)} --data DIR"}

    def key(self, system: str, kind: str) -> str:
        """Return a name for one training, by which it is found again; it says the learning rate of a net as well."""
        row, words = self.row(system, kind), [system, kind]
        if row["recipe"] is not None:
            words += [f"{self.minutes:g}", *changed(Recipe(**row["recipe"]))]
        return "-".join([*words, *([self.part] if self.part != PARTS[0] else [])])


def bench(options: Options) -> Figures:
    """Train and judge; with ``--run-dir`` what is done is kept there, and the same command goes on from it, also in the
    midst of a net. With ``rows=FILE`` the figures are added to a file, whose rows are not trained again, and to a page
    beside it.

    Raises
    ------
    ConfigError : no folder of FER2013, or words that are not known.
    """
    wanted, console = asked(options.overrides), new_console()
    keep_freed_memory()
    figures: Figures = {"minutes": wanted.minutes}
    kept = [] if options.run_dir is None else rows_of(options.run_dir)
    kept = kept if wanted.rows is None else _told(wanted.rows, kept)
    with one_thread():
        for kind in wanted.targets:
            samples: Samples | None = None
            for name in wanted.nets:
                row = next((each for each in kept if same(each, wanted.row(name, kind))), None)
                if row is None and not wanted.train:
                    continue
                if row is None:
                    samples = (
                        samples if samples is not None else _samples(data_of(options), kind, wanted.part)
                    )
                    folder = None if options.run_dir is None else options.run_dir / wanted.key(name, kind)
                    row = trained(name, kind, samples, wanted, folder)
                    if wanted.rows is not None:
                        _told(wanted.rows, [row])
                record = row["figures"]
                figures |= {f"{name}_{kind}_{key}": value for key, value in record.items()}
                line = f"{name} {kind}: accuracy {record['accuracy']:.3f}, {record['cpu_seconds']:.0f} CPU s"
                console.print(line, highlight=False)
    return figures


def _told(file: Path, rows: list[Row]) -> list[Row]:
    found = save_rows(file, rows)
    write_page(file, found)
    return found


def asked(words: list[str]) -> Asked:
    """Read ``minutes=2``, ``nets=fer_nano,hog_svm``, ``targets=votes``, ``part=validation``, ``rows=FILE.json``,
    ``train=false`` and words of the recipe.

    All nets of the zoo and both kinds of targets where none are named.

    Raises
    ------
    ConfigError : another word, an unknown net or kind, or minutes that are none.
    """
    found = {"minutes": "10", "nets": ",".join(NETS), "targets": ",".join(RULES), "part": PARTS[0]}
    found |= {"rows": "", "train": "true"}
    recipe, own = {}, asdict(Recipe())
    for word in words:
        key, _, value = word.partition("=")
        if key in own:
            recipe[key] = value if isinstance(own[key], str) else _number(key, value)
        elif key in found:
            found[key] = value
        else:
            cure = nearest(key, [*found, *own])
            raise ConfigError(f"unknown word {word!r}", where="bench zoo", cure=cure)
    lists = {"nets": KNOWN, "targets": RULES}
    chosen = {key: tuple(found[key].split(",")) for key in lists}
    for key, known in lists.items():
        for each in chosen[key]:
            if each not in known:
                raise ConfigError(f"unknown {each!r}", where=key, cure=nearest(each, list(known)))
    for key, known in (("part", PARTS), ("train", ("true", "false"))):
        if found[key] not in known:
            raise ConfigError(f"{found[key]!r}", where=key, cure=f"Use one of {', '.join(known)}.")
    minutes = _number("minutes", found["minutes"])
    if not 0 < minutes < math.inf:
        raise ConfigError(f"{found['minutes']} minutes", where="minutes", cure="Write minutes=10.")
    chosen_recipe = parse(Recipe, recipe, "")
    rows, train = _rows_file(found["rows"]), found["train"] == "true"
    return Asked(chosen["nets"], chosen["targets"], minutes, found["part"], chosen_recipe, rows, train)


def _rows_file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if path.suffix != ".json":
        cure = "Write rows=zoo.json; the page zoo.md goes beside it."
        raise ConfigError(f"no name of a JSON file: {text!r}", where="rows", cure=cure)
    load_rows(path)
    return path


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        cure = "Write minutes=10." if key == "minutes" else "Give a number."
        raise ConfigError(f"no number: {text!r}", where=key, cure=cure) from error


def _samples(root: Path, kind: str, part: str) -> Samples:
    whole = read("fer2013", root, rule=RULES[kind])
    own = whole.rows("train")
    if not len(own):
        raise DataError("no row of the part Training", where=str(root), cure="Give the whole of fer2013.csv.")
    samples = hold_out(whole.take(own), 0.2, seed=0)
    if part == PARTS[0]:
        return samples
    return hold_out(samples.take(samples.rows("train")), 0.2, seed=1)


def trained(name: str, kind: str, samples: Samples, wanted: Asked, folder: Path | None) -> Row:
    """Train one system and return its row, with figures of the rows that were held out; a net is kept in ``folder``."""
    record, counts = (_classical if name in classical.NAMES else _net)(name, samples, wanted, folder)
    told = summarise(counts)
    record["test_rows"] = counts.rows
    for key in FIGURES:
        record[key] = told[key]
        record[f"{key}_low"], record[f"{key}_high"] = told[f"{key}_interval"]
    row = wanted.row(name, kind) | {"figures": record} | origin()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, json.dumps(row, indent=1, allow_nan=False) + "\n")
        (folder / STATE).unlink(missing_ok=True)
    return row


def _net(name: str, samples: Samples, wanted: Asked, folder: Path | None) -> tuple[dict[str, float], Counts]:
    recipe, peak = wanted.recipe, wanted.recipe.peak(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout and mixtures
        flat, spec = new_net(name, samples, recipe)
        kept = None if folder is None else folder / STATE
        training = Training(flat, samples, recipe, peak, kept)
        training.run(60 * wanted.minutes)
    counts = evaluate(flat.module, samples, samples.rows("test"), {}, device=torch.device("cpu"), prove=True)
    record: dict[str, float] = {"parameters": parameter_count(flat.module), "pictures": training.pictures}
    record |= {"steps": training.steps, "rate": peak, "cpu_seconds": training.spent}
    if folder is not None:
        facts = {
            "data": samples.name,
            "training": {**asdict(recipe), "rate": peak, "CPU seconds": training.spent},
        }
        save_model(folder / "model", flat.module, spec, labels=samples.labels, facts=facts)
    return record, counts


def _classical(name: str, samples: Samples, _: Asked, __: Path | None) -> tuple[dict[str, float], Counts]:
    start, rows = time.process_time(), samples.rows("train")
    predicted = classical.predictions(name, samples, rows, samples.rows("test"), 0)
    counts = count(samples, samples.rows("test"), predicted, {})
    return {"pictures": len(rows), "cpu_seconds": time.process_time() - start}, counts
