"""Double masking as sites run it that believe their coordinator: what the attacks of this folder work against.

The four exchanges are those of Bonawitz et al. 2017 against a coordinator that only looks, in the form of Flower's
SecAgg+ mod: keys without signatures, a threshold from the coordinator, lists of the active and the dead that nobody
compares, no memory of earlier sessions. Every part but the weakness that a test is about is as good as ours.
"""

import numpy as np

from client.secagg.agreement import derive, exchanger, open_sealed, public_key, seal
from client.secagg.masks import keystream
from client.secagg.shamir import SHARE, combine, split

from .conftest import key

NUMBERS = 12


def update(site):
    """A site's update in fixed point: whole numbers of twenty bits, (NUMBERS,)."""
    return np.random.default_rng(site).integers(0, 1 << 20, NUMBERS, np.uint32)


def noise(secret):
    """A mask, (NUMBERS,), from the keystream of AES-256."""
    return np.frombuffer(keystream(secret).update(bytes(4 * NUMBERS)), "<u4")


def pair_mask(private, public, low):
    """The mask between two sites with the sign of the one of them that has the smaller number, or the other."""
    mask = noise(derive(exchanger(private)(public), b"", b"mask"))
    return mask if low else -mask


class Site:
    """One site; ``session`` tells its draws apart from those of other sessions."""

    def __init__(self, number, vector=None, session=0):
        self.number, self.vector = number, update(number) if vector is None else vector
        self.seal_key, self.mask_key, self.seed = (
            key(session, number, name) for name in ("seal", "mask", "seed")
        )

    def advertise(self, threshold):
        """Answer an offer with two public keys; the threshold is what the coordinator says."""
        self.threshold = threshold
        return public_key(self.seal_key), public_key(self.mask_key)

    def share(self, roll):
        """Answer ``roll``, site -> two public keys, with a box of two shares for each peer."""
        self.roll, self.held = dict(sorted(roll.items())), {}
        shares = split([self.seed, self.mask_key], len(roll), self.threshold, key(self.number, "shares"))
        boxes = {}
        for peer, pair in zip(self.roll, shares, strict=True):
            if peer == self.number:
                self.held[peer] = pair
            else:
                boxes[peer] = self.sealed(peer, b"".join(pair))
        return boxes

    def sealed(self, peer, data):
        return seal(self.box_key(peer), self.number < peer, data, b"")

    def opened(self, peer, box):
        return open_sealed(self.box_key(peer), peer < self.number, box, b"")

    def box_key(self, peer):
        return derive(exchanger(self.seal_key)(self.roll[peer][0]), b"", b"seal")

    def mask(self, boxes):
        """Answer the boxes, sender -> box, with the masked vector."""
        total = self.vector + noise(self.seed)
        for peer, box in boxes.items():
            both = self.opened(peer, box)
            self.held[peer] = both[:SHARE], both[SHARE:]
            total += pair_mask(self.mask_key, self.roll[peer][1], self.number < peer)
        return total

    def unmask(self, active, dead):
        """Give the seed's share of each active site and the key's share of each dead one."""
        return {peer: self.held[peer][0] for peer in active}, {peer: self.held[peer][1] for peer in dead}


def upto_masked(sites, threshold):
    """Run three exchanges honestly; return the masked vectors by site."""
    roll = {site.number: site.advertise(threshold) for site in sites}
    boxes = {site.number: site.share(roll) for site in sites}
    return {site.number: site.mask(boxes_for(site.number, boxes)) for site in sites}


def boxes_for(site, boxes):
    return {sender: mine[site] for sender, mine in boxes.items() if sender != site}


def secret_of(shares):
    """The secret that shares, holder's place from 1 -> share, make."""
    return combine(list(shares), [[share] for share in shares.values()])[0]


def stripped(masked, number, seed, mask_key, roll):
    """A masked vector without any of its masks, by one who knows both of the site's secrets."""
    left = masked - noise(seed)
    for peer, (_, public) in roll.items():
        if peer != number:
            left = left - pair_mask(mask_key, public, number < peer)
    return left


def sum_of(sites, masked, gone=()):
    """The sum over the sites that stay, as an honest coordinator works it out at the end."""
    members, threshold = {site.number: site for site in sites}, sites[0].threshold
    stay = [number for number in members if number not in gone]
    # Place from 1 -> (shares of seeds, shares of keys), of as many sites as it takes.
    told = {place: members[number].unmask(stay, list(gone)) for place, number in enumerate(members, 1)
            if number in stay}  # fmt: skip
    told = dict(list(told.items())[:threshold])
    total = sum((masked[number] for number in stay), np.zeros(NUMBERS, np.uint32))
    for number in stay:
        total -= noise(secret_of({place: seeds[number] for place, (seeds, _) in told.items()}))
    for number in gone:
        secret = secret_of({place: keys[number] for place, (_, keys) in told.items()})
        for peer in stay:
            total += pair_mask(secret, members[peer].advertise(threshold)[1], number < peer)
    return total
