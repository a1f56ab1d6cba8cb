"""What a site sends as one vector of whole numbers: named segments, the same at every site, that add up.

A vector has two parts. Numbers of 64 bits hold what is counted; numbers of 32 bits hold the update. Both count modulo
their power of two, which is what masks need. Sums cannot overflow, by a bound that is checked when a layout is made:
every number of every site has a largest value, and ``sites`` of them stay below half the power of two.

*Fixed point.* The coordinate x of an update is cut to [-clip, clip], multiplied by the site's weight w and by

    scale = ((2^31 - 1) / sites - 1) / (largest_weight clip),

and rounded to floor(x w scale + u) with u uniform in [0, 1) from a keyed stream (dither): the mean is x w scale to
within 2^-32, whatever x is. A number is at most 1 from x w scale, so the weighted mean over sites is off by less than
1 / (scale * mean weight), which for equal weights is sites clip / 2^31.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.secagg.agreement import digest
from client.secagg.masks import keystream
from client.secagg.refusals import refuse
from client.strict import require

CANARIES = 4
"""Numbers at the end of the part of 64 bits, and behind each segment of 32 bits, that are 0 at every site."""

LARGEST = 2**31 - 1, 2**63 - 1
"""Largest sum in 32 and in 64 bits."""

BLOCK = 1 << 15
"""Numbers encoded at a time, so that they stay in the processor's cache."""

_CURE = "Run the same plan and version of FedFER everywhere."


@dataclass(frozen=True)
class Segment:
    """A named part of the vector.

    Attributes
    ----------
    name : of the segment.
    kind : "exact", whole numbers from 0 to ``largest`` in 64 bits; "whole", whole numbers from -largest to largest in
        32 bits; "fixed", real numbers from -clip to clip in fixed point of 32 bits, multiplied by the site's weight.
    length : how many numbers.
    largest, clip : bounds of one site's number.
    """

    name: str
    kind: Literal["exact", "whole", "fixed"]
    length: int
    largest: int = 0
    clip: float = 0.0


@dataclass(frozen=True)
class Layout:
    """What stands where in a vector.

    Attributes
    ----------
    segments : in their order; at most one of them is "whole", and then none is "fixed".
    sites : most sites of a sum.
    largest_weight : largest weight of a site.

    Raises
    ------
    ConfigError : bounds at which a sum could overflow.
    """

    segments: tuple[Segment, ...]
    sites: int
    largest_weight: int = 1

    def __post_init__(self) -> None:
        require(self.sites >= 1 and self.largest_weight >= 1, "a sum of nothing", "aggregation", _CURE)
        require(len({s.name for s in self.segments}) == len(self.segments), "a name twice", "layout", _CURE)
        narrow = [s.kind for s in self.segments if s.kind != "exact"]
        require("whole" not in narrow or len(narrow) == 1, "two updates", "layout", _CURE)
        for each in self.segments:
            bound, most = LARGEST[each.kind == "exact"], max(each.largest, self.largest_weight)
            good = each.length >= 1 and (each.kind == "fixed" or each.largest > 0)
            require(good, "a segment of nothing", f"layout, {each.name}", _CURE)
            if each.kind == "fixed":
                require(
                    0 < each.clip < math.inf, "a clip that is none", "aggregation.clip", "Give 16.0 or so."
                )
                most = math.ceil(self.scale(each) * self.largest_weight * each.clip) + 1
                fine = self.scale(each) * self.largest_weight * each.clip >= 1
                require(fine, "no room for an update", "aggregation", "Invite fewer sites.")
            require(
                self.sites * most <= bound,
                f"sums of {self.sites} sites with numbers of up to {most} may leave {bound.bit_length() + 1} bits",
                f"layout, {each.name}",
                "Invite fewer sites, or lower the bound.",
            )

    def scale(self, segment: Segment) -> float:
        """Return the steps in 1 of a fixed-point segment, at weight 1."""
        room = LARGEST[0] // self.sites - 2
        return room / (self.largest_weight * segment.clip)

    @functools.cached_property
    def words64(self) -> int:
        """Numbers of 64 bits: the count of sites, the weight, exact segments, canaries."""
        return 2 + sum(s.length for s in self.segments if s.kind == "exact") + CANARIES

    @functools.cached_property
    def words32(self) -> int:
        """Numbers of 32 bits: update, control variate, and canaries behind each; none without an update."""
        return sum(s.length + CANARIES for s in self.segments if s.kind != "exact")

    @property
    def nbytes(self) -> int:
        """Bytes of a vector."""
        return 8 * self.words64 + 4 * self.words32

    @functools.cached_property
    def digest(self) -> bytes:
        """32 bytes that two layouts share only when they are equal."""
        return digest("fedfer layout", json.dumps(asdict(self), sort_keys=True).encode())

    def _exact(self) -> list[tuple[Segment, slice]]:
        found, start = [], 2
        for each in self.segments:
            if each.kind == "exact":
                found.append((each, slice(start, start + each.length)))
                start += each.length
        return found

    def _narrow(self) -> list[tuple[Segment, slice]]:
        found, start = [], 0
        for each in self.segments:
            if each.kind != "exact":
                found.append((each, slice(start, start + each.length)))
                start += each.length + CANARIES
        return found

    def encode(self, values: Mapping[str, NDArray[np.generic]], weight: int, dither: bytes) -> bytearray:
        """Return one site's vector, not yet masked.

        Parameters
        ----------
        values : segment -> its numbers, (length,).
        weight : of the site, 1 to ``largest_weight``.
        dither : 32 random bytes, used for this vector alone.

        Raises
        ------
        SecureAggregationError : (wrong_length, bad_value) what the layout has no place for.
        """
        if set(values) != {s.name for s in self.segments}:
            raise refuse("wrong_length", f"segments {', '.join(sorted(values))}, which are not the layout's")
        if not 1 <= weight <= self.largest_weight:
            raise refuse("bad_value", f"a weight of {weight} where {self.largest_weight} is the largest")
        body = bytearray(self.nbytes)
        wide = np.frombuffer(body, "<u8", self.words64)
        wide[:2] = 1, weight
        for segment, place in self._exact():
            wide[place] = _bounded(segment, values[segment.name], 0)
        narrow = np.frombuffer(body, "<i4", offset=8 * self.words64)
        for number, (segment, place) in enumerate(self._narrow()):
            if segment.kind == "whole":
                narrow[place] = _bounded(segment, values[segment.name], -segment.largest)
            else:
                # A second segment has a stream of its own: with the same one, errors of both would go together.
                own = dither if number == 0 else digest("fedfer dither", segment.name.encode(), dither)
                factor = self.scale(segment) * weight
                _fixed(narrow[place], segment, values[segment.name], factor, own)
        return body

    def decode(self, total: bytes | bytearray, survivors: int) -> dict[str, NDArray[np.generic]]:
        """Return what a sum over ``survivors`` sites holds.

        Returns
        -------
        "weight" -> int64 (1,); segment -> int64 (length,) for whole numbers, float64 (length,) for fixed point, there
        the sum of weight times update.

        Raises
        ------
        SecureAggregationError : (wrong_length) another vector; (bad_sum) the count of sites or a canary is wrong, or
            a number lies where no sum can.
        """
        if len(total) != self.nbytes:
            raise refuse("wrong_length", f"a sum of {len(total)} bytes where {self.nbytes} are expected")
        wide = np.frombuffer(total, "<u8", self.words64)
        narrow = np.frombuffer(total, "<i4", offset=8 * self.words64)
        ends = [wide[-CANARIES:], *(narrow[p.stop : p.stop + CANARIES] for _, p in self._narrow())]
        if int(wide[0]) != survivors or any(each.any() for each in ends):
            raise refuse("bad_sum", f"a sum that does not count {survivors} sites: a mask is left in it")
        if not survivors <= int(wide[1]) <= survivors * self.largest_weight:
            raise refuse("bad_sum", "a sum of weights that cannot be")
        found: dict[str, NDArray[np.generic]] = {"weight": wide[1:2].astype(np.int64)}
        for segment, place in self._exact():
            if int(wide[place].max()) > survivors * segment.largest:
                raise refuse("bad_sum", f"a sum of {segment.name} that cannot be")
            found[segment.name] = wide[place].astype(np.int64)
        for segment, place in self._narrow():
            found[segment.name] = (
                narrow[place].astype(np.int64)
                if segment.kind == "whole"
                else narrow[place] / self.scale(segment)
            )
        return found


def _bounded(segment: Segment, values: NDArray[np.generic], smallest: int) -> NDArray[np.generic]:
    """Return a segment's whole numbers, all within its bounds."""
    if values.shape != (segment.length,) or values.dtype.kind not in "iu":
        raise refuse("wrong_length", f"{segment.name} of {values.dtype} and shape {values.shape}")
    if int(values.min()) < smallest or int(values.max()) > segment.largest:
        raise refuse("bad_value", f"a number of {segment.name} is not in [{smallest}, {segment.largest}]")
    return values


def _fixed(
    out: NDArray[np.int32], segment: Segment, values: NDArray[np.generic], factor: float, dither: bytes
) -> None:
    """Write real numbers in fixed point, ``factor`` steps in 1."""
    if values.shape != (segment.length,) or values.dtype.kind != "f":
        raise refuse("wrong_length", f"{segment.name} of {values.dtype} and shape {values.shape}")
    with np.errstate(invalid="ignore"):  # infinities of both signs, which are no number together
        total = np.sum(values, dtype=np.float64)
    if not math.isfinite(total):
        raise refuse("bad_value", f"a number of {segment.name} is not finite")
    stream, reals, zeros = keystream(dither), np.empty(BLOCK), memoryview(bytes(4 * BLOCK))
    memory = bytearray(4 * BLOCK)
    words, fractions = np.frombuffer(memory, "<u4"), np.empty(BLOCK)
    for start in range(0, len(out), BLOCK):
        part = values[start : start + BLOCK]
        size = len(part)
        stream.update_into(zeros[: 4 * size], memoryview(memory)[: 4 * size])
        x = np.clip(part, -segment.clip, segment.clip, out=reals[:size], dtype=np.float64)
        np.multiply(x, factor, out=x)
        np.multiply(words[:size], 2.0**-32, out=fractions[:size])
        np.floor(np.add(x, fractions[:size], out=x), out=x)
        out[start : start + size] = x
