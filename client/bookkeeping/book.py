"""The book of one backward: what every layer says of each unit's gradient, and the clipped sum that comes of it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from client.bookkeeping.products import squared_norms
from client.bookkeeping.units import Units
from fer_models.errors import PrivacyError

if TYPE_CHECKING:  # which writes to the book
    from client.bookkeeping.first import First

NOTHING = 1e-6
"""Added to a norm before the clip is divided by it, as in Opacus."""

SHORT = 1024
"""Numbers of a row up to which a call costs more than copying the row."""

WeightedSum = Callable[[Tensor, Tensor | None], Tensor]
"""(weight of each unit (units,), units that count as none, bool, or None) -> gradient (P,) in the flat order."""


Call = tuple[int, str, tuple[str, ...]]
"""(torch functions called before it, layer, names of its parameters). A net does the same for any batch; where a table
of constants is as long as the batch by chance, and would be taken for it, positions tell."""


def flat_order(gradients: Tensor) -> Tensor:
    """Return gradients (rows, *shape) as rows (rows, P) in the flat order of :mod:`fer_models.flat`."""
    return gradients.permute(0, 1, 3, 4, 2).flatten(1) if gradients.dim() == 5 else gradients.flatten(1)


def from_flat_order(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return rows (..., P) in the flat order as gradients (..., *shape)."""
    if len(shape) != 4:
        return rows.view(*rows.shape[:-1], *shape)
    out, fan_in, height, width = shape
    return rows.view(*rows.shape[:-1], out, height, width, fan_in).movedim(-1, -3)


class Source:
    """A trainable tensor as a layer uses it: a parameter, or something computed from parameters alone."""

    def __init__(self, tensor: Tensor, leaves: tuple[nn.Parameter, ...]) -> None:
        self.tensor, self.leaves = tensor, leaves

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter itself."""
        return self.tensor is self.leaves[0]

    @property
    def values(self) -> Tensor:
        """Its numbers, without a graph."""
        return self.tensor.detach()


class Book:
    """Collects, during one forward and one backward, what the clipped sum needs.

    Layers write to it (:mod:`client.bookkeeping.layers`) while it is open for a batch.

    Parameters
    ----------
    parameters : name -> parameter that learns, all of them.
    parts : name -> the part, from 0, with which a parameter may be clipped apart from the others.

    Attributes
    ----------
    units : of the open batch.
    anchor : a scalar that requires a gradient, so that the first layer's backward is called.
    position : torch functions called since the net was.
    calls : what each layer so far was asked for, and where the net ended.
    schedule : positions at which a proven net calls its layers; None while it is tried.
    first : the convolution of pictures that was called last, until a norm takes it.
    followed : positions of such convolutions that a norm followed at once.
    waiting : positions at which such a convolution waits for its norm.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], parts: dict[str, int]) -> None:
        self._part = {id(p): parts[name] for name, p in parameters.items()}
        self.names = {id(p): name for name, p in parameters.items()}
        self.schedule: frozenset[int] | None = None
        self.waiting: frozenset[int] = frozenset()
        self._parameters = parameters
        device = next(iter(parameters.values())).device if parameters else None
        self.anchor = torch.zeros((), requires_grad=True, device=device)
        self.open(Units(()))

    def open(self, units: Units) -> None:
        """Begin a batch with these units; whatever a broken step has left behind is dropped."""
        self.units = units
        self._uses: Counter[int] = Counter()
        self.position = 0
        self.calls: list[Call] = []
        self._rows: dict[int, Tensor] = {}
        self._derived: list[tuple[Source, Tensor]] = []
        self._squares: dict[int, Tensor] = {}
        self._sums: list[tuple[nn.Parameter, WeightedSum]] = []
        self.first: First | None = None
        self.followed: set[int] = set()

    def leave_out(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let somebody else serve some parameters, who hands their rows in with :meth:`keep`."""
        for parameter in parameters:
            self.names.pop(id(parameter), None)

    def source(self, tensor: object) -> Source | None:
        """Return where a tensor's gradient belongs, None when it does not learn."""
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return None
        if id(tensor) in self.names:
            return Source(tensor, (tensor,))  # type: ignore[arg-type]
        return Source(tensor, found) if (found := self._leaves(tensor)) else None

    def _leaves(self, tensor: Tensor) -> tuple[nn.Parameter, ...]:
        """Return the parameters from which alone a tensor was computed; none when anything else had a part in it."""
        found: dict[int, nn.Parameter] = {}
        waiting, seen = [tensor.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None and id(leaf) not in self.names:
                return ()
            if leaf is not None:
                found[id(leaf)] = leaf
            waiting += [each for each, _ in node.next_functions]
        return tuple(found.values())

    def is_expected(self) -> bool:
        """Return whether a layer may be called now: where a proven net met constants, their length says nothing."""
        return self.schedule is None or self.position in self.schedule

    def end(self) -> None:
        """Note that the net has given its answer: what it does after its last layer counts as well."""
        self.calls.append((self.position, "end", ()))

    def use(self, layer: str, sources: Sequence[Source | None]) -> None:
        """Note that a layer uses some tensors."""
        keys = [id(leaf) for source in sources if source is not None for leaf in source.leaves]
        self._uses.update(keys)
        self.calls.append((self.position, layer, tuple(self.names[key] for key in keys)))

    def use_again(self, source: Source) -> None:
        """Note that a tensor's gradient comes from another place as well, so that parts of it are added up as rows."""
        self._uses.update(id(leaf) for leaf in source.leaves)

    def once(self, source: Source) -> bool:
        """Return whether the forward used this parameter once and as it is, so that its norm may stand alone."""
        return source.is_parameter and self._uses[id(source.tensor)] == 1

    def keep(self, source: Source, rows: Tensor) -> None:
        """Take in each unit's gradient of a tensor, (units, P) in the flat order."""
        if source.is_parameter:
            self._add_rows(source.leaves[0], rows)
        else:
            self._derived.append((source, rows))

    def _add_rows(self, parameter: nn.Parameter, rows: Tensor) -> None:
        held = self._rows.get(id(parameter))
        self._rows[id(parameter)] = rows if held is None else held + rows

    def note(self, source: Source, squares: Tensor, weighted_sum: WeightedSum) -> None:
        """Take in the squared norms (units,) of a parameter's gradient, and the way to its weighted sum."""
        self._add_squares(self._part[id(source.leaves[0])], squares)
        self._sums.append((source.leaves[0], weighted_sum))

    def _add_squares(self, part: int, squares: Tensor) -> None:
        held = self._squares.get(part)
        self._squares[part] = squares if held is None else held + squares

    @torch.no_grad()
    def settle(
        self, clip: float | Sequence[float], weights: Sequence[Tensor | None] | None = None
    ) -> Settled:
        """Return the clipped sum over the open batch and close the book on it.

        A unit whose gradient is not finite counts as none, in all parts: otherwise one picture could make the whole
        sum NaN, which no noise hides.

        Parameters
        ----------
        clip : longest gradient of a unit, over everything that learns, or one for each part.
        weights : for each clip (units,) in [0, 1], by which a unit's gradient is multiplied after the clip, None for
            ones; a unit's weight may depend on what is public and on that unit alone. Before the clip a weight
            would be undone by it, and above 1 it would undo the clip.

        Raises
        ------
        PrivacyError : a parameter got a gradient that no unit can be told from, or no gradient at all; a weight that
            is no share; not one clip and weight for each part.
        """
        joint = not isinstance(clip, Sequence)
        clips = (clip,) if joint else tuple(clip)
        chosen = (None,) * len(clips) if weights is None else tuple(weights)
        self._require_parts(joint, clips, chosen)
        self._settle_derived()
        self._require_known()
        joined = list(self._joined())
        for part, _, rows in joined:
            self._add_squares(part, squared_norms(rows))
        squares = self._squares_of(None if joint else len(clips))
        lengths = [each.clamp(min=0).sqrt_() for each in squares]
        good = functools.reduce(torch.logical_and, (torch.isfinite(each) for each in squares))
        all_good = bool(good.all())
        factors = [
            _factors(None if all_good else good, length, most, weight)
            for length, most, weight in zip(lengths, clips, chosen, strict=True)
        ]
        sums = self._summed(joined, factors, None if all_good else ~good)
        self.open(Units(()))
        return Settled(
            *((lengths[0], factors[0]) if joint else (torch.stack(lengths), torch.stack(factors))),
            {n: sums[id(p)] for n, p in self._parameters.items() if id(p) in sums},
        )

    def _require_parts(
        self, joint: bool, clips: tuple[float, ...], weights: tuple[Tensor | None, ...]
    ) -> None:
        parts = 1 if joint else max(self._part.values(), default=-1) + 1
        if len(clips) < parts or len(weights) != len(clips):
            raise PrivacyError(
                f"{len(clips)} clips and {len(weights)} weights for {parts} parts of the parameters",
                where="privacy.clip",
                cure="Give one clip for each part, and as many weights, or one clip for all.",
            )
        for weight in weights:
            # What is not finite fails the comparison as well.
            if weight is not None and not (
                weight.shape == (len(self.units),) and bool(((weight >= 0) & (weight <= 1)).all())
            ):
                raise PrivacyError(
                    f"weights {tuple(weight.shape)} for {len(self.units)} units that are not all shares",
                    where="weights",
                    cure="Give each unit a finite weight from 0 to 1; more would undo the clip.",
                )

    def _squares_of(self, parts: int | None) -> list[Tensor]:
        """Return the squared norms (units,) of each part, or of everything where ``parts`` is None."""
        found = list(self._squares.values())
        if parts is None and found:
            return [functools.reduce(torch.add, found)]
        nothing = torch.zeros_like(found[0]) if found else torch.zeros(len(self.units))
        return [self._squares.get(part, nothing) for part in range(parts or 1)]

    def _summed(
        self, joined: list[tuple[int, list[int], Tensor]], factors: list[Tensor], bad: Tensor | None
    ) -> dict[int, Tensor]:
        """Return the sums (P,) of what learns; ``bad`` are the units (units,) that count as none."""

        def of(part: int) -> int:
            return part if len(factors) > 1 else 0

        sums: dict[int, Tensor] = {}
        for part, keys, rows in joined:
            summed = factors[of(part)] @ (rows if bad is None else rows.masked_fill(bad[:, None], 0))
            widths = [self._rows[key].shape[1] for key in keys]
            sums |= dict(zip(keys, summed.split(widths), strict=True))
        for parameter, weighted_sum in self._sums:
            sums[id(parameter)] = weighted_sum(factors[of(self._part[id(parameter)])], bad)
        return sums

    def _joined(self) -> Iterator[tuple[int, list[int], Tensor]]:
        """Yield parts, parameters and their rows; a part's short rows lie side by side, so that they cost one call."""
        short: dict[int, list[int]] = {}
        for key, rows in self._rows.items():
            if rows.shape[1] <= SHORT:
                short.setdefault(self._part[key], []).append(key)
        for part, keys in short.items():
            yield part, keys, torch.cat([self._rows[key] for key in keys], 1)
        for key, rows in self._rows.items():
            if rows.shape[1] > SHORT:
                yield self._part[key], [key], rows

    def _settle_derived(self) -> None:
        """Carry gradients of computed tensors on to the parameters that they were computed from, unit by unit."""
        for source, rows in self._derived:
            given = from_flat_order(rows, source.tensor.shape)
            found = torch.autograd.grad(
                source.tensor,
                source.leaves,
                given,
                is_grads_batched=True,
                retain_graph=True,
                allow_unused=True,
            )
            for leaf, each in zip(source.leaves, found, strict=True):
                if each is not None:
                    self._add_rows(leaf, flat_order(each))

    def _require_known(self) -> None:
        leaked = [n for n, p in self._parameters.items() if id(p) in self.names and p.grad is not None]
        if leaked:
            raise PrivacyError(
                f"{len(leaked)} parameters are used in a way for which there are no per-sample gradients",
                where=", ".join(leaked[:3]) + (", ..." if len(leaked) > 3 else ""),
                cure="Freeze them, choose another net, or set privacy.allow_slow=true to take Opacus's own formulas.",
            )


def _factors(good: Tensor | None, lengths: Tensor, clip: float, weight: Tensor | None) -> Tensor:
    """Return by what the gradients (units,) of these lengths are multiplied: the clip first, then the weight.

    ``good`` tells which units count, None where all do.
    """
    found = (clip / (lengths + NOTHING)).clamp_(max=1.0)
    if good is not None:
        found = torch.where(good, found, 0.0).to(lengths)
    return found if weight is None else found * weight.to(found)


@dataclass(frozen=True)
class Settled:
    """What comes of a batch.

    Attributes
    ----------
    norms : (units,), or (parts, units) where parts are clipped apart, the 2-norm of each unit's gradient; not finite
        in one part at least where it counts as none.
    factors : as ``norms``, what each unit's gradient was multiplied by.
    sums : name -> (P,), the sum of the clipped gradients in the flat order; a parameter that had no part in the
        answer is missing.
    """

    norms: Tensor
    factors: Tensor
    sums: dict[str, Tensor]
