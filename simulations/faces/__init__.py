"""Drawn faces: a data set with known truth that needs no person's picture.

A face is drawn from facial action units (Ekman & Friesen 1978): the label decides which units contract,
the person decides how the face is built, the shot decides pose, light and what hides the face. See
``docs/faces.md`` for the knobs and for what these faces can and cannot stand for.
"""

from simulations.faces.config import ATTRIBUTES, FacesConfig
from simulations.faces.drawing import Truth, draw, draw_with_truth

__all__ = ["ATTRIBUTES", "FacesConfig", "Truth", "draw", "draw_with_truth"]
