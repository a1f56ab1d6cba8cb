"""Statistics of the sites before training, as the coordinator gets and shows them; see :mod:`client.statistics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from client.plan import Plan
from client.statistics import deviation, split, tables_of
from server.run_folder import RunFolder

FILE = "statistics.json"
"""In a run folder; it is there as soon as the sites have answered, and they are not asked again."""


class Counting(Protocol):
    """Sites that can be asked for statistics."""

    def statistics(self, nodes: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Return the tables added up, one behind the other, and over how many sites."""
        ...


def take_statistics(plan: Plan, folder: RunFolder, sites: Counting, nodes: Sequence[int]) -> bool:
    """Ask for the statistics of a plan that has some, unless they are in the run folder already; return whether."""
    if plan.statistics is None or folder.read_json(FILE) is not None:
        return False
    total, count = sites.statistics(nodes)
    folder.write_json(FILE, published(plan, total, count))
    return True


def published(plan: Plan, total: NDArray[np.int64], sites: int) -> dict[str, Any]:
    """Return what is kept of a sum of tables: no count below the plan's smallest, None in its place."""
    asked = plan.statistics
    assert asked is not None
    shown = {
        name: {
            group: [int(count) if count >= asked.smallest else None for count in row]
            for group, row in zip(tables_of(plan)[name], table, strict=True)
        }
        for name, table in split(plan, total).items()
    }
    return {
        "what": "training pictures" if plan.privacy is None or plan.privacy.unit == "record" else "people",
        "sites": sites,
        "smallest": asked.smallest,
        "epsilon": asked.epsilon,
        "deviation": round(deviation(plan, sites), 3),
        "classes": list(plan.labels),
        "tables": shown,
    }


def show(folder: RunFolder, console: Console) -> None:
    """Print the statistics of a run folder that holds some."""
    found = folder.read_json(FILE)
    for each in lines(found) if isinstance(found, dict) else ():
        console.print(each, soft_wrap=not isinstance(each, Table))


def lines(found: Mapping[str, Any]) -> Iterator[Table | str]:
    """Yield what a console shows of statistics: a table an attribute, and what they are, in sentences."""
    small = f"<{found['smallest']}"
    for name, groups in found["tables"].items():
        table = Table(
            name or "", *found["classes"], title=f"{found['what']} by {name + ' and ' if name else ''}class"
        )
        for group, row in groups.items():
            table.add_row(group, *(small if count is None else f"{count:,}" for count in row))
        yield table
    if found["epsilon"] is None:
        yield (
            f"Sums over {found['sites']} sites. A site counts fewer than {found['smallest']} pictures of a class in a "
            "group as undisclosed, or not at all."
        )
        return
    yield (
        f"Sums over {found['sites']} sites, each with noise of epsilon {found['epsilon']:g}: a count is off by "
        f"{found['deviation']:.1f} or so. Counts below {found['smallest']} are not shown."
    )
