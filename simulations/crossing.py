"""Groups within groups: attributes such as ``gender*age``, made of two columns of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fer_models.readers.groups import crossed_name, crossed_parts
from fer_models.samples import Samples


def with_crossed(samples: Samples, wanted: Sequence[str]) -> Samples:
    """Return samples that also have the attributes ``A*B`` among those wanted, where both columns are known.

    A row's group is ``a*b``, and ``undisclosed`` where one of the two is.
    """
    made = {}
    for name in wanted:
        parts = crossed_parts(name)
        if (
            name not in samples.groups
            and len(set(parts)) > 1
            and all(each in samples.groups for each in parts)
        ):
            columns = (samples.groups[each].tolist() for each in parts)
            made[name] = np.array([crossed_name(row) for row in zip(*columns, strict=True)], np.str_)
    return replace(samples, groups={**samples.groups, **made}) if made else samples
