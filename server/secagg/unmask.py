"""From revealed shares to the masks that are still in the sum, each secret checked against what its owner published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from client.secagg import statements
from client.secagg.agreement import derive, exchanger, public_key
from client.secagg.masks import add_masks
from client.secagg.refusals import refuse
from client.secagg.shamir import combine
from client.secagg.wire import Reveal
from server.secagg.view import View


def unmask(view: View, total: bytearray, reveals: Mapping[int, Reveal]) -> None:
    """Take the masks off a sum, in place.

    Parameters
    ----------
    total : sum of the survivors' masked vectors.
    reveals : site -> its revealed shares, checked.

    Raises
    ------
    SecureAggregationError : (too_few) an owner's secret has fewer shares than it takes; (bad_secret) the shares of a
        site make another secret than it published.
    """
    keys, signs = masks_left(view, secrets_of(view, reveals))
    add_masks(memoryview(total), view.offer.words64, keys, signs)


def secrets_of(view: View, reveals: Mapping[int, Reveal]) -> dict[int, bytes]:
    """Return each member's secret, 32 bytes: a survivor's seed, the key of one that dropped out."""
    alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for owner in view.members:
        alike[_holders(view, owner, reveals)].append(owner)
    shared = {site: dict(reveal.shares) for site, reveal in reveals.items()}
    found: dict[int, bytes] = {}
    # Owners whose holders are the same share one Lagrange vector.
    for holders, owners in alike.items():
        points = [point for point, _ in holders]
        rows = [[shared[site][owner] for owner in owners] for _, site in holders]
        found |= zip(owners, _combined(points, rows, owners), strict=True)
    for owner in view.members:
        _check_secret(view, owner, found[owner])
    return found


def _holders(view: View, owner: int, reveals: Mapping[int, Reveal]) -> tuple[tuple[int, int], ...]:
    """Return (point, site) of as many holders of an owner's shares as it takes."""
    near = view.graph.around(owner, view.adverts)
    holders = tuple((point, site) for point, site in enumerate(near, 1) if site in reveals)
    if len(holders) < view.offer.threshold:
        raise refuse("too_few", f"{len(holders)} shares where {view.offer.threshold} are needed", owner)
    return holders[: view.offer.threshold]


def _combined(points: list[int], rows: list[list[bytes]], owners: list[int]) -> list[bytes]:
    """Return the secrets of some owners; where shares make none, whose they are is found one by one."""
    try:
        return combine(points, rows)
    except ValueError as error:
        if len(owners) == 1:
            # The shares are those that the owner committed to, so they were never a polynomial's.
            raise refuse("bad_secret", f"shares that make no secret: {error}", owners[0]) from error
    return [_combined(points, [[row[k]] for row in rows], [owner])[0] for k, owner in enumerate(owners)]


def _check_secret(view: View, owner: int, secret: bytes) -> None:
    """Refuse a secret that is not the one that its owner published: whoever shared it is at fault."""
    advert = view.adverts[owner]
    if owner in view.survivors:
        good = statements.seed_commitment(view.offer_hash, owner, secret) == advert.commitment
    else:
        good = public_key(secret) == advert.mask_key
    if not good:
        raise refuse("bad_secret", "shares that make another secret than the site published", owner)


def masks_left(view: View, secrets: Mapping[int, bytes]) -> tuple[list[bytes], list[int]]:
    """Return the keys of the masks that are still in the sum, and the signs that take them off.

    A survivor's self mask was added. Its masks with peers that dropped out have found no counterpart: it added them
    where its own id is the smaller one, and else subtracted them.
    """
    keys: list[bytes] = []
    signs: list[int] = []
    for owner, secret in secrets.items():
        if owner in view.survivors:
            keys.append(derive(secret, view.session, statements.self_info(owner, view.question)))
            signs.append(-1)
            continue
        shared = exchanger(secret)
        for peer in view.graph.around(owner, view.survivors):
            advert = view.adverts[peer]
            keys.append(
                derive(
                    shared(advert.mask_key), view.session, statements.mask_info(owner, peer, view.question)
                )
            )
            signs.append(-1 if peer < owner else 1)
    return keys, signs
