"""What the tests of a site share: pictures of noise, plans, agents."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from client.agent import Agent
from client.identity import Identity
from client.ledger import Ledger
from client.plan import Attribute, LocalWork, Plan, Privacy, ServerWork
from client.randomness import SeededEntropy
from client.site_folder import SiteFolder
from client.study import Study
from client.training import LocalRows
from client.workbench import Benches, Workbench
from fer_models.samples import Samples
from fer_models.zoo import ModelSpec
from server.authority import make_authority

LABELS = ("neutral", "happiness", "surprise")
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def samples():
    """150 pictures of noise with a bright band whose height tells the class."""
    rng = np.random.default_rng(0)
    label = (np.arange(150) % 3).astype(np.int16)
    pictures = rng.integers(0, 200, (150, 48, 48), np.uint8)
    for row, true in enumerate(label):
        pictures[row, 16 * true : 16 * true + 8] = 255
    return Samples(
        pictures=pictures,
        label=label,
        labels=LABELS,
        source=np.array([f"{i}.png" for i in range(150)]),
        split=np.array(["train"] * 150),
        votes=rng.integers(1, 9, (150, 3)).astype(np.float32),
        groups={"age": np.array(["young", "old", "undisclosed"])[rng.integers(0, 3, 150)]},
        name="drawn",
    )


@pytest.fixture(scope="session")
def plan_of():
    """Return plans: a base, changed by keyword; each part takes a mapping of changes."""

    def make(name="cnn_tiny", *, norm="gn", dropout=0.0, local=None, server=None, privacy=None, **rest):
        work = {"augment": False, "gradient_clip": 0.0, **(local or {})}
        if privacy is not None:
            facts = {"noise_multiplier": 1.0, "clip": 1.0, "delta": 1e-5, "nominal_units": 50, **privacy}
            privacy = Privacy(**facts)
            work = {"rate": 0.2, **work}
            server = {"weighting": "uniform", **(server or {})}
        return Plan(
            labels=LABELS,
            model=ModelSpec(name, norm=norm, classes=3, dropout=dropout),
            local=LocalWork(**work),
            server=ServerWork(**(server or {})),
            privacy=privacy,
            **{"groups": (Attribute("age", ("old", "undisclosed", "young")),), **rest},
        )

    return make


@pytest.fixture(scope="session")
def bench_of():
    return lambda plan: Workbench(plan, CPU)


@pytest.fixture(scope="session")
def rows_of(samples):
    """Return the training data of a site that holds the given rows."""

    def make(rows, votes=True, kept=None):
        rows = np.asarray(rows)
        table = samples if votes else replace(samples, votes=None)
        return LocalRows(samples, rows, torch.from_numpy(table.targets(rows)), kept)

    return make


@pytest.fixture
def agent_of(samples):
    def make(
        name="site-0",
        *,
        train=range(50),
        test=range(100, 150),
        path=None,
        seed=0,
        table=None,
        entropy=None,
        limit=None,
    ):
        return Agent(
            name,
            samples if table is None else table,
            np.asarray(train, np.intp),
            np.asarray(test, np.intp),
            entropy=entropy or SeededEntropy(seed, name),
            ledger=Ledger(path, name, limit),
            benches=Benches(CPU),
        )

    return make


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder / "ca.key", folder / "ca.crt", "study", datetime.now(UTC))
    return (folder / "ca.crt").read_text()


@pytest.fixture
def joined(tmp_path, samples, authority):
    """A made-up site that has joined a study with two others, and whose policy allows plain training."""
    root = tmp_path / "pictures"
    split = np.where(np.arange(len(samples)) < 100, "train", "test")
    replace(samples, split=split).save(root)
    (root / "rehearsal.json").write_text(json.dumps({"site": "clinic", "seed": 3}))
    folder = SiteFolder.make(tmp_path / "clinic", "clinic", "rehearsal", str(root))
    keys = {"clinic": folder.identity().public.hex()}
    keys |= {name: Identity(name.encode() * 8).public.hex() for name in ("labo", "city")}
    study = Study(1, "", "localhost:9443", authority, keys, "").signed(Identity(b"c" * 32))
    folder.join(study, study.fingerprint)
    rules = (folder.path / "policy.yaml").read_text()
    (folder.path / "policy.yaml").write_text(rules.replace("models: [", "models: [cnn_tiny, "))
    return folder
