"""Shares of a site's two secrets: divided, sealed for each peer, committed to; and opened by the peer."""

from __future__ import annotations

from collections.abc import Sequence

from client.secagg.agreement import open_sealed, seal
from client.secagg.shamir import split
from client.secagg.state import State
from client.secagg.statements import parcel_label, share_commitment
from client.secagg.wire import SHARE, Parcel


def sealed(
    state: State, site: int, near: Sequence[int], threshold: int, key: bytes
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes], tuple[Parcel, ...]]:
    """Return a site's own two shares, their commitments, and a parcel for each of its peers.

    Parameters
    ----------
    near : the site and its peers in increasing order; the k-th holds the share at the point k, from 1.
    key : 32 random bytes that the polynomials are drawn with.
    """
    shares = split([state.mask_key, state.seed], len(near), threshold, key)
    own, commitments, parcels = (b"", b""), (b"", b""), []
    for holder, (key_share, seed_share) in zip(near, shares, strict=True):
        pair = (
            share_commitment(state.session, site, holder, "key", key_share),
            share_commitment(state.session, site, holder, "seed", seed_share),
        )
        if holder == site:
            own, commitments = (key_share, seed_share), pair
            continue
        label = parcel_label(state.session, site, holder)
        box = seal(state.seal_keys[holder], site < holder, key_share + seed_share, label)
        parcels.append(Parcel(holder, box, *pair))
    return own, commitments, tuple(parcels)


def opened(key: bytes, session: bytes, site: int, parcel: Parcel) -> tuple[bytes, bytes] | None:
    """Return the two shares of a parcel for ``site``, None where it does not open or is not what was committed to."""
    both = open_sealed(key, parcel.peer < site, parcel.sealed, parcel_label(session, parcel.peer, site))
    if both is None:
        return None
    key_share, seed_share = both[:SHARE], both[SHARE:]
    good = (
        share_commitment(session, parcel.peer, site, "key", key_share) == parcel.key_commitment
        and share_commitment(session, parcel.peer, site, "seed", seed_share) == parcel.seed_commitment
    )
    return (key_share, seed_share) if good else None
