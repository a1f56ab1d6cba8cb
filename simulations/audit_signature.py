"""A signed audit: nobody can change a file of its folder, put one in or take one out, unseen.

The folder is that of an audit or of a comparison. ``signature.json`` holds what was signed, the public key and the
signature. Signed is a mapping of texts: when, the SHA-256 of every file of the folder, and by themselves the SHA-256 of
the model's weights, of the counts and of the words and limits that were asked for, so that two audits can be compared
without their files. The bytes that are signed are its canonical JSON (RFC 8785: no blanks, keys in order; all values
are texts).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.identity import Identity, has_signed
from fer_models.errors import ConfigError, SignatureError
from server.run_folder import write_text
from simulations.audit_folder import SIGNATURE
from simulations.audit_origin import sha256_of

FORMAT = "fedfer-audit-signature-1"
"""First among what is signed, so that no signature of something else passes for one of an audit."""

LONGEST = 1 << 22
"""Bytes of a file that may be a signature."""

TRUST = "Rely on nothing in this folder; ask the auditor for it again."


def canonical(value: Any) -> bytes:
    """Return JSON of texts, whole numbers, lists and mappings as RFC 8785 writes it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")  # a file's name may be no Unicode


def sign_folder(folder: Path, record: Mapping[str, Any], names: Sequence[str], identity: Identity) -> None:
    """Sign the files of an audit's folder.

    Parameters
    ----------
    record : the audit, or the comparison.
    names : the files, relative to the folder; the first one holds the record.

    Raises
    ------
    ConfigError : the folder holds more than these files.
    RunFolderError : the signature cannot be written.
    """
    others = sorted(set(_files(folder)) - set(names))
    if others:
        what = f"{others[0]} is no part of the audit, and would have to be signed"
        raise ConfigError(what, where=str(folder), cure="Give --out a folder of its own.")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    signed = {"format": FORMAT, "time": now, "record": names[0], **_parts(record)}
    signed["files"] = {name: sha256_of(folder / name) for name in names}
    signature = identity.sign(canonical(signed)).hex()
    whole = {"signed": signed, "public_key": identity.public.hex(), "signature": signature}
    write_text(folder / SIGNATURE, json.dumps(whole, indent=1) + "\n")


def verify_folder(folder: Path, trusted: bytes | None = None) -> dict[str, Any]:
    """Return what was signed, with ``public_key``, after a check of every file.

    Parameters
    ----------
    trusted : the public key that the reader trusts; None takes the one in the folder, which proves only that the
        files belong together.

    Raises
    ------
    SignatureError : there is no signature, it is not by that key, or files were changed, taken away or put in.
    """
    signed, public, signature = _read(folder / SIGNATURE)
    where = str(folder)
    if trusted is not None and public != trusted:
        raise SignatureError(
            f"signed with another key, {public.hex()}",
            where=where,
            cure="Ask the auditor for the public key.",
        )
    if not has_signed(public, signature, canonical(signed)):
        raise SignatureError("the signature is not of what it stands beside", where=where, cure=TRUST)
    found = _differences(folder, signed["files"])
    if found:
        raise SignatureError("; ".join(found), where=where, cure=TRUST)
    _require_parts(folder, signed)
    return {**signed, "public_key": public.hex()}


def _parts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of what a record rests on: counts, words, the model, a run's plan, as far as it has them."""
    parts = {name: _digest(record[name]) for name in ("counts", "config") if name in record}
    known = {"model": record["source"].get("model_sha256"), "plan": record["source"].get("plan")}
    return parts | {name: value for name, value in known.items() if value is not None}


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """Return what was signed, the public key and the signature."""
    if not path.is_file():
        raise SignatureError("no signature", where=str(path), cure="Give the folder of an audit with --sign.")
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError("too long")
        whole = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
        signed = whole["signed"]
        files = all(isinstance(each, str) for each in signed["files"].values())
        if signed["format"] != FORMAT or not files or signed["record"] not in signed["files"]:
            raise ValueError("another format")
        return signed, bytes.fromhex(whole["public_key"]), bytes.fromhex(whole["signature"])
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SignatureError("a damaged signature", where=str(path), cure=TRUST) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of a file; a key that stands there twice would let a reader see another value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Return what a folder holds but folders and the signature, by name."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in found.items() if name != SIGNATURE}


def _differences(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return what is not as it was signed, a clause each."""
    there = _files(folder)
    found = [f"{name} is missing" for name in sorted(files) if name not in there]
    for name, path in there.items():
        if name not in files:
            found.append(f"{name} was not signed")
        elif path.is_symlink() or sha256_of(path) != files[name]:
            found.append(f"{name} was changed")
    return found


def _require_parts(folder: Path, signed: Mapping[str, Any]) -> None:
    """Hold the digests of model, counts and words against the record, which is as it was signed."""
    try:
        parts = _parts(json.loads((folder / signed["record"]).read_text(encoding="utf-8")))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SignatureError(
            "what was signed is no audit", where=str(folder / signed["record"]), cure=TRUST
        ) from error
    said = {
        name: value for name, value in signed.items() if name not in ("format", "time", "record", "files")
    }
    if said != parts:
        wrong = ", ".join(sorted(name for name in {*said, *parts} if said.get(name) != parts.get(name)))
        raise SignatureError(
            f"{wrong} of the audit and of its signature differ", where=str(folder), cure=TRUST
        )
