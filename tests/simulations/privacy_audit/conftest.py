"""Three faults that break a guarantee, planted in the code that trains, past its guards."""

import pytest

import client.workbench
from client.bookkeeping.gradients import PrivateGradients
from client.gradients import KeyedOptimizer
from client.workbench import Workbench
from fer_models.losses import soft_cross_entropy


def without_noise(patch):
    patch.setattr(KeyedOptimizer, "add_noise", lambda _: None)


def without_clip(patch):
    settle = PrivateGradients.settle
    patch.setattr(PrivateGradients, "settle", lambda self, total, *_: settle(self, total, 1e9))


def centred_losses(bench, x, targets):
    """Cross-entropy of logits from which the batch's mean is taken off: every picture reacts to every other."""
    logits = bench.flat.module(x)
    return soft_cross_entropy(logits - logits.mean(0), targets, bench.plan.local.smoothing)


def with_coupled_loss(patch):
    patch.setattr(Workbench, "losses", centred_losses)


def past_the_guards(patch):
    patch.setattr(client.workbench, "prove", lambda *_: None)


FAULTS = {"noise off": without_noise, "clip off": without_clip, "coupled loss": with_coupled_loss}


@pytest.fixture
def plant(monkeypatch):
    """plant(name, guarded=False): plant a fault for the length of a test."""

    def make(name, guarded=False):
        if not guarded:
            past_the_guards(monkeypatch)
        FAULTS[name](monkeypatch)

    return make


@pytest.fixture(scope="session")
def private_words():
    """Two sites that train one linear layer for three rounds at epsilon 1.5, and are audited quickly."""
    data = [
        "data.options.count=300",
        "data.options.pictures_per_person=3",
        "partition=iid",
        "partition.sites=2",
    ]
    data.append("data.options.labels=[neutral,happiness,surprise]")
    work = ["experiment=private", "server.rounds=3", "server.evaluate_every=3", "engine.workers=1"]
    privacy = ["privacy.target_epsilon=1.5", "privacy.allow_useless=true"]
    return [*data, *work, *privacy, "privacy_audit.canaries=300", "privacy_audit.trials=500"]
