"""``fedfer audit``: two doors, the same counts, the same tables, the same verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from simulations.audit import count_model, record, show, write
from simulations.audit_folder import write_folder
from simulations.compose import composed
from simulations.display import new_console
from simulations.prediction_audit import count_predictions
from simulations.tolerance import facts, read_tolerance, require_kept, show_verdicts, verdicts_on

DOORS = "Write: fedfer audit model=RUN ..., or fedfer audit predictions=FILE.csv ..."

People = Mapping[str, Mapping[str, int]]


def run(words: Sequence[str], file: Path | None, folder: Path | None = None) -> int:
    """Audit what the words name; print tables.

    Parameters
    ----------
    file : where the record goes, if anywhere.
    folder : where the record goes with all that is made of it, if anywhere.

    Raises
    ------
    ConfigError : not exactly one of ``model=`` and ``predictions=``, or a wrong word.
    ToleranceError, EvidenceError : ``tolerance=FILE.yaml`` holds a limit that is broken, or undecided.
    """
    path, words = tolerance_among(words)
    tolerance = None if path is None else read_tolerance(path)
    source, counts, people = _counted(words)
    references = {} if tolerance is None else tolerance.references(counts)
    found, console = record(source, counts, people, references), new_console()
    show(found, console)
    verdicts = [] if tolerance is None else verdicts_on(tolerance, counts, people)
    if path is not None:
        found["verdicts"] = facts(verdicts)
        show_verdicts(verdicts, console)
    write(found, file)
    if folder is not None:
        write_folder(found, folder)
        console.print(f"audit: {folder}", highlight=False, soft_wrap=True, markup=False)
    if path is not None:
        require_kept(verdicts, path)
    return 0


def tolerance_among(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the file that ``tolerance=FILE.yaml`` names, None without one, and the other words."""
    given = [word.partition("=")[2] for word in words if word.startswith("tolerance=")]
    rest = [word for word in words if not word.startswith("tolerance=")]
    return (Path(given[-1]) if given else None), rest


def _counted(words: Sequence[str]) -> tuple[dict[str, Any], Counts, People]:
    """Return what was judged, its counts and the people of its groups, through the door that the words name."""
    models = [word.partition("=")[2] for word in words if word.startswith("model=")]
    tables = [word for word in words if word.startswith("predictions=")]
    if len(models) + len(tables) != 1:
        what = "audit needs one model or one file of predictions"
        raise ConfigError(what, where="command line", cure=DOORS)
    if tables:
        return count_predictions([word for word in words if not word.startswith("hydra.")])
    settings, _ = composed([word for word in words if not word.startswith("model=")])
    source = {"door": "model", "model": models[0], "data": settings.data.reader}
    return source, count_model(Path(models[0]), settings), {}
