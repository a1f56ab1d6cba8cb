"""``fedfer site check``: whether a site is ready, and what a plan would have it do, disclose and pay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from client.accounting import epsilon_of
from client.admission import require_allowed, require_fit, too_many_units
from client.agent import Agent
from client.footprint import leave_out_triton, peak_mb
from client.ledger import Ledger, close_all
from client.ledger_view import PROTECTED, figure
from client.limits import whole_run
from client.mechanisms import merged
from client.nets import net_of
from client.plan import LocalWork, Plan, Privacy, ServerWork, read_plan
from client.policy import SitePolicy, asked_statistics
from client.site_data import Held
from client.site_folder import SiteFolder
from client.trust import learned_of, trust_of
from client.workbench import Benches
from fer_models.check_tables import show
from fer_models.checks import check
from fer_models.errors import ConfigError, DataError, FedferError, PolicyError
from fer_models.flat import FlatModel
from fer_models.zoo import ModelSpec


def check_site(folder: SiteFolder, plan_file: Path | None, console: Console) -> None:
    """Print what a site is and holds, and what a plan would mean for it; raise the first thing that is wrong.

    Nothing is written: the private step is one of which nothing leaves.

    Raises
    ------
    FedferError : of the kind of what is wrong, after all that could be said has been printed.
    """
    leave_out_triton()
    wrong: list[FedferError] = []
    policy, plan = folder.policy(), None if plan_file is None else plan_of(plan_file)
    console.print(
        f"site {folder.name}: keys good, fingerprint {folder.request().fingerprint}", soft_wrap=True
    )
    held = folder.data()
    found = check(held.samples)
    show(found, console)
    errors = [finding.text for finding in found.findings if finding.severity == "error"]
    if errors:
        wrong.append(DataError(errors[0].rstrip("."), where="data.yaml", cure="Correct the data set."))
    if held.seed is not None:
        console.print("This is a rehearsal: randomness follows from a seed, and protects nobody.")
    try:
        policy.require_held(*held.sizes, folder.name)
    except PolicyError as error:
        wrong.append(error)
    ledger = folder.ledger(policy)
    try:
        wrong += _of_plan(folder, policy, held, plan, ledger, console)
    finally:
        close_all()
    if wrong:
        raise wrong[0]
    console.print("ready" if plan is None else "ready: this site would take part in the plan")


def plan_of(path: Path) -> Plan:
    """Return the plan of a file: that of a run folder, or of ``fedfer data deal``.

    Raises
    ------
    ConfigError : it holds none.
    """
    cure = "Give plan.json of a run folder, or of fedfer data deal."
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError("the plan cannot be read", where=str(path), cure=cure) from error
    if isinstance(given, dict) and "plan" in given:  # what a run folder holds
        given = given["plan"]
    return read_plan(json.dumps(given))


def _of_plan(
    folder: SiteFolder, policy: SitePolicy, held: Held, plan: Plan | None, ledger: Ledger, console: Console
) -> Iterator[FedferError]:
    """Print what a plan means, and yield what is wrong with it; without one, try a step of a plan of our own."""
    pictures, _ = held.sizes
    if plan is None:
        _try_step(folder, held, _own_plan(policy, held), console)
        return
    try:
        require_fit(plan, held.samples, folder.name)
    except DataError as error:
        yield error
        return
    for sentence in disclosures(plan):
        console.print(sentence, soft_wrap=True, markup=False)
    refusals = policy.refusals(plan, pictures, opted_out=held.opted_out)
    for each in refusals:
        console.print(f"refused by {each.rule}: {each.what}. {each.cure}", soft_wrap=True, markup=False)
    try:
        require_allowed(policy, plan, pictures, folder.name, opted_out=held.opted_out)
        console.print("the policy allows this plan")
        folder.settled.hold(plan, folder.name, telling=False)
    except FedferError as error:
        yield error
    yield from _of_cost(folder, held, plan, ledger, console)
    if not refusals:
        seconds = _try_step(folder, held, plan, console) * plan.server.rounds
        console.print(f"all {plan.server.rounds} rounds: about {seconds / 60:.1f} minutes of work here")
        yield from _of_hours(folder, policy, seconds, console)


def _of_hours(
    folder: SiteFolder, policy: SitePolicy, seconds: float, console: Console
) -> Iterator[FedferError]:
    """Print at which hours the site works and who has to sign, and yield that a run would take too long."""
    rules = policy.training
    asked = "signed by the coordinator" if policy.coordinator.signed else "whoever asks"
    console.print(
        f"Questions are answered at {', '.join(rules.times) or 'no hour'}, {asked}.", soft_wrap=True
    )
    if seconds > rules.hours * 3600:
        yield PolicyError(
            f"the run would take this site {seconds / 3600:.1f} hours, and {rules.hours:g} are allowed",
            where=f"{folder.name}, training.hours",
            cure="Plan fewer rounds, or less local work.",
        )


def disclosures(plan: Plan) -> Iterator[str]:
    """Yield what a plan asks of a site and shows to the coordinator, in sentences."""
    work = (
        f"{plan.server.rounds} rounds of {plan.local.amount} {plan.local.unit} with the net {plan.model.name}"
    )
    yield f"The plan asks for {work}."
    yield f"It counts {'; '.join(asked_statistics(plan).values())}."
    yield learned_of(plan)
    if plan.privacy is not None:
        yield trust_of(plan.privacy, simulated=False, secure=plan.secure)


def _of_cost(
    folder: SiteFolder, held: Held, plan: Plan, ledger: Ledger, console: Console
) -> Iterator[FedferError]:
    """Print what a private plan costs, and yield why the ledger has no room for it."""
    if plan.privacy is None:
        console.print(
            "It has no differential privacy: what leaves can tell who was there, and no ledger counts it."
        )
        return
    delta = plan.privacy.delta if ledger.limit is None else ledger.limit.delta
    own = whole_run(plan)
    total = epsilon_of(merged((*ledger.history(), *own)), delta)
    console.print(
        f"It costs epsilon {figure(epsilon_of(own, delta))} at most for {PROTECTED[plan.privacy.unit]}; with all that "
        f"has left before, {figure(total)} at delta {delta:g}.",
        soft_wrap=True,
    )
    reason = too_many_units(plan, _trial_agent(folder, held).units(plan), folder.name)
    if reason is not None:
        yield reason
    try:
        ledger.admit(plan)
    except FedferError as error:
        yield error


def _own_plan(policy: SitePolicy, held: Held) -> Plan:
    """Return a private plan that is tried where none is given: the net of the private recipes, noise 1."""
    samples, count = held.samples, len(held.samples.rows("train"))
    classes, channels, size = len(samples.labels), samples.channels, samples.size
    spec = ModelSpec("hog_linear", classes=classes, channels=channels, size=size, dropout=0.0)
    delta = min(policy.privacy.delta, 0.1 / max(1, count))
    privacy = Privacy(1.0, clip=1.0, delta=delta, nominal_units=max(1, count))
    work = LocalWork(amount=1, rate=0.2, augment=False)
    return Plan(samples.labels, spec, work, ServerWork(rounds=1, weighting="uniform"), privacy)


def _try_step(folder: SiteFolder, held: Held, plan: Plan, console: Console) -> float:
    """Train one round of a plan, of which nothing leaves, and return its seconds."""
    tried, agent = _tried(plan), _trial_agent(folder, held)
    vector = FlatModel(net_of(tried)).full_vector.clone().numpy()
    agent.train(tried, 1, vector)  # the first also tries the net
    began = time.perf_counter()
    agent.train(tried, 1, vector)
    seconds = time.perf_counter() - began
    kind = "private round" if plan.privacy else "round"
    console.print(f"one {kind} of {plan.model.name}: {seconds:.2f} s; nothing of it has left")
    console.print(f"memory of this process: {peak_mb():.0f} MB at most")
    return seconds


def _trial_agent(folder: SiteFolder, held: Held) -> Agent:
    """Return an agent that writes to no ledger and asks no policy."""
    return folder.agent(None, held, Benches(torch.device("cpu")), Ledger(site=folder.name))


def _tried(plan: Plan) -> Plan:
    """Return the plan of one step's work: without the rules of fair training, which need numbers of all sites."""
    prior = (1.0,) * len(plan.labels) if plan.uses_prior else ()
    privacy = None if plan.privacy is None else replace(plan.privacy, counts_epsilon=None)
    if privacy is not None and plan.tally_size:
        privacy = replace(privacy, parameters=max(1, privacy.parameters - plan.tally_size))
    local = replace(plan.local, prior=prior)
    server = replace(plan.server, by_site=None)
    return replace(plan, fairness=None, finish=None, privacy=privacy, local=local, server=server)
