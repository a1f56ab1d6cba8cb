"""What docs/secure-aggregation.md says of sizes and thresholds is what the code does."""

import re
from pathlib import Path

import pytest

from client.secagg import wire
from client.secagg.terms import least_threshold

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "secure-aggregation.md").read_text()
BODY = bytes(96)


def messages(n, t):
    """One of each message of a session of n sites."""
    ids, key, sign, digest = tuple(range(n)), bytes(32), bytes(64), bytes(32)
    adverts = tuple(wire.Advert(1, site, key, key, digest, sign) for site in ids)
    parcels = tuple(wire.Parcel(site, bytes(wire.SEALED), digest, digest) for site in ids[1:])
    return {
        "offer": wire.Offer(1, digest, "train", 1, "malicious", digest, digest, digest, 8, 8, ids, t, 3),
        "advert": adverts[0],
        "roll": wire.Roll(1, adverts),
        "shares": wire.Shares(1, 0, (digest, digest), parcels, sign),
        "inbox": wire.Inbox(1, ids, parcels),
        "masked": wire.Masked(1, 0, digest, digest, sign, BODY),
        "survivors": wire.Survivors(1, ids),
        "consent": wire.Consent(1, 0, sign),
        "consents": wire.Consents(1, tuple((site, sign) for site in ids[:t])),
        "reveal": wire.Reveal(1, 0, tuple((site, bytes(wire.SHARE)) for site in ids), sign),
    }


@pytest.mark.parametrize("n", [3, 10, 50])
def test_sizes_of_messages(n):
    t = least_threshold(n, "malicious")
    told = dict(re.findall(r"^\| (\w+) \| (?:site|coordinator) \| ([^|]+) \|", PAGE, re.MULTILINE))
    sent = messages(n, t)
    assert list(told) == list(sent)
    for name, message in sent.items():
        formula = re.sub(r"(\d) (?=[Nt(])", r"\1 * ", told[name])
        assert set(formula) <= set("0123456789 +-*()NtB"), formula
        assert eval(formula, {"N": n, "t": t, "B": len(BODY)}) == len(message.encode()), name


def test_what_a_site_sends():
    fixed, each = map(int, re.search(r"A site sends (\d+) \+ (\d+) N bytes beside", PAGE).groups())
    sent = messages(50, 34)
    beside = sum(len(sent[name].encode()) for name in ("advert", "shares", "consent", "reveal"))
    assert beside == fixed + each * 50
    vector = 4 * 1_000_000
    whole = vector + beside + wire.Masked.HEAD + 8 * 9 + 4 * 4  # count, weight, CPU, loss, visits; canaries
    assert f"{whole / vector:.4f} times the vector: {whole / 1e6:.2f} MB" in PAGE.replace("\n", " ")


def test_thresholds():
    found = re.findall(r"^\| ([a-z, -]+) \| ([\d| ]+) \|$", PAGE, re.MULTILINE)
    rows = {name: cells.split(" | ") for name, cells in found}
    for i, sites in enumerate(map(int, rows["sites a round"])):
        needed = least_threshold(sites, "malicious")
        assert int(rows["needed, malicious"][i]) == needed
        assert int(rows["may drop out"][i]) == sites - needed
        assert int(rows["needed, semi-honest"][i]) == least_threshold(sites, "semi-honest")
