"""What is asked: a net with its weights, or an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from fer_models.checkpoints import load_model
from fer_models.edge.files import is_exported, load_exported
from fer_models.edge.runtime import GraphNet
from fer_models.errors import ConfigError, DataError
from fer_models.explain import grad_cam
from fer_models.transforms import mirrored_probabilities, to_input
from simulations.audit_origin import model_folder
from simulations.predicting.asked import Prediction


@dataclass(frozen=True, eq=False)
class Judge:
    """A model that tells expressions.

    Attributes
    ----------
    net : pictures (B, C, H, W) to logits.
    labels : of its classes, in the user's words where they were given.
    size, channels : of the faces that it takes.
    mirror : whether each face is judged together with its mirror image.
    """

    net: nn.Module
    labels: tuple[str, ...]
    size: int
    channels: int
    mirror: bool

    @torch.inference_mode()
    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities (B, classes) of faces, uint8 (B, size, size) or (B, size, size, 3)."""
        x = to_input(faces)
        found = mirrored_probabilities(self.net, x) if self.mirror else self.net(x.contiguous()).softmax(1)
        return found.numpy()

    def heat(self, faces: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return how much each place speaks for a class: (B, size, size), 0 to 1."""
        return grad_cam(self.net, to_input(faces), torch.from_numpy(classes)).detach().numpy()


def judge_of(path: Path, how: Prediction) -> Judge:
    """Return the model of a run folder, of its ``model`` folder, or of the folder of an exported model.

    Raises
    ------
    ModelError : there is none, or it is damaged.
    ConfigError : Grad-CAM is asked of a graph.
    DataError : the file of names does not fit the model's classes.
    """
    if is_exported(path):
        if how.gradcam:
            cure = "Give the run folder that it was made of, or leave gradcam=true out."
            raise ConfigError("an exported graph has no gradients", where="gradcam", cure=cure)
        run, config = load_exported(path, how.threads)
        net, labels, size, channels = GraphNet(run).eval(), config.labels, config.size, config.channels
    else:
        net, spec, labels = load_model(model_folder(path))
        size, channels = spec.size, spec.channels
    return Judge(net, _named(labels, how.labels), size, channels, how.mirror)


def _named(labels: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Return the names of the classes that a file gives them: a mapping from every class to a name.

    Raises
    ------
    DataError : the file cannot be read, or does not name exactly the model's classes, each differently.
    """
    if not file:
        return labels
    cure = f"Give a YAML file with exactly these keys, each with a name of its own: {', '.join(labels)}."
    try:
        found = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError("the file of labels cannot be read", where=file, cure=cure) from error
    if not isinstance(found, Mapping) or {str(key) for key in found} != set(labels):
        raise DataError("the labels do not fit the model's classes", where=file, cure=cure)
    names = {str(key): str(value) for key, value in found.items()}
    if len(set(names.values())) < len(labels):
        raise DataError("two classes have the same name", where=file, cure=cure)
    return tuple(names[label] for label in labels)
