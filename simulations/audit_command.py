"""``fedfer audit``: three doors, the same counts, the same tables, the same verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.noisy_intervals import Noise, record_with_noise
from fer_models.samples import PERSON, SUBJECTS, people_by_group
from simulations.audit import Judged, judge_model, record, show, write
from simulations.audit_folder import write_folder
from simulations.audit_origin import config_of, judged_file
from simulations.audit_signature import sign_folder
from simulations.compose import composed
from simulations.display import new_console
from simulations.explanations import explanations, require_allowed
from simulations.prediction_audit import count_predictions
from simulations.run_audit import count_run, privacy_of_model
from simulations.signing_key import read_key
from simulations.tolerance import facts, read_tolerance, require_kept, show_verdicts, verdicts_on
from simulations.versus.asked import is_comparison
from simulations.versus.command import run as compare

DOORS = "Write: fedfer audit model=RUN ..., fedfer audit predictions=FILE.csv ..., or fedfer audit run=DIR."

People = Mapping[str, Mapping[str, int]]


def run(words: Sequence[str], file: Path | None, folder: Path | None = None, key: Path | None = None) -> int:
    """Audit what the words name; print tables.

    Parameters
    ----------
    file : where the record goes, if anywhere.
    folder : where the record goes with all that is made of it, if anywhere.
    key : private key that the folder is signed with, if it is.

    Raises
    ------
    ConfigError : not exactly one of ``model=``, ``predictions=`` and ``run=``, or a wrong word.
    ToleranceError, EvidenceError : ``tolerance=FILE.yaml`` holds a limit that is broken, or undecided.
    """
    identity = None if key is None else read_key(key)
    if is_comparison(words):
        return compare(words, file, folder, identity)
    path, words = tolerance_among(words)
    tolerance = None if path is None else read_tolerance(path)
    source, counts, people, parts = _counted(words)
    alike, doubt = parts.pop("alike", {}), parts.pop("doubt", "")
    over = parts.pop("over", alike.get("over", SUBJECTS[PERSON]))
    references = {} if tolerance is None else tolerance.references(counts)
    found = {**record({**source, **judged_file(source)}, counts, people, references, over, doubt), **parts}
    if "intervals" in found:
        found["intervals"] |= {key: alike[key] for key in ("from", "at_several_sites") if key in alike}
    noise = Noise.of(parts["noise"]) if "noise" in parts else None
    if noise is not None:
        found = record_with_noise(found, counts, noise)
    found["config"], console = config_of(words, path), new_console()
    show(found, console)
    verdicts = [] if tolerance is None else verdicts_on(tolerance, counts, people, noise, doubt)
    if tolerance is not None:
        found |= {"tolerance": {"level": tolerance.level}, "verdicts": facts(verdicts)}
        show_verdicts(verdicts, console)
    write(found, file)
    if folder is not None:
        names = write_folder(found, folder)
        if identity is not None:
            sign_folder(folder, found, names, identity)
        console.print(f"audit: {folder}", highlight=False, soft_wrap=True, markup=False)
    if path is not None:
        require_kept(verdicts, path)
    return 0


def tolerance_among(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the file that ``tolerance=FILE.yaml`` names, None without one, and the other words."""
    given = [word.partition("=")[2] for word in words if word.startswith("tolerance=")]
    rest = [word for word in words if not word.startswith("tolerance=")]
    return (Path(given[-1]) if given else None), rest


def _counted(words: Sequence[str]) -> tuple[dict[str, Any], Counts, People, dict[str, Any]]:
    """Return what was judged, its counts, the people of its groups, and more parts of the record.

    The words name the door.
    """
    keys = [word.partition("=")[0] for word in words]
    doors = [key for key in keys if key in ("model", "predictions", "run")]
    if len(doors) != 1:
        what = "audit needs one model, one file of predictions or one run"
        raise ConfigError(what, where="command line", cure=DOORS)
    own = [word for word in words if not word.startswith("hydra.")]
    if doors == ["predictions"]:
        return *count_predictions(own), {}
    if doors == ["run"]:
        source, counts, parts = count_run(own)
        return source, counts, parts.pop("people", {}), parts
    path, (explain, words) = words[keys.index("model")].partition("=")[2], explain_among(words)
    settings, _ = composed([word for word in words if not word.startswith("model=")])
    source = {"door": "model", "model": path, "data": settings.data.reader}
    if explain:
        require_allowed(settings.data)
    judged = judge_model(Path(path), settings)
    parts = privacy_of_model(Path(path)) | {"over": SUBJECTS[judged.samples.subject_is]}
    people = people_by_group(judged.samples, judged.rows, judged.attributes)
    return source, judged.counts(), people, parts | ({"explanations": explained(judged)} if explain else {})


def explain_among(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether ``explain=true`` is among the words, and the other ones.

    Raises
    ------
    ConfigError : another value than true or false.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("explain=")]
    unknown = [value for value in given if value not in ("true", "false")]
    if unknown:
        raise ConfigError(f"unknown value {unknown[0]!r}", where="explain", cure="Write explain=true.")
    return given[-1:] == ["true"], [word for word in words if not word.startswith("explain=")]


def explained(judged: Judged) -> list[dict[str, Any]]:
    """Return where the model looks."""
    return explanations(judged.module, judged.samples, judged.rows, judged.predicted, judged.device)
