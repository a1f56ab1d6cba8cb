"""Oulu-CASIA and CREMA-D: expressions as sequences of people who are known, of which some frames are taken.

The unit is the sequence: all its frames have its label, and its name or its person keeps them in one split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_models.errors import DataError
from fer_models.labels import CREMAD_CODES, canonical
from fer_models.readers.classfolders import folders
from fer_models.readers.groups import BANDS, group_column
from fer_models.readers.listing import (
    OTHER_FILE,
    OTHER_NAME,
    Listing,
    coded,
    reading,
    require_choice,
    require_frames,
)
from fer_models.readers.people import CREMAD_LEVEL, CREMAD_RACE, CREMAD_SEX
from fer_models.readers.tables import below, inner, table
from fer_models.readers.videos import SUFFIXES

EMPTY = "clip without frames"
TIE = "votes have no single highest"
NO_VOTES = "clip without votes on the face alone"
OTHER_LIGHT = "spectrum or illumination not asked for"

_OULU = "Give the folder that holds OriginalImg or PreProcess_Img, or NI and VL themselves."
_CREMAD = "Give the folder with VideoDemographics.csv, processedResults/ and VideoFlash/*.flv, see docs/datasets.md."


def middle_frames(frames: Sequence[Path], count: int) -> list[Path]:
    """Return ``count`` frames, evenly spaced: the middles of that many equal parts; all where there are fewer."""
    require_frames("frames", count)
    if len(frames) <= count:
        return list(frames)
    return [frames[(2 * part + 1) * len(frames) // (2 * count)] for part in range(count)]


def add_clip(
    listing: Listing, folder: Path, count: int, name: str, *, subject: str = "", **facts: object
) -> None:
    """Add frames of one clip; a clip without any is counted. Without a ``subject`` the clip is one."""
    frames = listing.pictures_in(folder.iterdir()) if folder.is_dir() else []
    listing.skip(EMPTY, int(not frames))
    clip = folder.relative_to(listing.root).as_posix()
    for frame in middle_frames(frames, count):
        listing.add(frame, name, subject=subject or clip, **facts)  # type: ignore[arg-type]


def list_oulucasia(
    root: Path,
    *,
    pictures: str = "cropped",
    spectrum: Sequence[str] = ("visible",),
    illumination: Sequence[str] = ("strong",),
    peaks: int = 3,
) -> Listing:
    """List Oulu-CASIA: ``PreProcess_Img/VL_Acropped/Strong/P001/Anger/*.jpeg``, from neutral to the peak.

    Parameters
    ----------
    pictures : ``cropped`` faces of PreProcess_Img, or the ``original`` ones of OriginalImg.
    spectrum : visible, near infrared.
    illumination : strong, weak, dark.
    peaks : how many of a sequence's last frames are taken.

    Raises
    ------
    DataError : a folder has an unknown name.
    """
    require_choice("pictures", pictures, ("cropped", "original"))
    require_frames("peaks", peaks)
    for option, chosen, known in (
        ("spectrum", spectrum, ("visible", "near infrared")),
        ("illumination", illumination, ("strong", "weak", "dark")),
    ):
        for value in chosen:
            require_choice(option, value, known)
    base = inner(root, "PreProcess_Img" if pictures == "cropped" else "OriginalImg")
    listing = Listing("Oulu-CASIA", root)
    for camera, kind in (("VL", "visible"), ("NI", "near infrared")):
        for light in folders(below(base, f"{camera}_Acropped|{camera}", cure=_OULU)):
            known = {word: word for word in ("strong", "weak", "dark")}
            groups = {
                "spectrum": kind,
                "illumination": coded(known, light.name.lower(), "light", where=str(light)),
            }
            for person in folders(light):
                groups["place"] = _place(person)
                for folder in folders(person):
                    name = canonical(folder.name, where=str(folder))
                    if kind not in spectrum or groups["illumination"] not in illumination:
                        listing.skip(OTHER_LIGHT)
                        continue
                    frames = listing.pictures_in(folder.iterdir())
                    listing.skip(EMPTY, int(not frames))
                    for frame in frames[-peaks:]:
                        listing.add(frame, name, subject=person.name.upper(), groups=dict(groups))
    return listing


def _place(person: Path) -> str:
    """P001 to P050 were recorded in Oulu, the others in Beijing."""
    number = person.name[1:]
    if person.name[:1].upper() != "P" or not number.isdecimal() or not 1 <= int(number) <= 80:
        cure = "People are called P001 to P080: unpack the set again."
        raise DataError(f"unknown person {person.name!r}", where=str(person), cure=cure)
    return "Oulu" if int(number) <= 50 else "Beijing"


def list_cremad(root: Path, *, target: str = "played", frames: int = 1) -> Listing:
    """List CREMA-D: ``VideoFlash/1001_DFA_ANG_XX.flv``, with votes and the actors' groups.

    Frames that were cut beforehand, ``frames/1001_DFA_ANG_XX/*.jpg``, are taken where there are any.

    Parameters
    ----------
    target : ``played``, what the actor was asked to show; ``face``, what most people saw in the silent video, with
        their votes as training targets.
    frames : taken of a clip, evenly spaced.

    Raises
    ------
    DataError : a file is missing, or holds an unknown code or actor.
    """
    require_choice("target", target, ("played", "face"))
    clips = below(root, "frames|VideoFlash|VideoMP4", cure=_CREMAD)
    actors = _actors(below(root, "VideoDemographics.csv", cure=_CREMAD))
    votes = (
        _face_votes(below(root, "processedResults", "tabulatedVotes.csv", cure=_CREMAD))
        if target == "face"
        else {}
    )
    listing = Listing("CREMA-D", root)
    for clip in _cremad_clips(listing, clips):
        parts = clip.stem.split("_")
        if len(parts) != 4:
            listing.skip(OTHER_NAME)
            continue
        actor, _, code, level = parts
        name = coded(CREMAD_CODES, code, "expression", where=str(clip))
        groups = coded_actor(actors, actor, clip) | {
            "intensity": coded(CREMAD_LEVEL, level, "level", where=str(clip))
        }
        told = votes.get(clip.stem) if target == "face" else None
        if target == "face":
            name = _most(listing, told)
        if name and clip.is_dir():
            add_clip(listing, clip, frames, name, subject=actor, groups=groups, votes=told)
        elif name:
            _add_video(listing, clip, frames, name, subject=actor, groups=groups, votes=told)
    return listing


def _cremad_clips(listing: Listing, folder: Path) -> list[Path]:
    """The folders of frames, or the videos, in a folder; files of another kind are counted."""
    if found := folders(folder):
        return found
    inside = sorted(folder.iterdir())
    found = [path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith("._")]
    listing.skip(OTHER_FILE, len(inside) - len(found))
    return found


def _add_video(listing: Listing, path: Path, count: int, name: str, **facts: object) -> None:
    """Add frames of a video: the middles of ``count`` equal parts."""
    require_frames("frames", count)
    for part in range(count):
        moment = (2 * part + 1) / (2 * count)
        listing.add(path, name, mark=f"#{part + 1}", moment=moment, **facts)  # type: ignore[arg-type]


def coded_actor(actors: Mapping[str, dict[str, str]], actor: str, clip: Path) -> dict[str, str]:
    """Return the groups of an actor.

    Raises
    ------
    DataError : the table of actors lacks that one.
    """
    if actor not in actors:
        cure = "Take VideoDemographics.csv of the same release."
        raise DataError(f"actor {actor!r} is not in VideoDemographics.csv", where=str(clip), cure=cure)
    return actors[actor]


def _actors(path: Path) -> dict[str, dict[str, str]]:
    found = {}
    for line, cells in table(path, ("ActorID", "Age", "Sex", "Race", "Ethnicity")):
        where = f"{path}:{line}"
        found[cells["ActorID"]] = {
            "gender": coded(CREMAD_SEX, cells["Sex"], "sex", where=where),
            "ethnicity": coded(CREMAD_RACE, cells["Race"], "race", where=where),
            "age": str(group_column("age", [cells["Age"]], BANDS["age"], [where])[0]),
        }
    return found


def _face_votes(path: Path) -> dict[str, dict[str, float]]:
    """Clip -> class -> votes of those who saw the silent video: rows whose number begins with 2."""
    letters = {name[0]: canonical(word, where="") for name, word in CREMAD_CODES.items()}
    found = {}
    for line, cells in table(path, ("", "fileName", *letters)):
        if not cells[""].startswith("2"):
            continue
        told = [cells[letter] for letter in letters]
        if not all(cell.isdecimal() for cell in told):
            cure = "Get tabulatedVotes.csv again."
            raise DataError(f"no number of votes: {told}", where=f"{path}:{line}", cure=cure)
        found[cells["fileName"]] = dict(zip(letters.values(), map(float, told), strict=True))
    return found


def _most(listing: Listing, votes: Mapping[str, float] | None) -> str:
    """The class with most votes; empty where there is none, which is counted."""
    if votes is None or not any(votes.values()):
        listing.skip(NO_VOTES)
        return ""
    highest = [name for name, value in votes.items() if value == max(votes.values())]
    listing.skip(TIE, int(len(highest) > 1))
    return highest[0] if len(highest) == 1 else ""


read_oulucasia = reading(list_oulucasia)
read_cremad = reading(list_cremad)
