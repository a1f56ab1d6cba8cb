"""The cells of a sweep: what each is, and the words that make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_models.errors import ConfigError
from simulations.compose import composed
from simulations.settings import Settings
from simulations.study import asked as study

TUNING = 100
"""Seed of the runs that choose a rate; its pictures, split and first weights are none of the sweep's."""

STARTING = 101
"""Seed of the drawn faces that a start is learned from: those of a run's own seed show the people of its test part."""

SCALE = ("server.rounds", "server.evaluate_every")
"""How long runs are, which the words may set for all cells although these tell it."""


def filed(name: str) -> str:
    """Return a name as files have it."""
    return "".join(each if each.isalnum() or each == "." else "_" for each in name).lower()


@dataclass(frozen=True)
class Cell:
    """One point of a sweep.

    Attributes
    ----------
    group : the panel that it belongs to.
    line : which of the panel's lines.
    name : what it is at, along the axis; for curves empty.
    words : make it, beside those of the experiment.
    choices : words of which one is chosen by a run with :data:`TUNING`; none for nothing to choose.
    """

    group: str
    line: str
    name: str
    words: tuple[str, ...]
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in files and on the command line."""
        return "-".join(filed(part) for part in (self.group, self.line, self.name) if part)


@dataclass(frozen=True)
class Kind:
    """A kind of sweep.

    Attributes
    ----------
    word : what asks for it on the command line.
    cells : all of it, in their order.
    groups : panel -> what its axis shows.
    seeds : where the command line names none.
    curves : its figures are shown round by round.
    """

    word: str
    cells: tuple[Cell, ...]
    groups: dict[str, str]
    seeds: tuple[str, ...]
    curves: bool


# Methods

LOCAL = {"1 step": (1, 192), "4 steps": (4, 48), "1 epoch": (16, 12)}
"""Work of a site in a round -> its steps, each on a sixteenth of its pictures, and rounds: 12 visits a picture."""

LOCAL_RATES = tuple(f"local.learning_rate={rate}" for rate in (0.03, 0.1, 0.3, 1.0))
MOMENTUM = tuple(f"server.learning_rate={rate}" for rate in (0.3, 1.0, 3.0, 10.0))
ADAPTIVE = tuple(f"server.learning_rate={rate}" for rate in (0.004, 0.015, 0.05, 0.15))

FEDERATED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "FedAvg": (("server=fedavg",), LOCAL_RATES),
    "FedAvgM": (("server=fedavgm",), MOMENTUM),
    "FedProx": (("server=fedavg", "local.proximal=0.1"), LOCAL_RATES),
    "SCAFFOLD": (("server=fedavg", "local.scaffold=true"), LOCAL_RATES),
    "FedAdam": (("server=fedadam",), ADAPTIVE),
    "FedYogi": (("server=fedyogi",), ADAPTIVE),
    "FedAdam, balanced softmax": (("server=fedadam", "fairness=logit_adjusted"), ADAPTIVE),
    "FedAdam from drawn faces": (
        (
            *("server=fedadam", "pretrain=faces", "pretrain.faces=1500", "pretrain.epochs=8"),
            f"pretrain.seed={STARTING}",
        ),
        ADAPTIVE,
    ),
}
"""A method -> its words, and the rates of which the best is taken."""


def _methods() -> Kind:
    cells = [
        Cell(
            *(group, line, ""),
            (
                *words,
                f"local.amount={steps}",
                f"server.rounds={rounds}",
                f"server.evaluate_every={max(1, rounds // 8)}",
            ),
            choices,
        )
        for group, (steps, rounds) in LOCAL.items()
        for line, (words, choices) in FEDERATED.items()
    ]
    return Kind(
        "experiment=methods", tuple(cells), dict.fromkeys(LOCAL, "round"), ("0", "1", "2"), curves=True
    )


# One setting at a time

PRIVATE = ("server=fedadam_private", "server.learning_rate=0.01", "privacy=dp", "aggregation=plain")
SHARED = (
    *("server=fedadam_distributed", "server.learning_rate=0.01", "local.rate=0.1"),
    *("privacy=distributed", "aggregation=secure"),
)


def _swept(group: str, line: str, key: str, values: Sequence[object], *words: str) -> list[Cell]:
    return [Cell(group, line, f"{value}", (*words, f"{key}={value}")) for value in values]


def _sweeps() -> Kind:
    useless = "privacy.allow_useless=true"
    epsilons = (1, 2, 4, 8, 16)
    cells = [
        *_swept("epsilon", "noise at each site", "privacy.target_epsilon", epsilons, *PRIVATE, useless),
        *_swept("epsilon", "shared noise, secure sum", "privacy.target_epsilon", epsilons, *SHARED, useless),
        Cell("epsilon", "noise at each site", "none", ()),
        *_swept("sites", "no privacy", "partition.sites", (3, 10, 30, 100, 300, 1000), "aggregation=plain"),
        *_swept("sites", "epsilon 8, shared noise", "partition.sites", (3, 10, 30, 100), *SHARED, useless),
        *_swept("skew", "no privacy", "partition.alpha", (0.05, 0.1, 0.3, 1, 10)),
        *_swept(
            *("participation", "no privacy", "server.participation", (0.1, 0.25, 0.5, 1)),
            *("partition.sites=40", "aggregation=plain"),
        ),
        *_swept(
            *("drop-out", "secure sum", "engine.dropout", (0, 0.01, 0.02, 0.05)),
            *("partition.sites=12", "aggregation=secure"),
        ),
        *_swept(
            *("opt-out", "reweighing", "fairness.opt_out", (0, 0.25, 0.5, 0.75)),
            *("partition.sites=12", "aggregation=secure", "fairness=reweighing"),
        ),
    ]
    groups = {
        "epsilon": "epsilon, 10 sites",
        "sites": "sites that share the same pictures",
        "skew": "alpha of the sites' class shares, large is alike",
        "participation": "share of 40 sites a round",
        "drop-out": "share of messages lost",
        "opt-out": "share of sites that tell no group",
    }
    return Kind("experiment=sweeps", tuple(cells), groups, ("0", "1", "2"), curves=False)


KINDS = (_methods(), _sweeps())


@dataclass(frozen=True)
class Asked(study.Asked):
    """A sweep, as it was asked for: a study whose methods are its cells.

    Attributes
    ----------
    kind : of sweep.
    cells : key -> cell.
    choices : key -> settings of each choice, with :data:`TUNING` and one evaluation, at the end.
    options : key -> settings of each choice, with the first seed.
    """

    kind: Kind
    cells: dict[str, Cell]
    choices: dict[str, tuple[Settings, ...]]
    options: dict[str, tuple[Settings, ...]]


def kind_of(words: Sequence[str]) -> Kind | None:
    """Return the kind of sweep that words ask for, None for none."""
    return next((kind for kind in KINDS if kind.word in words), None)


def asked(words: Sequence[str], kind: Kind) -> Asked:
    """Return the cells and seeds of a sweep; ``only=A,B`` names groups of cells.

    Raises
    ------
    ConfigError : an unknown group, a choice or value that is a cell's own, a seed that is kept for something else,
        pictures on which rates cannot be chosen, or what :func:`simulations.compose.composed` refuses.
    """
    taken = ("server", "fairness", "privacy", "pretrain", "tolerance", "--multirun", "-m")
    for key in (*taken, "local") if kind.curves else taken:
        if any(word.partition("=")[0] == key for word in words):
            raise ConfigError(
                f"a sweep takes no {key}: its cells choose it",
                where="command line",
                cure="Leave it out, or give single values such as server.rounds=8, for all cells.",
            )
    groups = study.values_of(words, "only")
    for group in groups:
        if group not in kind.groups:
            known = ", ".join(kind.groups)
            raise ConfigError(f"unknown group {group!r}", where="only", cure=f"Use some of {known}.")
    seeds = study.seeds_of(words, kind.seeds)
    _require_free(seeds)
    rest = [word for word in words if word.partition("=")[0] not in ("only", "seed")]
    cells = {cell.key: cell for cell in kind.cells if not groups or cell.group in groups}
    first, last = _first(rest), _last(rest)
    _require_shared(last, kind.cells if kind.curves else tuple(cells.values()), every=kind.curves)

    def settings(cell: Cell, seed: int, choice: str = "") -> tuple[Settings, Path]:
        return composed([*first, *cell.words, *([choice] if choice else []), *last, f"seed={seed}"])

    made = {key: settings(cell, seeds[0]) for key, cell in cells.items()}
    if any(cell.choices for cell in cells.values()):
        _require_drawn(next(iter(made.values()))[0])
    options = {
        key: tuple(settings(cell, seeds[0], choice)[0] for choice in cell.choices)
        for key, cell in cells.items()
    }
    choices = {key: tuple(map(_tuning, found)) for key, found in options.items() if found}
    folder = next(iter(made.values()))[1]
    methods = {key: found for key, (found, _) in made.items()}
    return Asked(methods, seeds, folder, kind, cells, choices, options)


def _tuning(settings: Settings) -> Settings:
    """Return settings as a choice is tried with them."""
    server = replace(settings.server, evaluate_every=settings.server.rounds)
    return replace(settings, seed=TUNING, server=server)


def _require_free(seeds: Sequence[int]) -> None:
    """Refuse the seeds by which something is chosen or learned before: their people are in the test part then."""
    for seed in seeds:
        if seed in (TUNING, STARTING):
            raise ConfigError(
                f"seed {seed} is kept for choosing rates and for starts",
                where="seed",
                cure=f"Give others than {TUNING} and {STARTING}.",
            )


def _require_shared(words: Sequence[str], cells: Sequence[Cell], *, every: bool) -> None:
    """Refuse a value that would overwrite what tells cells apart.

    Parameters
    ----------
    every : a key that only some cells set tells them apart, too.
    """
    own = {choice.partition("=")[0] for cell in cells for choice in cell.choices}
    told: dict[str, list[str]] = {}
    for word in (word for cell in cells for word in _last(cell.words)):
        key, _, value = word.partition("=")
        told.setdefault(key, []).append(value)
    own |= {
        key for key, values in told.items() if len(set(values)) > 1 or (every and len(values) < len(cells))
    }
    for key in (word.partition("=")[0].lstrip("+") for word in words):
        if key in own and key not in SCALE:
            raise ConfigError(
                f"a sweep takes no {key}: its cells choose it",
                where="command line",
                cure="Leave it out, or leave the cells that choose it out with only=.",
            )


def _require_drawn(settings: Settings) -> None:
    """Refuse pictures that are the same for every seed: a rate would be chosen by the test part of the table."""
    if settings.data.reader != "faces":
        raise ConfigError(
            f"rates are chosen with pictures of their own, and {settings.data.reader} has no others",
            where="data",
            cure="Leave it out: data=faces.",
        )


def _first(words: Sequence[str]) -> list[str]:
    """Return what a cell's words stand behind: the experiment and choices of groups."""
    return [word for word in words if "." not in word.partition("=")[0]]


def _last(words: Sequence[str]) -> list[str]:
    """Return single values, which hold for all cells."""
    return [word for word in words if "." in word.partition("=")[0]]
