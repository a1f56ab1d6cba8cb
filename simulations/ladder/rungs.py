"""The rungs of the ladder, and which of them with which seeds the command line asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fer_models.errors import ConfigError
from simulations.compose import composed
from simulations.study.asked import Asked, seeds_of

WORD = "experiment=study"
"""What asks for the ladder."""

SEEDS = ("0", "1", "2", "3", "4")
"""Seeds where the command line names none."""

DEBIASED, INT8 = "debiased", "int8"

TRAININGS: dict[str, tuple[str, ...]] = {
    "fedavg": ("server=fedavg", "server.rounds=20", "local=epoch", "privacy=none", "aggregation=plain"),
    "site_noise": (
        *("server=fedadam_private", "server.learning_rate=0.01", "local=private"),
        *("privacy=dp", "aggregation=plain"),
    ),
    "distributed_noise": (
        *("server=fedadam_distributed", "server.learning_rate=0.01", "local=private", "local.rate=0.1"),
        *("privacy=distributed", "aggregation=secure"),
    ),
}
"""A training, which has a folder for each seed -> the words that make it."""

TRAININGS[DEBIASED] = TRAININGS["distributed_noise"]

FAIRNESS = "critic_private"
"""The method of the debiased rung where the command line names none."""

ONCE = "server.evaluate_every=1000"
"""The test pictures are counted after the last round alone."""

OWN = ("server", "local", "privacy", "aggregation")
"""Groups of settings that each rung chooses by itself; single values of them may be given, for all rungs."""


@dataclass(frozen=True)
class Rung:
    """One step.

    Attributes
    ----------
    key, name : in files, and for people.
    training, system : a training, and the system of its run folder that the figures are of.
    what : is new in it.
    """

    key: str
    name: str
    training: str
    system: str
    what: str


RUNGS = (
    Rung("pooled", "pooled", "fedavg", "pooled", "one model on everybody's pictures in one place"),
    Rung("local_only", "local only", "fedavg", "local_only", "each site alone; the mean of their models"),
    Rung("fedavg", "FedAvg", "fedavg", "federated", "the sites together, a pass over their pictures a round"),
    Rung(
        *("private_recipe", "the private recipe, no noise", "site_noise", "federated_without_privacy"),
        "the way of training that privacy needs: one step a round, an adaptive server, no augmentation",
    ),
    Rung(
        *("site_noise", "+ DP, noise at each site", "site_noise", "federated"),
        "clipped pictures and noise: what a site sends is private by itself",
    ),
    Rung(
        *("distributed_noise", "+ DP, shared noise, secure sum", "distributed_noise", "federated"),
        "the sites share the noise, and the coordinator learns their sum alone; that only is private",
    ),
    Rung(
        *(DEBIASED, "+ debiasing", DEBIASED, "federated"),
        "a method of fair training, paid from the same epsilon",
    ),
    Rung(*(INT8, "+ INT8 for the edge", INT8, INT8), "the same net in eight bits, for a box without a GPU"),
)


def is_ladder(words: Sequence[str]) -> bool:
    """Whether words ask for the ladder."""
    return WORD in words


def asked(words: Sequence[str]) -> Asked:
    """Return the trainings and seeds of a ladder, as a study of trainings in place of methods.

    Raises
    ------
    ConfigError : a choice that is the rungs' own, several values of a setting, limits, a mistake in the seeds, or
        what :func:`simulations.compose.composed` refuses.
    """
    keys = [word.partition("=")[0] for word in words]
    for key in (*OWN, "tolerance", "--multirun", "-m"):
        if key in keys:
            what = "each rung chooses it" if key in OWN else "the ladder is one table over its seeds"
            cure = (
                f"Leave it out, or give single values such as {key}.KEY=VALUE."
                if key in OWN
                else "Leave it out."
            )
            raise ConfigError(f"the ladder takes no {key}: {what}", where="command line", cure=cure)
    if any(word == "fairness=none" for word in words):
        cure = f"Leave it out for fairness={FAIRNESS}, or name a method."
        raise ConfigError("a rung of debiasing without a method", where="fairness", cure=cure)
    seeds = seeds_of(words, SEEDS)
    fair = [word for word in words if word.startswith("fairness")]
    rest = [word for word in words if word not in fair and not word.startswith("seed=")]
    if not any(word.startswith("fairness=") for word in fair):
        fair = [f"fairness={FAIRNESS}", *fair]
    found = {
        name: composed([ONCE, *own, *(fair if name == DEBIASED else ()), *rest, f"seed={seeds[0]}"])
        for name, own in TRAININGS.items()
    }
    folder = next(iter(found.values()))[1]
    return Asked({name: settings for name, (settings, _) in found.items()}, seeds, folder)
