"""What each command of ``fedfer`` does; each takes the words after its name and returns an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import OmegaConf, open_dict

from fer_models.errors import ConfigError
from simulations.compose import (
    CONF,
    composed,
    configuration,
    json_file,
    one_line,
    out_folder,
    readable,
    settings_of,
    signing_file,
)
from simulations.display import Display, new_console
from simulations.settings import Settings, register

WITHOUT = ("federated_without_privacy", "federated_without_fairness")
"""The same federation with less."""

MULTIRUN = ("--multirun", "-m")
"""Hydra's flags for a run of every combination."""


def compare(words: list[str]) -> int:
    """Run pooled, local-only and federated systems, and report; with several methods of fairness a study of them,
    with ``experiment=study`` the ladder, and with ``experiment=methods`` or ``sweeps`` a sweep of many runs."""
    from simulations.fairness import is_fair

    def systems(settings: Settings) -> list[str]:
        private, more = settings.privacy.enabled, settings.compare
        wanted = {"federated_without_privacy": more.without_privacy, "pooled_private": more.pooled_private}
        beside = [name for name, asked in wanted.items() if private and asked]
        if is_fair(settings.fairness) and more.without_fairness:
            beside.append("federated_without_fairness")
        return [*_baselines(settings), *beside, "federated"]

    from simulations.ladder.rungs import is_ladder
    from simulations.study.asked import is_study

    shown = any(word.partition("=")[0] in ("--cfg", "-c") for word in words)
    if is_ladder(words) and not shown:
        from simulations.ladder.run import run as climb

        return climb(words)
    from simulations.sweeps.cells import kind_of

    kind = kind_of(words)
    if kind is not None and not shown:
        from simulations.sweeps.run import run as sweep

        return sweep(words, kind)
    plain = not shown and not any(word in MULTIRUN for word in words)
    if plain and is_study(words):
        from simulations.study.run import run

        return run(words)
    return _run(words, systems)


def simulate(words: list[str]) -> int:
    """Run the federated system alone."""
    return _run(words, lambda _: ["federated"])


def baseline(words: list[str]) -> int:
    """Run the baselines alone."""
    return _run(words, _baselines)


def _baselines(settings: Settings) -> list[str]:
    """Return the baselines that the settings name, the classical ones after the nets."""
    if not settings.baseline.classical:
        return list(settings.baseline.systems)
    from simulations.classical import asked

    return [*settings.baseline.systems, *asked(settings.baseline.classical)]


def _run(words: list[str], systems: Callable[[Settings], list[str]]) -> int:
    if any(word.partition("=")[0] in ("--cfg", "-c") for word in words):
        return _print_configuration(words)
    if any(word in MULTIRUN for word in words):
        return _multirun([word for word in words if word not in MULTIRUN], systems)
    settings, folder = composed(words)
    _job(settings, folder, systems(settings))
    return 0


def _print_configuration(words: list[str]) -> int:
    """``--cfg job``: print what the words compose to."""
    at = next(i for i, word in enumerate(words) if word.partition("=")[0] in ("--cfg", "-c"))
    flag, equals, kind = words[at].partition("=")
    rest = words[:at] + words[at + (1 if equals else 2) :]
    if not equals:
        kind = words[at + 1] if at + 1 < len(words) else ""
    if kind != "job":
        raise ConfigError(f"{flag} {kind} is unknown", where="command line", cure="Write --cfg job.")
    config = configuration([word for word in rest if word not in MULTIRUN])
    settings_of(config)
    with open_dict(config):
        del config["hydra"]
    sys.stdout.write(OmegaConf.to_yaml(config))
    return 0


def _job(settings: Settings, folder: Path, systems: list[str]) -> None:
    from server.run_folder import RunFolder
    from server.statistics import show as show_statistics
    from simulations.comparison import Comparison
    from simulations.run_limits import hold, read_limits

    console, limits = new_console(), None
    baselines = ("pooled", "local_only")
    known = (
        *baselines,
        *WITHOUT,
        "pooled_private",
        "federated",
        *_baselines(settings)[len(settings.baseline.systems) :],
    )
    for system in systems:
        if system not in known:
            raise ConfigError(
                f"unknown system {system!r}", where="baseline.systems", cure=f"Use {' and '.join(baselines)}."
            )
    with Display(console) as display:
        comparison = Comparison(settings, folder, systems, display)
        comparison.prepare()
        if settings.tolerance:
            limits = read_limits(settings.tolerance, comparison.prepared.plan, systems)
        for warning in comparison.prepared.warnings:
            console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
        comparison.run()
    if "federated" in systems:
        show_statistics(RunFolder(folder), console)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if limits is not None:
        hold(folder, settings.tolerance, limits, console)


def _multirun(words: list[str], systems: Callable[[Settings], list[str]]) -> int:
    """Let Hydra's sweeper run every combination of the values."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    register()

    @hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        settings = settings_of(config)
        _job(settings, Path(HydraConfig.get().runtime.output_dir), systems(settings))

    before, sys.argv = sys.argv, ["fedfer", "--multirun", *readable(words)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors then, instead of printing several lines
    try:
        with one_line():
            job()
    finally:
        sys.argv = before
        del os.environ["HYDRA_FULL_ERROR"]
    return 0


def data(words: list[str]) -> int:
    """``data check``, ``validate``, ``template``, ``deal``, ``prepare``, ``list``, ``card`` and ``recommend``."""
    from simulations.data_cards import tell

    verbs = {
        "check": _data_check,
        "validate": _data_validate,
        "template": _data_template,
        "deal": _data_deal,
        "prepare": _data_prepare,
    }
    if not words or words[0] not in (*verbs, "list", "card", "recommend"):
        cure = "Write: fedfer data check data=NAME ..., or fedfer data list"
        raise ConfigError("data needs a verb", where="command line", cure=f"{cure}.")
    if words[0] in verbs:
        return verbs[words[0]](words[1:])
    tell(words[0], words[1:], new_console())
    return 0


def _data_check(words: list[str]) -> int:
    """Print what a data set holds; exit code 3 when it has an error."""
    from fer_models.check_tables import show
    from fer_models.checks import check
    from simulations.prepare import load, split

    file, words = json_file(words, "--copies")
    settings, _ = composed(words)
    samples = load(settings.data, settings.seed)
    found = check(samples)
    show(found, new_console())
    if file is not None:
        from simulations.data_copies import write_copies

        number = write_copies(samples, file)
        new_console().print(
            f"{number} pictures that occur more than once: {file}", highlight=False, soft_wrap=True
        )
    if settings.data.split == "holdout":
        show(check(split(samples, settings.data, settings.seed)), new_console())
    return 3 if any(finding.severity == "error" for finding in found.findings) else 0


def _data_validate(words: list[str]) -> int:
    """Say everything that is wrong with one's own table; exit code 3 when something is."""
    from simulations.own_data import validate

    return 3 if validate(words, new_console()) else 0


def _data_template(words: list[str]) -> int:
    """Write a folder for one's own pictures."""
    from simulations.own_data import write_template

    write_template(words, new_console())
    return 0


def _data_prepare(words: list[str]) -> int:
    """Take faces out of raw pictures."""
    from simulations.facing import prepare_faces

    return prepare_faces(words, new_console())


def _data_deal(words: list[str]) -> int:
    """Deal a data set out to folders, one a site, with the plan of the run."""
    from simulations.rehearsal import deal

    settings, folder = composed(words)
    console = new_console()
    for line in deal(settings, folder):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def audit(words: list[str]) -> int:
    """Judge a saved model on the test part of a data set, the predictions in a file, or what a run counted; or sign."""
    if words and words[0] in ("key", "verify"):
        from simulations import audit_trust

        return {"key": audit_trust.key, "verify": audit_trust.verify}[words[0]](words[1:])
    from simulations.audit_command import run
    from simulations.audit_folder import RECORD
    from simulations.versus.asked import is_comparison
    from simulations.versus.command import RECORD as COMPARISON

    file, words = json_file(words)
    folder, words = out_folder(words, COMPARISON if is_comparison(words) else RECORD)
    key, words = signing_file(words, folder)
    return run(words, file, folder, key)


def faces(words: list[str]) -> int:
    """Write a contact sheet of drawn faces."""
    from simulations.contact_sheet import contact_sheet
    from simulations.prepare import load

    options = dict(
        word.split("=", 1) for word in words if word.split("=")[0] in ("sheet", "rows_by", "columns")
    )
    rest = [word for word in words if word.split("=")[0] not in ("sheet", "rows_by", "columns")]
    settings, _ = composed(["data=faces", *rest])
    try:
        columns = int(options.get("columns", "10"))
    except ValueError as error:
        raise ConfigError("columns is no number", where="columns", cure="Write columns=10.") from error
    samples = load(settings.data, settings.seed)
    path = contact_sheet(
        samples, Path(options.get("sheet", "faces.png")), options.get("rows_by", "label"), columns
    )
    new_console().print(f"{path}", highlight=False)
    return 0


def models(words: list[str]) -> int:
    """List the nets, or tell all about some."""
    from simulations.models import models as told

    file, names = json_file(words)
    told(names, file, new_console())
    return 0


def losses(words: list[str]) -> int:
    """List the losses, or tell all about some."""
    from simulations.losses import losses as told

    file, names = json_file(words)
    told(names, file, new_console())
    return 0


def fairness(words: list[str]) -> int:
    """List the methods of fair training, or tell all about some."""
    from simulations.methods import fairness as told

    file, names = json_file(words)
    told(names, file, new_console())
    return 0


def curves(words: list[str]) -> int:
    """Print accuracy against rounds, visits and bytes of some runs."""
    from simulations.curves import curves as table_of

    if not words:
        raise ConfigError(
            "curves needs a run", where="command line", cure="Write: fedfer curves RUN [RUN ...]."
        )
    new_console().print(table_of([Path(word) for word in words]))
    return 0


def tune_private(words: list[str]) -> int:
    """Choose levers of private training on drawn faces."""
    from simulations.tuning.command import tune_private as tune

    return tune(words)


def doctor(words: list[str]) -> int:
    """Look at machine and installation."""
    from simulations.doctor.command import doctor as look

    return look(words)


def bench(words: list[str]) -> int:
    """Run a benchmark."""
    from simulations.bench.run import run

    return run(words)


def audit_privacy(words: list[str]) -> int:
    """Bound epsilon from below, by canaries in a training run or by membership inference on a finished one.

    Raises
    ------
    AuditError : more leaks than is claimed.
    """
    from simulations.privacy_audit.run import run

    file, words = json_file(words)
    if any(word.partition("=")[0] in ("--cfg", "-c") for word in words):
        return _print_configuration(words)
    return run(words, file)
