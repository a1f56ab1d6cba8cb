"""The common names of groups, and one table a data set from its own words and codes to them.

Bands of age stay those of the owner: they differ between sets and cannot be made equal. What an owner could not
tell, such as a gender that annotators were unsure of, is :data:`fer_models.labels.UNDISCLOSED`: a row of its own in
every table, and no part of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping

from fer_models.labels import UNDISCLOSED

GENDERS = ("female", "male")
ETHNICITIES = (
    "asian",
    "black",
    "east asian",
    "indian",
    "latino",
    "middle eastern",
    "moroccan",
    "other",
    "southeast asian",
    "west asian",
    "white",
)
AGES_RAF = ("0-3", "4-19", "20-39", "40-69", "70+")
AGES_DECADES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
AGES_YEARS = ("0-17", "18-29", "30-44", "45-59", "60+")
"""Bands that this project cuts ages in years into: :data:`fer_models.readers.groups.BANDS`."""
AGES_WORDS = ("child", "young", "middle-aged", "old", "adult")

VALUES: Mapping[str, tuple[str, ...]] = {
    "gender": GENDERS,
    "ethnicity": ETHNICITIES,
    "age": (*AGES_RAF, *AGES_DECADES, *AGES_YEARS, *AGES_WORDS),
    "angle": (
        *("frontal", "half left", "half right", "full left", "full right"),
        *("camera 0", "camera 45", "camera 135", "camera 180"),
    ),
    "gaze": ("frontal", "left", "right"),
    "mouth": ("closed", "open", "exuberant"),
    "spectrum": ("visible", "near infrared"),
    "illumination": ("strong", "weak", "dark"),
    "place": ("Oulu", "Beijing"),
    "intensity": ("low", "medium", "high", "unspecified"),
    "style": ("drawn character",),
}
"""Column of groups -> the values that a reader of a named set may give besides ``undisclosed``."""

RAF_GENDER: Mapping[str, str] = {"0": "male", "1": "female", "2": UNDISCLOSED}
RAF_RACE: Mapping[str, str] = {"0": "white", "1": "black", "2": "asian"}
RAF_AGE: Mapping[str, str] = dict(zip("01234", AGES_RAF, strict=True))
"""Codes of RAF-DB's attribute files, from the owner's readme; 2 for a gender says unsure."""

PROTOCOL_GENDER: Mapping[str, str] = {"Female": "female", "Male": "male", "Unsure": UNDISCLOSED}
PROTOCOL_RACE: Mapping[str, str] = {
    "White": "white",
    "Black": "black",
    "Asian": "asian",
    "Indian": "indian",
    "Other": "other",
}
PROTOCOL_AGE: Mapping[str, str] = {
    **dict(zip(("00-03", "04-19", "20-39", "40-69", "70+"), AGES_RAF, strict=True)),
    "00-02": "0-2",
    "03-09": "3-9",
    **{band: band for band in AGES_DECADES[2:]},
}
"""Words of the fair protocol's csv files (Hu et al. 2024)."""

UTKFACE_GENDER: Mapping[str, str] = {"0": "male", "1": "female"}
UTKFACE_RACE: Mapping[str, str] = {"0": "white", "1": "black", "2": "asian", "3": "indian", "4": "other"}
"""Codes in UTKFace's file names (its owner's page)."""

FAIRFACE_RACE: Mapping[str, str] = {
    "White": "white",
    "Black": "black",
    "Latino_Hispanic": "latino",
    "East Asian": "east asian",
    "Southeast Asian": "southeast asian",
    "Indian": "indian",
    "Middle Eastern": "middle eastern",
}
FAIRFACE_AGE: Mapping[str, str] = {**{band: band for band in AGES_DECADES[:-1]}, "more than 70": "70+"}
"""Words of FairFace's csv files (Kärkkäinen and Joo 2021)."""

SEX_LETTERS: Mapping[str, str] = {"F": "female", "M": "male"}
SEX_WORDS: Mapping[str, str] = {"female": "female", "male": "male"}
"""Sex in the file names of sets of posed faces, as their owners recorded it."""

RAFD_ETHNICITY: Mapping[str, str] = {"Caucasian": "white", "Moroccan": "moroccan", "Kid": "white"}
RAFD_AGE: Mapping[str, str] = {"Caucasian": "adult", "Moroccan": "adult", "Kid": "child"}
"""RaFD's third word: its children are Caucasian (Langner et al. 2010)."""

FERG_GENDER: Mapping[str, str] = {
    "aia": "female",
    "bonnie": "female",
    "jules": "male",
    "malcolm": "male",
    "mery": "female",
    "ray": "male",
}
"""FERG's six drawn characters (Aneja et al. 2016)."""

CREMAD_SEX: Mapping[str, str] = {"Female": "female", "Male": "male"}
CREMAD_RACE: Mapping[str, str] = {
    "Caucasian": "white",
    "African American": "black",
    "Asian": "asian",
    "Unknown": UNDISCLOSED,
}
CREMAD_LEVEL: Mapping[str, str] = {
    "LO": "low",
    "MD": "medium",
    "HI": "high",
    "XX": "unspecified",
    "X": "unspecified",
}
"""Words of CREMA-D's VideoDemographics.csv, and the level in a clip's name."""

LONDON_ETHNICITY: Mapping[str, str] = {
    "white": "white",
    "black": "black",
    "east_asian": "east asian",
    "west_asian": "west asian",
}
"""What people of the London Set told of themselves."""
