"""Whether a site answers a plan at all: it fits the site's pictures, and no rule of the site's policy refuses it."""

from __future__ import annotations

from client.limits import whole_run
from client.mechanisms import History, Mechanism, is_part, merged
from client.plan import Plan
from client.policy import Refusal, SitePolicy
from fer_models.errors import ConfigError, DataError, PolicyError, PrivacyError
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples


def require_fit(plan: Plan, samples: Samples, site: str) -> None:
    """Refuse a plan for other classes or other pictures than a site's.

    Raises
    ------
    DataError : what differs.
    """
    if plan.labels != samples.labels:
        raise DataError(
            f"the plan names the classes {', '.join(plan.labels)}, the site's are {', '.join(samples.labels)}",
            where=site,
            cure="Use one list of labels for all sites.",
        )
    asked, held = (plan.model.channels, plan.model.size), (samples.channels, samples.size)
    if asked != held:
        raise DataError(
            f"the plan's net takes {asked[0]} x {asked[1]} x {asked[1]}, the site's pictures are "
            f"{held[0]} x {held[1]} x {held[1]}",
            where=site,
            cure="Read the pictures in the size and channels of the model.",
        )
    if plan.server.people and samples.people is None:
        raise DataError(
            "the plan asks for sums over people, and no column says who is on a picture",
            where=site,
            cure="Give the pictures a column subject, or plan server.people=false.",
        )
    if samples.known is not None:
        try:
            plan.local.require_known_classes()
        except ConfigError as error:
            raise DataError(error.what, where=site, cure=error.cure) from error


def no_place(plan: Plan, site: str) -> DataError | None:
    """Return why a plan is none for a site that tells nobody's group, None where it has a place for such."""
    blind = [name for name, values in plan.attributes.items() if UNDISCLOSED not in values]
    if not blind:
        return None
    return DataError(
        f"the plan has no place for pictures whose {blind[0]} is undisclosed",
        where=site,
        cure=f"Add the value {UNDISCLOSED} to {blind[0]}.",
    )


def require_allowed(
    policy: SitePolicy | None, plan: Plan, pictures: int, site: str, *, opted_out: bool = False
) -> None:
    """Refuse a plan that a site's policy does not allow; without a policy everything is allowed.

    Parameters
    ----------
    pictures : the site's training pictures; see :meth:`client.policy.SitePolicy.refusals` on what it tells of them.
    opted_out : the site tells nobody's group.

    Raises
    ------
    PolicyError : with the first rule that refuses it.
    """
    found = () if policy is None else policy.refusals(plan, pictures, opted_out=opted_out)
    if found:
        raise _refused(found[0], site)


def require_room(
    policy: SitePolicy | None, plan: Plan, spent: History, mechanism: Mechanism, site: str
) -> None:
    """Refuse a release with which a run would pass the policy's limit, however often its rounds were asked for.

    Where a site takes part in every round, the whole run was held against that limit before the first: what is part of
    the run needs no accountant.

    Parameters
    ----------
    spent : what the run has released.
    """
    if policy is None:
        return
    after = merged((*spent, mechanism))
    if plan.server.participation >= 1 and is_part(after, whole_run(plan)):
        return
    refusal = policy.over_run(after)
    if refusal is not None:
        raise _refused(refusal, site)


def _refused(refusal: Refusal, site: str) -> PolicyError:
    return PolicyError(refusal.what, where=f"{site}, {refusal.rule}", cure=refusal.cure)


def too_many_units(plan: Plan, units: int, site: str) -> PrivacyError | None:
    """Return why a plan's delta is no promise for that many pictures or people, None where it is one."""
    assert plan.privacy is not None
    delta, by_person = plan.privacy.delta, plan.privacy.unit == "subject"
    if delta * units < 1:
        return None
    return PrivacyError(
        f"delta {delta:g} is not below 1 / {units}, the {'people' if by_person else 'pictures'} of this site",
        where=f"{site}, privacy.delta",
        cure=f"Ask for a plan with delta {0.1 / units:.0e} or less.",
    )
