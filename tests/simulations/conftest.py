"""One whole comparison, which several tests look at."""

import pytest

from simulations.cli import main

WORDS = [
    "data.options.count=300",
    "data.options.pictures_per_person=3",
    "model=cnn_tiny",
    "partition.sites=3",
]
WORDS += [
    "privacy=dp",
    "privacy.target_epsilon=5",
    "local.rate=0.1",
    "server.rounds=4",
    "server.evaluate_every=2",
]
WORDS += ["baseline.evaluations=2", "engine.workers=1", "seed=3", "name=test run"]


@pytest.fixture(scope="session")
def words():
    return list(WORDS)


@pytest.fixture(scope="session")
def compare():
    """compare(folder, *more): run the comparison into a folder."""

    def run(folder, *more):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *WORDS, *more, "--run-dir", str(folder)])
        assert ended.value.code == 0

    return run


@pytest.fixture(scope="session")
def compared(compare, tmp_path_factory):
    """The folder of a comparison of all four systems; to be looked at, not written to."""
    path = tmp_path_factory.mktemp("compare") / "run"
    compare(path)
    return path
