"""``fedfer audit key FILE`` and ``fedfer audit verify DIR``: a key to sign audits with, and the check of one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fer_models.checkpoints import WEIGHTS
from fer_models.errors import ConfigError, SignatureError
from simulations.audit_origin import model_folder, sha256_of
from simulations.audit_signature import verify_folder
from simulations.signing_key import make_key, public_beside, read_public

KEY_USAGE = "Write: fedfer audit key FILE."
VERIFY_USAGE = "Write: fedfer audit verify DIR [key=PUBLIC] [model=RUN]."

UNTRUSTED = (
    "The public key is the one in the folder: it proves that the files belong together, and not who signed them. "
    "Give key=PUBLIC to check against the key that you trust."
)


def key(words: Sequence[str]) -> int:
    """Make a key.

    Raises
    ------
    ConfigError : not one file, or one that is there.
    RunFolderError : it cannot be written.
    """
    if len(words) != 1 or not words[0] or words[0].startswith("-"):
        raise ConfigError("audit key needs one file", where="command line", cure=KEY_USAGE)
    path = Path(words[0])
    public = make_key(path)
    sys.stdout.write(f"private key: {path}, to keep to yourself\n")
    sys.stdout.write(f"public key: {public_beside(path)}, to give to readers: {public.hex()}\n")
    return 0


def verify(words: Sequence[str]) -> int:
    """Check the signature of an audit's folder and every file in it, and print what it says.

    Raises
    ------
    ConfigError : the words are wrong, or a public key that is none.
    SignatureError : the folder is not what was signed.
    """
    folder, given = _parsed(words)
    trusted = read_public(given["key"]) if "key" in given else None
    signed = verify_folder(folder, trusted)
    if "model" in given:
        _require_model(model_folder(Path(given["model"])) / WEIGHTS, signed.get("model"))
    for name in ("time", "public_key", "model", "plan", "counts", "config"):
        if name in signed:
            sys.stdout.write(f"{name.replace('_', ' ')}: {signed[name]}\n")
    if trusted is None:
        sys.stdout.write(f"{UNTRUSTED}\n")
    sys.stdout.write(f"verified: {len(signed['files'])} files of {folder}\n")
    return 0


def _parsed(words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    given = dict(word.split("=", 1) for word in words if word.startswith(("key=", "model=")))
    folders = [word for word in words if not word.startswith(("key=", "model="))]
    if len(folders) != 1 or folders[0].startswith("-") or not all(given.values()):
        raise ConfigError("audit verify needs one folder", where="command line", cure=VERIFY_USAGE)
    folder = Path(folders[0])
    if not folder.is_dir():
        raise ConfigError("no such folder", where=str(folder), cure=VERIFY_USAGE)
    return folder, given


def _require_model(weights: Path, signed: str | None) -> None:
    if signed is None:
        cure = "Leave model=RUN out: this audit judged predictions."
        raise SignatureError("the audit names no model", where=str(weights), cure=cure)
    if not weights.is_file():
        cure = "Give model=RUN: the folder of a run, or its model folder."
        raise ConfigError("this folder holds no model", where=str(weights), cure=cure)
    if sha256_of(weights) != signed:
        cure = "The audit says nothing of these weights; audit them."
        raise SignatureError("this is not the model that was audited", where=str(weights), cure=cure)
