"""Whom a guarantee asks one to trust, in a sentence for summaries, reports and cards."""

from __future__ import annotations

from client.plan import Privacy

POOLED = (
    "Everybody's pictures lie in one place, which adds the noise: the guarantee holds against whoever sees the model, "
    "and not against that place."
)
"""Of private training on pooled pictures."""


def trust_of(privacy: Privacy, *, simulated: bool) -> str:
    """Return what ``privacy`` holds against, and on whom that rests.

    Parameters
    ----------
    simulated : the sites are made up and run in the coordinator's processes, without secure aggregation.
    """
    if privacy.noise == "site":
        return (
            "Each site's updates are private by themselves: the guarantee holds against everybody who sees them, the "
            "coordinator and the other sites included, if the site that holds a picture adds its noise."
        )
    honest = privacy.threshold - privacy.colluders
    if privacy.threshold == 1:
        sites = "if the one site of a round adds its noise and keeps it secret"
    else:
        sites = f"if at least {honest} of the {privacy.threshold} sites of a round add their noise and keep it secret"
    said = f"The guarantee holds against whoever sees only the sums over the sites, {sites}."
    if privacy.counts_epsilon is not None:
        said += " A site's label counts carry noise of its own, and are private by themselves."
    if simulated:
        said += (
            " A site's share by itself is not private enough, and in this simulation the coordinator's process sees "
            "each share: the figures are those of a run with secure aggregation."
        )
    return said
