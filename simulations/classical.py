"""Classical systems: features made by hand and a classifier of scikit-learn, on the split of the other systems.

Features: ``lbp``, histograms of local binary patterns over a grid (Ahonen et al. 2006, IEEE TPAMI 28; 59 patterns as in
Shan et al. 2009, Image and Vision Computing 27); ``hog``, histograms of oriented gradients (Dalal and Triggs 2005);
``pca``, eigenfaces (Turk and Pentland 1991). All numbers that a system has come from its training rows alone, and where
people are known nobody is in both parts: the split is that of :mod:`fer_models.splits`. No model is kept: scikit-learn
would write it with pickle.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.strict import nearest
from fer_models.errors import ConfigError
from fer_models.metrics import headline
from fer_models.samples import Samples
from server.run_folder import RunFolder
from simulations.jobs import Progress
from simulations.prepare import Prepared
from simulations.subjects import count_people

FEATURES = ("lbp", "hog", "pca")
CLASSIFIERS = ("svm", "knn", "forest", "tree", "logistic", "voting")

NAMES = tuple(f"{features}_{classifier}" for features in FEATURES for classifier in CLASSIFIERS)
"""Names of the systems."""

NOTE = "features made by hand and a classifier of scikit-learn, on everybody's training pictures, without privacy"

GRID, PATTERNS = 6, 59
"""Cells a side of the histograms of local binary patterns, and patterns of eight neighbours that are told apart."""

COMPONENTS = 128
"""Principal components that features are reduced to."""


def asked(names: list[str]) -> list[str]:
    """Return the systems that ``baseline.classical`` names; ``all`` names every one.

    Raises
    ------
    ConfigError : an unknown name.
    """
    for name in names:
        if name not in (*NAMES, "all"):
            cure = nearest(name, [*NAMES, "all"])
            raise ConfigError(f"unknown classical system {name!r}", where="baseline.classical", cure=cure)
    return list(NAMES) if "all" in names else list(dict.fromkeys(names))


@dataclass(frozen=True)
class ClassicalJob:
    """One classical system to train; picklable, so that any process can take it."""

    prepared: Prepared
    folder: Path
    name: str

    def __call__(self, progress: Progress) -> None:
        """Train and judge it, unless its result lies in the folder already."""
        folder, file = RunFolder(self.folder), f"baselines/{self.name}.json"
        if folder.read_json(file) is not None:
            return
        samples, plan = self.prepared.samples, self.prepared.plan
        train, test = samples.rows("train"), samples.rows("test")
        start, cpu = time.monotonic(), time.process_time()
        predicted = predictions(self.name, samples, train, test, plan.seed)
        counts = count_people(samples, test, predicted, plan.attributes)
        facts = {"visits": len(train), "cpu_seconds": time.process_time() - cpu, "train": len(train)}
        folder.write_json(file, {**facts, "counts": {"all": counts.to_json()}})
        record: dict[str, Any] = {
            "system": self.name,
            "round": 1.0,
            "rounds": 1.0,
            "loss": None,
            "epsilon": None,
        }
        record |= {"visits": len(train), "bytes_up": 0, "seconds": round(time.monotonic() - start, 3)}
        progress({**record, **headline(counts)})


def predictions(
    name: str, samples: Samples, train: NDArray[np.intp], test: NDArray[np.intp], seed: int
) -> NDArray[np.int64]:
    """Return the classes (n,) that a classical system tells the test rows.

    Parameters
    ----------
    train, test : rows; statistics, components and classifiers are learned from the former alone.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, classifier = name.split("_")
    learned, asked_for = (numbers(features, samples, rows) for rows in (train, test))
    parts = min(COMPONENTS, len(train) - 1, learned.shape[1])
    reduce = [PCA(parts, random_state=seed)] if features == "pca" or classifier in ("svm", "knn") else []
    pipeline = make_pipeline(
        *([] if features == "pca" else [StandardScaler()]), *reduce, _model(classifier, seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a solver stopped at its limit of steps
        pipeline.fit(learned, samples.label[train])
        return np.asarray(pipeline.predict(asked_for), np.int64)


def _model(classifier: str, seed: int) -> Any:
    """Return a classifier, each as it is commonly used for expressions."""
    from sklearn.ensemble import RandomForestClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    if classifier == "voting":
        chosen = ("logistic", "knn", "forest")
        return VotingClassifier([(each, _model(each, seed)) for each in chosen], voting="soft")
    return {
        "svm": lambda: SVC(C=10.0, gamma="scale"),
        "knn": lambda: KNeighborsClassifier(15, weights="distance"),
        "forest": lambda: RandomForestClassifier(200, n_jobs=1, random_state=seed),
        "tree": lambda: DecisionTreeClassifier(max_depth=12, random_state=seed),
        "logistic": lambda: LogisticRegression(C=0.01, max_iter=300),
    }[classifier]()


def numbers(features: str, samples: Samples, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the features float32 (n, F) of some pictures; colour is seen as gray."""
    return np.stack([_of_picture(features, _gray(samples.pictures[row])) for row in rows])


def _gray(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if picture.ndim == 2 else picture.mean(2).astype(np.uint8)


def _of_picture(features: str, gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    from skimage.feature import hog, local_binary_pattern

    if features == "pca":
        x = gray.astype(np.float32).ravel()
        return (x - x.mean()) / (x.std() + 1)
    if features == "hog":
        cell = max(4, len(gray) // 6)
        found = hog(gray, orientations=8, pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        return np.asarray(found, np.float32)
    codes = local_binary_pattern(gray, 8, 1, "nri_uniform").astype(np.int64)
    place = np.arange(len(gray)) * GRID // len(gray)
    cells = place[:, None] * GRID + place[None, :]
    return np.bincount((cells * PATTERNS + codes).ravel(), minlength=GRID**2 * PATTERNS).astype(np.float32)
