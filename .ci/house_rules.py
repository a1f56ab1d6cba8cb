"""What ruff, pyright and import-linter do not see: sizes, machine paths, forbidden modules, open ends."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("fer_models", "client", "server", "simulations")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
MACHINE_PATH = re.compile(r"(?<![\w.])/(tmp|work|root|home)/\w")
REGISTRY = re.compile(r"--(extra-)?index-" + r"url|https?://\S+/simple\b")
OPEN_ENDS = (
    "NotImplemented" + "Error",
    "TO" + "DO",
    "FIX" + "ME",
    "XX" + "X",
    "pytest.mark." + "xfail",
    "assert " + "True",
)
SERIALIZERS = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
WEAK_RANDOM = re.compile(r"np\.random|numpy\.random|^import random|^from random", re.MULTILINE)


def tracked() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png", ".npy"):
            yield path


def in_text(name: str, text: str) -> Iterator[str]:
    if MACHINE_PATH.search(text):
        yield f"{name}: a path of one machine"
    if REGISTRY.search(text):
        yield f"{name}: the address of a package registry"
    if name.endswith((".py", ".md", ".yaml", ".toml")):
        yield from (f"{name}: {mark}" for mark in OPEN_ENDS if mark in text)


def in_code(name: str, text: str) -> Iterator[str]:
    if text.count("\n") > LONGEST_FILE:
        yield f"{name}: {text.count(chr(10))} lines; the limit is {LONGEST_FILE}"
    if "torch." + "load(" in text:
        yield f"{name}: checkpoints are safetensors"
    if name.startswith("client/") and WEAK_RANDOM.search(text):
        yield f"{name}: a site's randomness is keyed, see client/randomness.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not name.startswith("tests/"):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > LONGEST_FUNCTION:
                yield f"{name}:{node.lineno}: {node.name} has {size} lines; the limit is {LONGEST_FUNCTION}"
        for module in imported(node):
            if module.split(".")[0] in SERIALIZERS:
                yield f"{name}:{node.lineno}: no {module} in this house"  # type: ignore[attr-defined]


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def main() -> int:
    found: list[str] = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name == ".ci/house_rules.py":
            continue
        text = path.read_text(encoding="utf-8")
        found += in_text(name, text)
        if path.suffix == ".py":
            found += in_code(name, text)
    sys.stdout.write("".join(f"{line}\n" for line in found) or "house rules: kept\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
