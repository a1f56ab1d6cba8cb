"""What Flower's own SecAgg+ functions take for one round: keys, shares, quantising, masks, and taking masks off.

The calls are those of Flower's client mod and of its workflow, in their order, with the workflow's default ranges and
with everybody as everybody's neighbour. One site is timed from end to end; the coordinator takes as many vectors and
shares as it would, of which the vectors are drawn, because the sum does not change its work.
"""

from __future__ import annotations

import os
import time

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from numpy.typing import NDArray

CLIP, STEPS, MODULUS, MOST_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0
"""The workflow's defaults."""

Vector = list[NDArray[np.int64]]


class Site:
    """One site of SecAgg+: its two key pairs, the seed of its own mask, and what others shared with it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.mask_key, mask_public = generate_key_pairs()
        self.seal_key, seal_public = generate_key_pairs()
        self.mask_public, self.seal_public = (
            public_key_to_bytes(mask_public),
            public_key_to_bytes(seal_public),
        )
        self.seed = os.urandom(32)

    def parcels(self, sites: list[Site], threshold: int) -> list[bytes]:
        """Return the shares of the two secrets, encrypted for each other site."""
        secrets = self.seed, private_key_to_bytes(self.mask_key)
        shares = zip(*(create_shares(secret, threshold, len(sites)) for secret in secrets), strict=True)
        found = []
        for peer, (seed, key) in zip(sites, shares, strict=True):
            if peer is not self:
                text = share_keys_plaintext_concat(self.number, peer.number, seed, key)
                found.append(encrypt(self.sealing(peer), text))
        return found

    def sealing(self, peer: Site) -> bytes:
        """Return the key that seals parcels between two sites."""
        return generate_shared_key(self.seal_key, bytes_to_public_key(peer.seal_public))

    def masked(
        self, peers: list[Site], boxes: list[bytes], update: NDArray[np.float64], weight: int
    ) -> Vector:
        """Return the quantised update under all masks."""
        for peer, box in zip(peers, boxes, strict=True):
            share_keys_plaintext_separate(decrypt(self.sealing(peer), box))
        ratio = round(weight / MOST_WEIGHT * STEPS)
        parts = quantize(parameters_multiply([update], ratio / STEPS), CLIP, STEPS)
        vector = factor_combine(ratio, parts)
        shapes = [part.shape for part in vector]
        vector = parameters_addition(vector, pseudo_rand_gen(self.seed, MODULUS, shapes))
        for peer in peers:
            key = generate_shared_key(self.mask_key, bytes_to_public_key(peer.mask_public))
            change = parameters_addition if self.number > peer.number else parameters_subtraction
            vector = change(vector, pseudo_rand_gen(key, MODULUS, shapes))
        return parameters_mod(vector, MODULUS)


class Coordinator:
    """The coordinator of SecAgg+ from the masked vectors on."""

    def __init__(self, sites: list[Site], gone: set[int]) -> None:
        self.alive = [site for site in sites if site.number not in gone]
        self.gone = [site for site in sites if site.number in gone]
        self.total: Vector = []

    def add(self, vector: Vector) -> None:
        """Add a masked vector."""
        total = parameters_addition(self.total, vector) if self.total else vector
        self.total = parameters_mod(total, MODULUS)

    def unmasked(self, shares: dict[int, list[bytes]]) -> NDArray[np.float64]:
        """Return the weighted mean; ``shares`` are those that sites revealed of each secret."""
        shapes, total = [part.shape for part in self.total], self.total
        for site in self.alive:
            mask = pseudo_rand_gen(combine_shares(shares[site.number]), MODULUS, shapes)
            total = parameters_subtraction(total, mask)
        for site in self.gone:
            secret = bytes_to_private_key(combine_shares(shares[site.number]))
            for peer in self.alive:
                key = generate_shared_key(secret, bytes_to_public_key(peer.mask_public))
                change = parameters_addition if site.number > peer.number else parameters_subtraction
                total = change(total, pseudo_rand_gen(key, MODULUS, shapes))
        weight, parts = factor_extract(parameters_mod(total, MODULUS))
        offset = (len(self.alive) - 1) * CLIP
        return (dequantize(parts, CLIP, STEPS)[0] - offset) * (STEPS / weight)


def seconds(sites: int, size: int, drop_outs: float, repeats: int = 2) -> tuple[float, float]:
    """Return the CPU seconds of one site, the smallest of some, and of the coordinator.

    Parameters
    ----------
    size : numbers of an update.
    drop_outs : part of the sites that is gone before its vector is sent.
    """
    start = time.process_time()
    members = [Site(number) for number in range(sites)]
    of_keys = (time.process_time() - start) / sites
    threshold, rng = 2 * sites // 3 + 1, np.random.default_rng(0)
    update, site_seconds = rng.normal(0, 1, size), []
    for own in members[:repeats]:
        peers = [peer for peer in members if peer is not own]
        start = time.process_time()
        # Both directions have one key, so a site's own parcels cost as much to open as those of its peers.
        own.masked(peers, own.parcels(members, threshold), update, 500)
        site_seconds.append(time.process_time() - start + of_keys)
    coordinator = Coordinator(members, set(range(round(sites * drop_outs))))
    shares = {
        site.number: shares_of(site, alive=site in coordinator.alive, among=sites, threshold=threshold)
        for site in members
    }
    revealed = {number: found[: len(coordinator.alive)] for number, found in shares.items()}
    drawn: Vector = [np.array([500]), rng.integers(0, MODULUS, size)]
    start = time.process_time()
    for _ in coordinator.alive:
        coordinator.add(drawn)
    coordinator.unmasked(revealed)
    return min(site_seconds), time.process_time() - start


def shares_of(site: Site, *, alive: bool, among: int, threshold: int) -> list[bytes]:
    """Return the shares that others reveal of a site: of its seed where its vector has come, else of its key."""
    secret = site.seed if alive else private_key_to_bytes(site.mask_key)
    return create_shares(secret, threshold, among)
