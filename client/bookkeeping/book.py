"""The book of one backward: what every layer says of each unit's gradient, and the clipped sum that comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.bookkeeping.units import Units
from fer_models.errors import PrivacyError

NOTHING = 1e-6
"""Added to a norm before the clip is divided by it, as in Opacus."""

SHORT = 1024
"""Numbers of a row up to which a call costs more than copying the row."""

WeightedSum = Callable[[Tensor, Tensor | None], Tensor]
"""(weight of each sample (n,), samples that count as none, bool (n,), or None) -> gradient (P,) in the flat order."""


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

    Attributes
    ----------
    units : of the open batch.
    anchor : a scalar that requires a gradient, so that the first layer's backward is called.
    position : torch functions called since the net was.
    calls : what each layer so far was asked for, and where the net ended.
    schedule : positions at which a proven net calls its layers; None while it is tried.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.names = {id(p): name for name, p in parameters.items()}
        self.schedule: frozenset[int] | None = None
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
        self._squares: Tensor | None = None
        self._sums: list[tuple[nn.Parameter, WeightedSum]] = []

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
        self._add_squares(squares)
        self._sums.append((source.leaves[0], weighted_sum))

    def _add_squares(self, squares: Tensor) -> None:
        self._squares = squares if self._squares is None else self._squares + squares

    @torch.no_grad()
    def settle(self, clip: float) -> Settled:
        """Return the clipped sum over the open batch and close the book on it.

        A unit whose gradient is not finite counts as none: otherwise one picture could make the whole sum NaN, which
        no noise hides.

        Raises
        ------
        PrivacyError : a parameter got a gradient that no unit can be told from, or no gradient at all.
        """
        self._settle_derived()
        self._require_known()
        joined = list(self._joined())
        for _, rows in joined:
            self._add_squares(torch.linalg.vector_norm(rows, dim=1).square_())
        squares = torch.zeros(len(self.units)) if self._squares is None else self._squares
        lengths = squares.clamp(min=0).sqrt_()
        good = torch.isfinite(squares)
        factors = torch.where(good, (clip / (lengths + NOTHING)).clamp(max=1.0), 0.0).to(squares)
        bad = None if bool(good.all()) else ~good
        sums: dict[int, Tensor] = {}
        for keys, rows in joined:
            summed = factors @ (rows if bad is None else rows.masked_fill(bad[:, None], 0))
            widths = [self._rows[key].shape[1] for key in keys]
            sums |= dict(zip(keys, summed.split(widths), strict=True))
        weights = self.units.spread(factors)
        broken = None if bad is None else self.units.spread(bad)
        for parameter, weighted_sum in self._sums:
            sums[id(parameter)] = weighted_sum(weights, broken)
        self.open(Units(()))
        return Settled(
            lengths, factors, {n: sums[id(p)] for n, p in self._parameters.items() if id(p) in sums}
        )

    def _joined(self) -> Iterator[tuple[list[int], Tensor]]:
        """Yield parameters and their rows; short rows lie side by side in one tensor, so that they cost one call."""
        short = [key for key, rows in self._rows.items() if rows.shape[1] <= SHORT]
        if short:
            yield short, torch.cat([self._rows[key] for key in short], 1)
        for key, rows in self._rows.items():
            if rows.shape[1] > SHORT:
                yield [key], rows

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


@dataclass(frozen=True)
class Settled:
    """What comes of a batch.

    Attributes
    ----------
    norms : (units,), the 2-norm of each unit's gradient; not finite where it counts as none.
    factors : (units,), what each unit's gradient was multiplied by.
    sums : name -> (P,), the sum of the clipped gradients in the flat order; a parameter that had no part in the
        answer is missing.
    """

    norms: Tensor
    factors: Tensor
    sums: dict[str, Tensor]
