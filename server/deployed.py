"""The Flower ServerApp of a deployed study: a plan's rounds over the sites that are connected, in a run folder.

The folder is made by ``fedfer server run`` before Flower starts this; it holds the plan, and takes checkpoints, the
model and the summary. An error that is somebody's to mend ends in ``outcome.json``, where that command finds it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from client.alone import alone
from client.identity import Roster
from client.plan import Plan, read_plan
from client.strict import parse
from client.trust import learned_of, trust_of
from fer_models.checkpoints import save_model
from fer_models.errors import ConfigError, FedferError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.figures import figures_of
from server.hurry import hurry
from server.patience import Patience, PatientGrid
from server.results import Result
from server.rounds import Coordinator
from server.run_folder import RunFolder, write_text
from server.run_state import LOCK, OUTCOME, PROGRESS
from server.secagg.kept import FILE as SESSION
from server.signing import signed
from server.statistics import FILE as STATISTICS

SYSTEM = "federated"
"""The system's name in a run folder."""

ROSTER = "roster.json"
"""The public keys of the sites that the run began with."""

PATIENCE = "patience.json"
"""The file that says how long sites are waited for; it is no part of the plan, and may change before a run goes on."""

SIGNATURE = "plan.signature"
"""The coordinator's signature under the plan; ``fedfer server run``, which may read its key, leaves it here."""

UNTIL = "until.json"
"""The file of a run folder that names another, after which its process stops; none for the whole run."""

HEADLINE = ("accuracy", "balanced_accuracy", "worst_recall")
"""What the model's card says of how well it does."""

app = ServerApp()


@app.main()
def _main(grid: Grid, context: Context) -> None:
    hurry()
    run_study(grid, Path(str(context.run_config["folder"])))


def run_study(grid: Grid, path: Path) -> None:
    """Run what is missing of a study, and write how it ended.

    Raises
    ------
    FedferError : somebody's to mend; it stands in the folder, too.
    """
    torch.set_num_threads(1)  # so that sums repeat, whatever the machine
    folder = RunFolder(path)
    with alone(path / LOCK, "another process works on this run", "server"):
        _run(grid, folder)


def _run(grid: Grid, folder: RunFolder) -> None:
    try:
        plan = _plan_of(folder)
        coordinator, grid = _coordinator(grid, folder, plan)
        if folder.read_json(UNTIL) == STATISTICS:
            coordinator.begin(grid)
        else:
            _keep(folder, plan, coordinator.run(grid))
            (folder.path / SESSION).unlink(
                missing_ok=True
            )  # of the last session, whose sum is in the checkpoint
    except FedferError as error:
        parts = {"kind": type(error).__name__, "what": error.what, "where": error.where, "cure": error.cure}
        folder.write_json(OUTCOME, {"error": parts})
        raise
    folder.write_json(OUTCOME, {"done": True})


def _plan_of(folder: RunFolder) -> Plan:
    facts = folder.read_json("plan.json")
    if not isinstance(facts, dict):
        raise ConfigError("the run folder holds no plan", where=str(folder.path), cure="Start it anew.")
    return read_plan(json.dumps(facts["plan"]))


def _coordinator(grid: Grid, folder: RunFolder, plan: Plan) -> tuple[Coordinator, Grid]:
    """Return what runs the plan, and a grid that signs what it asks."""
    progress = folder.path / PROGRESS

    def observe(line: dict[str, Any]) -> None:
        with progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    patience = parse(Patience, folder.read_json(PATIENCE) or {}, PATIENCE)
    roster = Roster.from_json((folder.path / ROSTER).read_text())
    sites = plan.most_sites if plan.secure else len(roster)
    # After every round: a site masks a round once, so one that is made again after a crash is lost.
    kept = {"sites": sites, "roster": roster, "checkpoint_seconds": 0.0}
    grid = signed(grid, (folder.path / SIGNATURE).read_text())
    return Coordinator(plan, folder, SYSTEM, observe, **kept), PatientGrid(grid, patience)


def _figures(plan: Plan, result: Result) -> dict[str, Any]:
    """Return what the summary says of the model; where nobody has evaluated it, why, and how an earlier one does."""
    if not result.unjudged:
        return figures_of(plan, result)
    note = f"the last evaluation was lost: {result.unjudged}; "
    if not result.counts:
        return {"unjudged": result.unjudged, "note": note + "nothing is known of how well this model does"}
    found = figures_of(plan, result)
    earlier = {"round": result.judged_round, **{key: found[key] for key in HEADLINE}}
    return {
        "unjudged": result.unjudged,
        "note": f"{note}the newest figures are of the weights after round {result.judged_round}",
        "earlier": earlier,
    }


def _keep(folder: RunFolder, plan: Plan, result: Result) -> None:
    """Write the model, its card and the summary."""
    flat = FlatModel(build(plan.model, plan.seed))
    flat.load_(result.vector)
    figures, totals = _figures(plan, result), result.totals
    privacy = plan.privacy
    trust = trust_of(privacy, simulated=False, secure=plan.secure) if privacy else None
    told = ("delta", "unit", "noise", "noise_multiplier", "counts_epsilon", "audit_epsilon")
    guarantee = {"epsilon": totals.epsilon, **{key: getattr(privacy, key) for key in told}} if privacy else {}
    facts = {
        "figures": {key: figures[key] for key in HEADLINE if key in figures},
        **({"evaluation": figures["note"]} if result.unjudged else {}),
        "privacy": "none"
        if privacy is None
        else f"epsilon {totals.epsilon:.2f}, delta {privacy.delta:g}, for one {privacy.unit}. {trust}",
        "what the coordinator learned": learned_of(plan),
    }
    save_model(folder.path / "model", flat.module, plan.model, labels=plan.labels, facts=facts)
    summary = {
        **figures, **guarantee, "trust": trust, "learned": learned_of(plan), "rounds": plan.server.rounds,
        "bytes_up": totals.bytes_up, "bytes_down": totals.bytes_down, "cpu_seconds": totals.cpu_seconds,
        "aggregation": plan.aggregation, "secure": asdict(plan.secure) if plan.secure else None,
    }  # fmt: skip
    whole = {"name": plan.run, "plan_hash": plan.digest, "order": [SYSTEM], "systems": {SYSTEM: summary}}
    whole["data"] = {"test": result.overall.rows if result.counts else 0, "classes": len(plan.labels)}
    folder.write_json("summary.json", whole)
    write_text(folder.path / "state.json", json.dumps({"status": "complete"}))
