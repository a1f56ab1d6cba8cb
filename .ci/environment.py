"""Make ``.venv``: a thin environment of this clone over a cached one that holds the dependencies.

The dependencies are large and depend only on their pins, so they are installed once for every hash of
(pins, declared dependencies, Python, platform) outside the clone; ``.venv`` then sees them through one
``.pth`` file and holds the project itself, editable. Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - make may find an older Python first
    sys.exit(f"error: Python {platform.python_version()} is too old. Run make PYTHON=python3.11 (or newer).")

import tomllib

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("FEDFER_CACHE", Path.home() / ".cache" / "fedfer"))


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return sorted(line for line in wanted if not line.startswith("fedfer["))


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command).returncode:
        sys.exit(
            f"error: {' '.join(command[2:5])} ... failed; see the lines above, then run make setup again."
        )


def cached(wanted: list[str]) -> Path:
    """Return the folder of the environment with these dependencies, made when missing."""
    pins = (ROOT / "constraints.txt").read_text()
    key = "\n".join([pins, *wanted, sys.version, sysconfig.get_platform()])
    folder = CACHE / f"env-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if (folder / "complete").exists():
        return folder
    print(f"Installing the dependencies into {folder} (once for these pins; a few GB).", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit(
            "error: this Python cannot make environments. Install its venv module (Debian: python3-venv)."
        )
    pip(folder / "bin" / "python", "install", "-q", "-c", str(ROOT / "constraints.txt"), *wanted)
    (folder / "complete").touch()
    return folder


def thin(base: Path) -> None:
    """Make ``.venv`` over ``base``, with the project installed editable."""
    target = ROOT / ".venv"
    stamp = target / "base"
    if stamp.exists() and stamp.read_text() == f"{base}\n{ROOT}":
        return
    if target.is_symlink():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)
    venv.create(target, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path("lib", version, "site-packages")
    line = f"import site; site.addsitedir({str(base / packages)!r})\n"
    (target / packages / "fedfer-dependencies.pth").write_text(line)
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    pip(base / "bin" / "python", "--python", str(target / "bin" / "python"), *install)
    (target / "cached").symlink_to(base)
    stamp.write_text(f"{base}\n{ROOT}")


if __name__ == "__main__":
    thin(cached(requirements()))
