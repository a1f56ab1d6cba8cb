"""Every reason for which a message of secure aggregation is refused or a session ends, and its cure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fer_models.errors import SecureAggregationError

CURES = {
    "aborted": "The run goes on with the next round.",
    "already_masked": "Nothing: a second masked vector for one round would take the first one's mask off.",
    "bad_ciphertext": "Nothing: the coordinator leaves the site out once two others complain of it.",
    "bad_commitment": "Nothing: the coordinator leaves the site out.",
    "bad_key": "Run the same version of FedFER everywhere.",
    "bad_secret": "Nothing: the site shared another secret than it used. Leave it out of the next rounds.",
    "bad_share": "Nothing: the sum needs no share of that site while enough others are good.",
    "bad_signature": "Compare the site's public key with the roster.",
    "bad_sum": "Run the same version of FedFER everywhere; a site that lies about its mask gives this, too.",
    "bad_value": "Lower the learning rate, or raise the bound that the plan names.",
    "below_floor": "Ask for more sites or a higher threshold; only the site can lower its floors.",
    "complained": "Nothing: the site is out of this session and takes part in the next.",
    "damaged_journal": "Put the newest copy back; without it the site cannot know what it has sent.",
    "damaged_session": "Nothing: a new session is begun. Look at the disk, and who may write to the run folder.",
    "late": "Nothing: the session has gone on without it.",
    "malformed": "Run the same version of FedFER everywhere.",
    "not_invited": "Nothing: the site takes part once it is invited.",
    "other_company": "Ask the same sites again; or plan privacy=dp with privacy.audit_epsilon and counts with noise.",
    "out_of_order": "Send the messages of a session in their order.",
    "oversize": "Run the same version of FedFER everywhere.",
    "replayed": "Nothing: one question has one answer.",
    "simulation_only": "Run a complete graph: up to 200 sites a session.",
    "split_view": "Ask the coordinator why it told sites different things; nothing was revealed.",
    "stale_session": "Give every session of a run a higher number.",
    "too_few": "Wait for more sites, or invite fewer in the next round.",
    "unknown_site": "Add the site to the roster.",
    "unwritable_journal": "Free disk space or mend the disk; nothing leaves the site without its entry there.",
    "wrong_length": "Run the same plan and version of FedFER everywhere.",
    "wrong_offer": "Compare the plan, the roster and the version of FedFER of site and coordinator.",
    "wrong_question": "Ask every site the same question.",
    "wrong_session": "Nothing: the message belongs to another session.",
    "wrong_survivors": "Nothing: the coordinator named survivors that cannot be.",
}
"""Code of a fault -> what to do."""


def refuse(code: str, what: str, culprit: int | None = None) -> SecureAggregationError:
    """Return the error of a fault; ``culprit`` is the id of the site that is at fault, if one is."""
    where = code if culprit is None else f"site {culprit}, {code}"
    return SecureAggregationError(what, code=code, culprit=culprit, where=where, cure=CURES[code])


@contextlib.contextmanager
def blaming(culprit: int) -> Iterator[None]:
    """Put a site's id on every refusal of the block that names no culprit yet."""
    try:
        yield
    except SecureAggregationError as error:
        if error.culprit is not None:
            raise
        raise refuse(error.code, error.what, culprit) from error
