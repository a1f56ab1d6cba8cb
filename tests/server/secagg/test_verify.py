"""A transcript that is replayed, and everything that can be wrong with one."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.agent import Update
from client.identity import Identity, Roster
from client.plan import Attribute, LocalWork, Plan, Secure, ServerWork
from client.secagg.layout import layout_of, read_sum, trained
from client.secagg.wire import Consent, Masked, Offer, Reveal, Shares
from fer_models.errors import SecureAggregationError
from fer_models.zoo import ModelSpec
from server.aggregation import mean_of_sum
from server.optimizers import ServerOptimizer
from server.secagg.transcript import Transcripts
from server.secagg.verify import verify

from .conftest import World, key

NUMBERS, SITES = 20, 5
LABELS = ("neutral", "happiness", "surprise")
AUDITED = Plan(
    labels=LABELS,
    model=ModelSpec("cnn_tiny", norm="gn", classes=3),
    local=LocalWork(),
    server=ServerWork(optimizer="adam", ema=0.9),
    groups=(Attribute("age", ("old", "undisclosed", "young")),),
    run="audited",
    aggregation="secure",
    secure=Secure(SITES, 4, 3, clip=4.0, largest_weight=128),
)


class Training(World):
    """Sites that train: a plan's layout, random updates, and the server's step at the end."""

    def __init__(self, plan, folder):
        self.plan, self.layout = plan, layout_of(plan, "train", NUMBERS)
        keys = [Identity(key("identity", site)).public for site in range(SITES)]
        self.transcripts = Transcripts(folder, plan, Roster({f"site-{s:03}": k for s, k in enumerate(keys)}))
        super().__init__(
            SITES, words64=self.layout.words64, words32=self.layout.words32, record=self.transcripts.record,
            least=3,
            run=hashlib.sha256(plan.run.encode()).digest(), plan=bytes.fromhex(plan.digest), layout=self.layout.digest,
        )  # fmt: skip

    def body(self, site):
        delta = np.random.default_rng(site).normal(size=NUMBERS).astype(np.float32)
        update = Update(delta, 10 + site, 40, 0.5, ())
        return self.layout.encode(trained(self.plan, update, 0.1, None), 10 + site, key("dither", site))

    def round(self):
        done = self.run({1: 2})
        optimizer = ServerOptimizer(self.plan.server, torch.linspace(-1, 1, NUMBERS), NUMBERS - 2)
        found = read_sum(self.plan, self.layout, done.total, len(done.survivors))
        with self.transcripts.step(1, optimizer):
            optimizer.step(mean_of_sum(self.plan, found), 1)


@pytest.fixture(scope="module")
def plan():
    return AUDITED


@pytest.fixture(scope="module")
def kept(plan, tmp_path_factory):
    """A transcript that is right, not to be changed."""
    folder = tmp_path_factory.mktemp("transcripts")
    world = Training(plan, folder)
    world.round()
    return world, folder / "000001"


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of the right transcript."""
    return shutil.copytree(kept[1], tmp_path / "000001")


def test_a_transcript_holds(kept):
    world, folder = kept
    found = verify(folder, world.roster)
    assert (found.run, found.session, found.round_number, found.purpose) == ("audited", 1, 1, "train")
    assert found.survivors == ("site-000", "site-002", "site-003", "site-004")
    assert [check.partition(":")[0] for check in found.checks] == [
        "offer", "keys", "vectors", "survivors", "shares", "sum", "count and canaries", "next model",
    ]  # fmt: skip


FILES = (
    "plan.json", "roster.json", "offer.bin", "advert-0.bin", "shares-0.bin", "masked-2.bin", "consent-0.bin",
    "reveal-3.bin",     "sum.bin", "before.safetensors", "step.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(folder, name):
    path = folder / name
    for at in (-1, len(path.read_bytes()) // 2):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(SecureAggregationError):
            verify(folder)
        data[at] ^= 1
        path.write_bytes(data)
    verify(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(folder, name):
    (folder / name).unlink()
    with pytest.raises(SecureAggregationError):
        verify(folder)


def refused(folder, code, name, culprit=None, **trusted):
    with pytest.raises(SecureAggregationError) as found:
        verify(folder, **trusted)
    assert (found.value.code, found.value.culprit) == (code, culprit), str(found.value)
    assert found.value.where == f"{name}, {code}"


def test_each_fault_is_named(kept, folder):
    world = kept[0]
    other = Roster({"site-000": world.identities[0].public})
    refused(folder, "wrong_offer", "roster.json", roster=other)
    (folder / "notes.txt").touch()
    refused(folder, "malformed", "notes.txt")
    refused(folder / "nowhere", "malformed", "nowhere")


def changed(folder, name, parser, **parts):
    """Change parts of a message of the transcript."""
    path = folder / name
    message = parser.parse(path.read_bytes())
    path.write_bytes(replace(message, **parts).encode())


def test_a_forged_offer(folder):
    for name, value in {
        "run": bytes(32),
        "plan": bytes(32),
        "roster": bytes(32),
        "layout": bytes(32),
    }.items():
        before = (folder / "offer.bin").read_bytes()
        changed(folder, "offer.bin", Offer, **{name: value})
        refused(folder, "wrong_offer", "offer.bin")
        (folder / "offer.bin").write_bytes(before)
    changed(
        folder, "offer.bin", Offer, threshold=5
    )  # signed by nobody: what the sites signed was another offer
    refused(folder, "bad_signature", "advert-0.bin", 0)


def test_a_forged_message(folder):
    for name, parser, site in (
        ("shares-2.bin", Shares, 2),
        ("masked-3.bin", Masked, 3),
        ("consent-0.bin", Consent, 0),
        ("reveal-2.bin", Reveal, 2),
    ):
        before = (folder / name).read_bytes()
        changed(folder, name, parser, signature=bytes(64))
        refused(folder, "bad_signature", name, site)
        (folder / name).write_bytes(before)


def test_a_vector_that_was_left_out(folder):
    """Four consents are to four survivors: a transcript with another set of vectors has no consent."""
    (folder / "masked-4.bin").unlink()
    refused(folder, "too_few", "masked-*.bin")


def test_another_vector(folder):
    data = bytearray((folder / "masked-0.bin").read_bytes())
    data[Masked.HEAD + 9] ^= 1
    (folder / "masked-0.bin").write_bytes(data)
    refused(folder, "bad_signature", "masked-0.bin", 0)


def test_another_sum(folder):
    data = bytearray((folder / "sum.bin").read_bytes())
    data[-30] ^= 1
    (folder / "sum.bin").write_bytes(data)
    refused(folder, "bad_sum", "sum.bin")


def test_another_next_model(folder):
    facts = json.loads((folder / "step.json").read_text())
    for name in ("vector", "average"):
        (folder / "step.json").write_text(json.dumps(facts | {name: "0" * 64}))
        refused(folder, "bad_sum", "step.json")
    (folder / "step.json").write_text(json.dumps(facts | {"round": 2}))
    refused(folder, "wrong_offer", "step.json")


def test_too_few_reveals(folder):
    for path in folder.glob("reveal-*.bin"):
        path.unlink()
    refused(folder, "too_few", "reveal-*.bin", 0)


def test_a_stranger(folder):
    """Site 1 shared and dropped out: nothing of it may come after."""
    (folder / "consent-1.bin").write_bytes(Consent(1, 1, bytes(64)).encode())
    refused(folder, "unknown_site", "consent-1.bin", 1)
