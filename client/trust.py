"""What a run shows to whom, and on whom that rests, in sentences for summaries, reports and cards."""

from __future__ import annotations

from client.plan import Plan, Privacy, Secure

POOLED = (
    "Everybody's pictures lie in one place, which adds the noise: the guarantee holds against whoever sees the model, "
    "and not against that place."
)
"""Of private training on pooled pictures."""

WORKED_OUT = (
    "The coordinator never saw a figure of a single site. The simulation, which holds everybody's pictures, evaluated "
    "the finished model at each site afterwards, outside of the protocol."
)
"""Of figures of single sites in a simulation with secure aggregation."""


TESTED = " A site's counts of test pictures carry noise of its own, and are private by themselves."
SHARED = " The noise on the counts of test pictures is divided among the sites in the same way."


def trust_of(privacy: Privacy, *, simulated: bool, secure: Secure | None = None) -> str:
    """Return what ``privacy`` holds against, and on whom that rests.

    Parameters
    ----------
    simulated : the sites are made up and run in the coordinator's processes.
    secure : the terms of secure aggregation, None with plain aggregation.
    """
    tested = "" if privacy.audit_epsilon is None else TESTED if privacy.noise == "site" else SHARED
    if privacy.noise == "site":
        return (
            "Each site's updates are private by themselves: the guarantee holds against everybody who sees them, the "
            f"coordinator and the other sites included, if the site that holds a picture adds its noise.{tested}"
        )
    honest = privacy.threshold - privacy.colluders
    whole = "a sum" if secure else "a round"
    if privacy.threshold == 1:
        sites = "if the one site of a round adds its noise and keeps it secret"
    else:
        sites = f"if at least {honest} of the {privacy.threshold} sites of {whole} add their noise and keep it secret"
    said = f"The guarantee holds against whoever sees only the sums over the sites, {sites}."
    if secure is not None:
        said += f" A sum is over {privacy.threshold} sites or more; each more adds noise."
    if privacy.counts_epsilon is not None:
        said += " A site's label counts carry noise of its own, and are private by themselves."
    if simulated and secure is None:
        said += (
            " A site's share by itself is not private enough, and in this simulation the coordinator's process sees "
            "each share: the figures are those of a run with secure aggregation."
        )
    return said + tested


def learned_of(plan: Plan) -> str:
    """Return what the coordinator of a finished run learned of its sites."""
    secure, counts = plan.secure, f"counts of right and wrong answers by class and group{_of_audit(plan)}"
    if plan.server.people:
        # Where all take part, the counts of other rounds travel with updates, and without these sums.
        which = "the last ones" if plan.server.participation >= 1 else "all of these"
        counts += f", with {which} sums of their squares and products over the people on the pictures"
    if secure is None:
        update = (
            "its update, with the noise of privacy" if plan.privacy else "its update and its training loss"
        )
        tables = _of_statistics(plan, "each site's ")
        return (
            f"Plain aggregation: the coordinator saw what each site sent, {update}, and its {counts}.{tables}"
        )
    what = "updates" if plan.privacy else "updates and training losses"
    site = (
        "whether it took part, and what its ledger says it has spent"
        if plan.privacy
        else "whether it took part"
    )
    groups = _of_statistics(plan) + _of_groups(plan) + _of_finish(plan)
    coordinator = "breaks" if secure.profile == "malicious" else "follows"
    alone = ""
    if secure.colluders:
        sites = "a site" if secure.colluders == 1 else f"up to {secure.colluders} sites"
        alone = f", also where {sites} of the round {'tells' if secure.colluders == 1 else 'tell'} it all they know"
    return (
        f"Secure aggregation: of every round the coordinator learned the sum over {secure.fewest} or more of "
        f"{secure.sites} sites, of {what} and of {counts}; of one site it "
        f"learned {site}. That holds against a coordinator that {coordinator} the protocol{alone}.{groups}"
    )


def _of_audit(plan: Plan) -> str:
    """Return how counts of test pictures are protected, empty where they are not."""
    privacy = plan.privacy
    if privacy is None or privacy.audit_epsilon is None:
        return ""
    whose = "at each site" if privacy.noise == "site" else "divided among the sites"
    return f", these once, after the last round, with noise of epsilon {privacy.audit_epsilon:g} {whose}"


def _of_statistics(plan: Plan, whose: str = "") -> str:
    """Return what statistics before training showed, empty without them; ``whose`` where they are no sums."""
    asked = plan.statistics
    if asked is None:
        return ""
    by = " and ".join(asked.by)
    how = f"fewer than {asked.smallest} of a kind at a site were not counted as such"
    if asked.epsilon is not None:
        how = f"with noise of epsilon {asked.epsilon:g} at each site, none below {asked.smallest} shown"
    tables = f"how many training pictures there are by class{f' and {by}' if by else ''}"
    return f" Before training it learned{'' if whose else ', as sums as well'}, {whose}{tables}; {how}."


def _of_finish(plan: Plan) -> str:
    """Return what the steps after the last round showed besides, empty without them."""
    finish = plan.finish
    if finish is None:
        return ""
    shown = ["how long features of training pictures are"]
    if finish.erase:
        shown.append(f"their sums by {finish.erase}")
    if finish.clusters:
        shown.append(
            f"their sums, and the classes of these pictures and those they are given, by {finish.clusters} clusters"
        )
    noise = ", each with the noise of privacy" if plan.privacy else ""
    return f" After the last round it learned, as sums as well, {'; '.join(shown)}{noise}."


def _of_groups(plan: Plan) -> str:
    """Return what fair training showed besides, empty without it."""
    fairness = plan.fairness
    if fairness is None:
        return ""
    shown = [f"how many training pictures there are by {fairness.attribute} and class"]
    if fairness.has_critic:
        shown.append("the update of the critic")
    if fairness.tallies:
        shown.append("how these pictures fared in each round")
    noise = ", each with the noise of privacy" if plan.privacy else ""
    said = f" For fair training it learned, as sums as well, {'; '.join(shown)}{noise}."
    said += " Whether a site told its groups or opted out is hidden in the sums."
    if plan.privacy is None:
        return f"{said} Sums over different sites would differ by what single sites hold: a site that drops out of one "
        "round shows, by the difference, roughly what it holds."
    return (
        f"{said} The noise protects {'a person' if plan.privacy.unit == 'subject' else 'a picture'}: that all pictures "
        "of a site are of one group is hidden by the sums alone."
    )
