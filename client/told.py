"""What the coordinator tells every site with a round's question, besides the weights: public numbers of that round."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.strict import parse, require
from fer_models.errors import ConfigError, EngineError

CURE = "Run the same version of FedFER everywhere."


@dataclass(frozen=True)
class Told:
    """Public numbers of a round.

    Attributes
    ----------
    prior : shares of the classes, where the loss needs them and the plan does not name them.
    strength : lambda of the round, its ramp included.
    weights : (G + 1) rows of C: weight of a picture by group and class, in (0, 1]; the last row is of those whose
        group is undisclosed. Empty where all weigh 1.
    balance : (G,), weight of a picture in the critic's own loss by group, in (0, 1].
    means : mean weight over all pictures of the run, of the net's loss and of the critic's; what the sites divide by.
    """

    prior: tuple[float, ...] = ()
    strength: float = 0.0
    weights: tuple[tuple[float, ...], ...] = ()
    balance: tuple[float, ...] = ()
    means: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        given = (*self.prior, *self.balance, *self.means, *(each for row in self.weights for each in row))
        require(
            all(0 < each <= 1 for each in given), "numbers that are no shares and no weights", "told", CURE
        )
        require(0 <= self.strength < math.inf and len(self.means) == 2, "numbers of no round", "told", CURE)

    def require_shape(self, groups: int, classes: int) -> None:
        """Refuse weights for other groups or classes than the plan's.

        Raises
        ------
        ConfigError : they are.
        """
        rows = {len(row) for row in self.weights}
        good = len(self.weights) in (0, groups + 1) and rows <= {classes} and len(self.balance) in (0, groups)
        require(good, f"weights for other than {groups} groups and {classes} classes", "told", CURE)

    @property
    def steers(self) -> bool:
        """Whether anything is told besides shares of classes."""
        return bool(self.weights or self.balance or self.strength)

    @property
    def text(self) -> str:
        """The numbers as JSON, empty where nothing is told."""
        if not self.steers:
            return json.dumps(list(self.prior)) if self.prior else ""
        return json.dumps(asdict(self))

    @property
    def binding(self) -> bytes:
        """What the noise of a round is bound to, besides the weights."""
        if not self.steers:
            return repr(self.prior).encode() if self.prior else b""
        return self.text.encode()


NOTHING = Told()


def read_told(text: str, longest: int) -> Told:
    """Return the numbers of a text that :attr:`Told.text` wrote.

    Raises
    ------
    EngineError : it holds none.
    """
    try:
        given: Any = json.loads(text) if len(text) <= longest else None
        if isinstance(given, Sequence) and not isinstance(given, str):
            given = {"prior": given}
        return parse(Told, given, "told")
    except (ValueError, RecursionError, ConfigError) as error:
        raise EngineError("public numbers of a round that are none", cure=CURE) from error
