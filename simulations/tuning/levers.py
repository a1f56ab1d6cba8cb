"""The levers of private training: what can be chosen, what a choice costs, and which choices lie beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

EPOCHS = 10.0
"""Passes of ``pretrain=faces`` over its faces."""

FORWARD = {"hog_linear": 0.4e-3, "fer_nano": 0.10e-3, "fer_small": 0.35e-3}
"""CPU seconds to make features of one picture of 48 pixels."""

NETS = tuple(FORWARD)
"""Nets whose levers are known."""

STEP = {
    ("hog_linear", "all"): 1.0,
    ("fer_nano", "head"): 1.1,
    ("fer_nano", "last_quarter"): 1.8,
    ("fer_nano", "all"): 3.5,
    ("fer_small", "head"): 1.1,
    ("fer_small", "last_quarter"): 1.6,
    ("fer_small", "all"): 3.2,
}
"""Cost of a picture in a private step, in units of :data:`FORWARD`."""

ALWAYS = 4.0
"""CPU seconds of a trial besides: settings, the search for the noise, accounting."""

COUNTS = 0.1, 0.5
"""Label counts get this share of the target epsilon, and no more than this."""


@dataclass(frozen=True)
class Levers:
    """One choice.

    Attributes
    ----------
    net, scope, pretrained : what learns, and what it starts from.
    rate, rounds : of Poisson sampling, and steps.
    learning_rate : of the server's Adam.
    clip : of a unit's gradient.
    tau : of the adjustment for the shares of the classes, 0 for none.
    server : the recipe that the server's other settings come from.
    """

    net: str
    scope: str = "all"
    pretrained: bool = False
    rate: float = 0.2
    rounds: int = 60
    learning_rate: float = 0.05
    clip: float = 1.0
    tau: float = 0.0
    server: str = "fedadam_private"

    @property
    def kind(self) -> tuple[str, str, bool]:
        """The net, what of it learns, and whether it is pretrained."""
        return self.net, self.scope, self.pretrained

    @property
    def name(self) -> str:
        """A name for people."""
        start = " from drawn faces" if self.pretrained else ""
        return f"{self.net}{start}" + ("" if self.scope == "all" else f", {self.scope}")

    def words(self) -> tuple[str, ...]:
        """Return the settings, to be given with those of :meth:`private_words`."""
        found = [f"model={self.net}", "local=private", f"server={self.server}"]
        found += [f"local.scope={self.scope}"] if self.scope != "all" else []
        found += [f"local.rate={self.rate:g}", f"server.rounds={self.rounds}"]
        found += [f"server.learning_rate={self.learning_rate:g}"]
        found += [f"server.adjustment={self.tau:g}"] if self.tau else []
        return tuple(found)

    def private_words(self, epsilon: float) -> tuple[str, ...]:
        """Return the settings of privacy for a target epsilon."""
        found = [f"privacy.target_epsilon={epsilon:g}", f"privacy.clip={self.clip:g}"]
        share, most = COUNTS
        found += [f"privacy.counts_epsilon={min(most, share * epsilon):g}"] if self.tau else []
        return tuple(found)

    def seconds(self, size: int, trained: int, judged: int) -> float:
        """Return about how many CPU seconds a trial takes.

        Parameters
        ----------
        size : of a picture in pixels.
        trained, judged : training and test pictures of all sites.
        """
        each = FORWARD[self.net] * (size / 48) ** 2
        features = each * (trained + 2 * judged)
        step = trained * self.rate * self.rounds * each * STEP[self.net, self.scope]
        kept = self.net == "hog_linear" or self.scope == "head"
        return ALWAYS + features + (0.05 * step if kept else step)

    def start_seconds(self, size: int, faces: int) -> float:
        """Return about how many CPU seconds it takes to learn what it starts from; once for all trials."""
        each = 3.2 * FORWARD[self.net] * (size / 48) ** 2
        return each * faces * EPOCHS if self.pretrained else 0.0


FIRST = (
    Levers("hog_linear"),
    Levers("fer_nano", "head", pretrained=True),
    Levers("fer_nano", "last_quarter", pretrained=True, learning_rate=0.01),
    Levers("fer_small", "head", pretrained=True),
    Levers("fer_nano", learning_rate=0.005),
    Levers("fer_small", "last_quarter", pretrained=True, learning_rate=0.005),
    Levers("fer_nano", pretrained=True, learning_rate=0.003),
    Levers("fer_small", pretrained=True, learning_rate=0.002),
)
"""What a search begins with, in this order, as far as its budget goes."""


def first(noise: str, nets: Sequence[str], *, pretraining: bool) -> list[Levers]:
    """Return what a search begins with: of these nets, or of all, for a mode of noise.

    With shared noise the recipe is that of ``server=fedadam_distributed``, which is made for less noise.
    """
    found = [
        levers for levers in FIRST if levers.net in (nets or NETS) and (pretraining or not levers.pretrained)
    ]
    if noise == "site":
        return found
    return [
        replace(
            levers,
            server="fedadam_distributed",
            rounds=120,
            clip=2.0,
            learning_rate=float(f"{0.8 * levers.learning_rate:.2g}"),
        )
        for levers in found
    ]


def beside(levers: Levers) -> Iterator[Levers]:
    """Yield the choices that differ in one lever."""
    for factor in (0.4, 2.5):
        yield replace(levers, learning_rate=float(f"{levers.learning_rate * factor:.2g}"))
    slower = float(f"{levers.learning_rate * 0.6:.2g}")
    yield replace(levers, rounds=levers.rounds * 2, learning_rate=slower)
    yield replace(levers, rounds=max(10, levers.rounds // 2))
    for factor in (0.3, 3.0):
        yield replace(levers, clip=float(f"{levers.clip * factor:.2g}"))
    if levers.rate < 0.5:
        yield replace(levers, rate=0.5)


def adjusted(levers: Levers) -> list[Levers]:
    """Return the levers with the logits adjusted for the shares of the classes, halfway and in full."""
    return [replace(levers, tau=tau) for tau in (0.5, 1.0)]
