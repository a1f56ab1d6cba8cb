"""What expressions move: brows, eyes, nose, mouth and the folds of the skin.

``t`` holds the traits of person and shot, ``k`` the contraction 0..1 of every action unit by its number;
all are (n, 1, 1). Lengths are face units, positive ``v`` is down.
"""

from __future__ import annotations

import numpy as np

from simulations.faces.canvas import Field, Traits, View, bump
from simulations.faces.head import Tint


def smile(k: Traits) -> Field:
    """Return how far both lip corners are pulled up on average."""
    return 0.5 * (k["12L"] + k["12R"])


def jaw(k: Traits) -> Field:
    """Return how far the jaw is down, 0 to 1."""
    return np.minimum(1, k["26"] + 0.10 * k["16"] + 0.08 * smile(k))


def folds(view: View, t: Traits, k: Traits) -> None:
    """Add bulges and wrinkles to the relief: sockets, cheeks, nose, forehead, nasolabial folds."""
    _forehead(view.rows(-1.05, -0.1), t, k)
    _cheeks(view.rows(-0.3, 1.0), t, k)
    _nose_relief(view.rows(-0.35, 0.5), t, k)
    low = view.rows(0.8, 1.3)
    relief = low.relief
    relief -= (
        (0.12 + 0.10 * k["23"] + 0.14 * k["15"])
        * bump(low.v, t["mouth_y"] + 0.24, 0.09)
        * bump(low.a, 0.0, 0.3)
    )


def _forehead(view: View, t: Traits, k: Traits) -> None:
    """Lines across the forehead (1, 2), between the brows (4) and dark eye sockets."""
    relief = view.relief
    across = 0.24 * np.maximum(k["1"], k["2"]) + np.maximum(0, t["wrinkle"]) * 0.25
    span = bump(view.v, -0.70, 0.22) * bump(view.a, 0.0, 0.75)
    span *= np.cos(view.v * 48 + 3 * np.square(view.u)) - 0.4
    relief += across * span
    frown = 0.55 * k["4"] + 0.12 * np.maximum(0, t["wrinkle"])
    relief -= frown * bump(view.a, 0.085, 0.055) * bump(view.v, t["eye_y"] - 0.22, 0.24)
    relief += 0.18 * k["4"] * bump(view.a, 0.0, 0.06) * bump(view.v, t["eye_y"] - 0.22, 0.2)
    relief -= 0.16 * bump(view.a, t["eye_x"] - 0.06, 0.34) * bump(view.v, t["eye_y"] - 0.06, 0.22)


def _cheeks(view: View, t: Traits, k: Traits) -> None:
    """Raised cheeks and crow's feet (6), nasolabial folds (12, 9), bags under the eyes."""
    relief, eye = view.relief, t["eye_y"]
    raised = np.maximum(k["6"], 0.4 * smile(k))
    relief += (0.05 + 0.20 * raised) * bump(view.a, 0.50, 0.26) * bump(view.v, 0.22 - 0.08 * raised, 0.24)
    bag = 0.25 * raised + 0.16 * k["7"] + 0.25 * np.maximum(0, t["wrinkle"]) + 0.15 * k["9"]
    relief -= (
        bag
        * bump(view.v - 0.25 * np.square(view.a - t["eye_x"]), eye + 0.16, 0.06)
        * bump(view.a, t["eye_x"], 0.27)
    )
    feet = 0.40 * k["6"] + 0.2 * np.maximum(0, t["wrinkle"])
    fan = np.cos((view.v - eye) * 55) * bump(view.a, 0.74, 0.12) * bump(view.v, eye + 0.02, 0.17)
    relief += feet * fan
    pull = np.where(view.u > 0, k["12R"], k["12L"])
    deep = t["fold"] + 0.38 * pull
    deep += 0.42 * k["9"]
    drop = view.v - t["nose_y"]
    line = view.a - (t["nose_width"] + 0.07 + 0.02 * k["9"]) - drop * 0.55
    line -= 0.10 * pull * drop
    relief -= deep * bump(line, 0.0, 0.055) * bump(drop, 0.18, 0.30)


def _nose_relief(view: View, t: Traits, k: Traits) -> None:
    """The ridge lit from one side, the shadow under the tip, and the wrinkles of unit 9."""
    relief, width = view.relief, t["nose_width"]
    up = 0.07 * k["9"]
    bottom = t["nose_y"] - up
    ridge = bump(view.v, 0.5 * (bottom + t["eye_y"]), 0.42) * t["nose_relief"]
    side = bump(view.a, 0.13, 0.11)
    relief -= ridge * side * (1.1 - np.sign(t["light_x"]) * view.side * 0.9)
    relief += ridge * 0.9 * bump(view.a, 0.0, 0.10)
    relief += 0.14 * bump(view.a, 0.0, 0.13) * bump(view.v, bottom - 0.06, 0.13)
    wing = np.square((view.a - width * 0.72) / 0.085) + np.square((view.v - bottom + 0.03) / 0.10)
    np.subtract(wing, 1, out=wing)
    relief -= (0.30 + 0.25 * k["9"]) * bump(wing, 0.0, 0.9) * (view.a > width * 0.6)
    wrinkles = np.cos((view.v - t["eye_y"]) * 50 + 8 * view.a)
    wrinkles *= bump(view.a, 0.0, 0.20) * bump(view.v, t["eye_y"] + 0.10, 0.20)
    relief += 0.50 * k["9"] * wrinkles


def nostrils(view: View, t: Traits, k: Traits, skin: Tint) -> None:
    """Draw the two nostrils and the shadow between them."""
    part = view.rows(0.1, 0.6)
    y = t["nose_y"] - 0.07 * k["9"]
    wide = t["nose_width"] * (1 + 0.15 * k["9"])
    hole = np.square((part.a - 0.5 * wide) * (1 / 0.062)) + np.square(
        (part.v - y - 0.2 * (0.1 - part.a)) * (1 / 0.030)
    )
    hole = part.cover(0.03 * (hole - 1))
    under = bump(part.a, 0.0, wide) * bump(part.v, y + 0.03, 0.07)
    part.blend(np.maximum(0.75 * hole, 0.35 * under), tuple(0.32 * tone for tone in skin))


def brows(view: View, t: Traits, k: Traits, colour: Tint) -> None:
    """Draw the brows: 1 lifts their inner end, 2 the outer end, 4 lowers and draws them together."""
    part = view.rows(-0.95, 0.1)
    inner = 0.135 - 0.055 * k["4"]
    along = (part.a - inner) * (1 / 0.53)
    lift_in = 0.20 * k["1"] - 0.17 * k["4"] * (1 - 0.85 * k["1"])
    lift_out = 0.17 * k["2"] - 0.05 * k["4"] - 0.05 * k["1"] * (1 - k["2"])
    base = t["eye_y"] - t["brow_gap"] + 0.06 * k["9"] + 0.02 * k["7"]
    rest = 1 - along
    curve = along * rest
    curve *= -4 * t["brow_arch"] - 1.2 * 0.5 * (lift_in + lift_out) * (k["2"] > k["4"])
    curve -= lift_in * rest * np.abs(rest)
    curve -= (lift_out - t["brow_slope"]) * along
    curve += base
    distance = np.abs(part.v - curve)
    distance -= t["brow_height"] * (1.15 - 0.55 * along)
    np.maximum(distance, np.abs(along - 0.5) * 0.53 - 0.265, out=distance)
    part.blend(0.85 * part.cover(distance), colour)


def eyes(view: View, t: Traits, k: Traits, iris: Tint, skin: Tint) -> None:
    """Draw the eyes: 5 opens the upper lid, 7 and 6 lift the lower lid, 9 squeezes."""
    part = view.rows(-0.55, 0.25)
    open_up = t["eye_height"] * (1 + 0.75 * k["5"] - 0.40 * k["7"] * (1 - 0.8 * k["5"]) - 0.30 * k["6"])
    open_up = open_up - t["eye_height"] * (0.35 * k["9"] + t["squint"] + 0.25 * k["4"] * (1 - k["5"]))
    open_low = t["eye_height"] * 0.62 * (1 + 0.12 * k["5"] - 0.65 * k["7"] - 0.75 * k["6"] - 0.35 * k["9"])
    x = part.a - t["eye_x"]
    y = part.v - t["eye_y"]
    y += x * t["eye_tilt"]
    across = x * (1 / t["eye_width"])
    lens = np.square(across)
    np.subtract(1, lens, out=lens)
    lens *= 1 + 0.20 * np.maximum(lens, 0)
    lid = y + open_up * lens
    lower = y - open_low * lens
    rim = np.abs(across) * t["eye_width"] - t["eye_width"]
    white = part.cover(np.maximum(np.maximum(-lid, lower), rim))
    shade = tuple((0.72 + 0.25 * t["ambient"]) * t["white"] for _ in skin)
    part.blend(white, shade)
    _iris(part, t, white, x, y, iris)
    lash = np.abs(lid) - t["lash"] * (0.75 + 0.5 * np.maximum(lens, 0))
    dark = part.cover(np.maximum(lash, rim - 0.02))
    part.blend(0.9 * dark, tuple(0.22 * tone for tone in skin))
    under = part.cover(np.maximum(np.abs(lower) - 0.014, rim))
    part.blend(0.45 * under, tuple(0.45 * tone for tone in skin))
    crease = part.cover(np.maximum(np.abs(lid + 0.075 - 0.02 * k["5"]) - 0.012, rim))
    part.blend(0.35 * crease, tuple(0.5 * tone for tone in skin))


def _iris(part: View, t: Traits, white: Field, x: Field, y: Field, colour: Tint) -> None:
    """Draw iris, pupil and the lamp's reflection, only inside the opening of the lids."""
    dx = x - part.side * t["gaze_x"]
    dy = y - (t["gaze_y"] - 0.012)
    radius = t["iris"]
    square = np.square(dx) + np.square(dy)
    disc = part.cover((square - radius * radius) * (0.5 / radius))
    part.blend(disc * white, colour)
    small = 0.45 * radius
    pupil = part.cover((square - small * small) * (0.5 / small))
    part.blend(pupil * white, tuple(0.15 * tone for tone in colour))
    glint = np.square(dx * part.side + 0.03) + np.square(dy + 0.035)
    spark = part.cover((glint - 0.026**2) * (0.5 / 0.026))
    part.blend(0.9 * spark * white, tuple(np.ones_like(tone) for tone in colour))


def mouth(view: View, t: Traits, k: Traits, lips: Tint, skin: Tint) -> None:
    """Draw lips, teeth and the dark of the mouth.

    The corners follow 12 and 14 (up), 15 (down), 20 (apart); 26, 16 and a smile open the lips, 23 tightens.
    """
    part = view.rows(0.3, 1.35)
    happy, drop = smile(k), jaw(k)
    half = t["mouth_width"] * (
        1 + 0.38 * happy + 0.24 * k["20"] - 0.28 * drop * (1 - k["20"]) - 0.10 * k["23"]
    )
    middle = t["mouth_y"] + 0.05 * drop - 0.06 * k["9"]
    shift = 0.04 * (k["14R"] - k["14L"] + k["12R"] - k["12L"])
    along = (part.u - shift) * (1 / half)
    corner = t["mouth_curve"] - 0.22 * k["15"] - 0.05 * k["20"] - 0.03 * k["16"]
    left, right = (0.31 * k["12" + s] + 0.05 * k["14" + s] for s in "LR")
    lift = corner + 0.5 * (left + right) + (0.5 * (right - left)) * np.clip(along, -1, 1)
    bow = np.square(along)
    line = middle - lift * (bow - 0.30)
    arch = np.maximum(1 - bow, 0)
    up = 0.07 * np.maximum(0, happy - 0.25) + 0.05 * k["9"] + 0.05 * k["20"] + 0.05 * drop
    low = 0.40 * drop + 0.10 * np.maximum(0, happy - 0.25) + 0.12 * k["16"] + 0.06 * k["20"]
    rounder = arch * (1 + 0.8 * np.minimum(1, 2 * drop) * (1 - arch))
    y = part.v - line
    rim = (np.abs(along) - 1) * half
    _lips(part, t, k, (y, rounder, arch, rim, up, low), lips)
    _inside(part, t, k, (y, rounder, arch, rim, up, low), skin)


def _lips(part: View, t: Traits, k: Traits, shape: tuple[Field, ...], lips: Tint) -> None:
    """Draw both lips around the opening."""
    y, rounder, arch, rim, up, low = shape
    tight = 1 - 0.65 * k["23"]
    stretch = tight * (1 - 0.30 * smile(k) - 0.2 * k["20"])
    upper = t["lip_upper"] * stretch * (1 + 0.2 * k["9"])
    lower = t["lip_lower"] * stretch * (1 + 0.25 * k["16"])
    top = -y - (up + upper) * arch
    bottom = y - low * rounder - lower * arch
    part.blend(part.cover(np.maximum(np.maximum(top, bottom), rim)), lips)
    shine = bump(y - low * rounder, 0.5 * lower, 0.5 * lower + 0.02) * arch
    part.blend(0.25 * shine * tight, tuple(np.minimum(1, tone * 1.5) for tone in lips))


def _inside(part: View, t: Traits, k: Traits, shape: tuple[Field, ...], skin: Tint) -> None:
    """Draw the opening between the lips: dark, upper teeth, lower teeth."""
    y, rounder, arch, rim, up, low = shape
    seam = 0.016
    gap = np.maximum(np.maximum(-y - up * arch, y - low * rounder) - seam, rim)
    gap = part.cover(gap)
    part.blend(gap, tuple(0.10 + 0.12 * tone for tone in skin))
    happy = smile(k)
    bite = 0.10 * happy + 0.05 * k["20"] + 0.03
    teeth = part.cover(y + up * arch - bite)
    shown = np.minimum(1, 14 * np.maximum(0, up + low - 0.03)) * np.minimum(
        1, 0.2 + 3 * (happy + k["20"] + k["16"])
    )
    part.blend(gap * teeth * shown, tuple(t["white"] for _ in skin))
    lower = part.cover(low * rounder - 0.07 - y) * np.minimum(1, 1.6 * k["16"] + 0.7 * k["20"]) * shown
    part.blend(gap * lower, tuple(0.92 * t["white"] for _ in skin))
