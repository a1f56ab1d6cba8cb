"""Known holes of the packages that FedFER stands on, from public advisories, and what FedFER has to do with each.

The list is part of this version of FedFER: doctor asks no network. It holds holes through which something that FedFER
reads or runs could hurt, and those of which the packages' own users should know. For all others there are tools such
as pip-audit.
"""

from __future__ import annotations

from typing import NamedTuple

AS_OF = "2026-12"
"""Month in which the advisories were last looked through."""


class Hole(NamedTuple):
    """One advisory.

    Attributes
    ----------
    package : its name on PyPI.
    affected : the versions that have it, as a specifier.
    advisory : its identifiers.
    what : what it lets happen.
    level : "error" where an upgrade is asked for; "note" where FedFER calls nothing of it and what FedFER needs
        forbids the version without it.
    cure : what to do.
    """

    package: str
    affected: str
    advisory: str
    what: str
    level: str
    cure: str


def _upgrade(package: str, version: str) -> str:
    return f"Install {package} {version} or newer."


HOLES = (
    Hole(
        "torch",
        "<2.10.0",
        "CVE-2026-24747, GHSA-63cw-57p8-fm3p",
        "a crafted checkpoint corrupts memory in torch.load, even with weights_only=True",
        "error",
        f"{_upgrade('torch', '2.10.0')} FedFER itself reads safetensors alone.",
    ),
    Hole(
        "ray",
        "<2.54.0",
        "CVE-2025-62593 (below 2.52), CVE-2026-27482",
        "a page in a browser can reach the dashboard: run code, or end jobs",
        "error",
        _upgrade("ray", "2.54.0"),
    ),
    Hole(
        "ray",
        ">=2.49.0,<2.55.0",
        "CVE-2026-41486, GHSA-mw35-8rx3-xf9r",
        "a crafted Parquet file runs code in Ray Data",
        "error",
        f"{_upgrade('ray', '2.55.0')} FedFER uses no Ray Data.",
    ),
    Hole(
        "ray",
        "<2.56.0",
        "CVE-2026-57516, GHSA-hhrp-gw25-jr43",
        "ray.data.read_webdataset runs code from a crafted archive",
        "note",
        "Flower 1.41 asks for ray 2.55.1, and FedFER never calls it: read no WebDataset here.",
    ),
    Hole(
        "ray",
        ">=0",
        "CVE-2025-34351, GHSA-gx77-xgc2-4888",
        "a Ray cluster lets everybody who reaches its ports run code, unless it is told to ask for a token",
        "note",
        "Start clusters with RAY_AUTH_MODE=token, on a network of their own: docs/cluster.md.",
    ),
    Hole(
        "cryptography",
        "<48.0.1",
        "GHSA-537c-gmf6-5ccf, and below 46.0.5 CVE-2026-26007",
        "its wheels hold an OpenSSL with known faults",
        "error",
        _upgrade("cryptography", "50.0.0"),
    ),
    Hole(
        "cryptography",
        ">=48.0.1,<50.0.0",
        "CVE-2026-69249 (below 49), CVE-2026-69247",
        "a crafted chain of certificates costs hours; errors of PKCS#7 decryption tell of its key",
        "error",
        f"{_upgrade('cryptography', '50.0.0')} FedFER decrypts no PKCS#7.",
    ),
    Hole(
        "pillow",
        "<12.3.0",
        "CVE-2026-42311 (below 12.2), CVE-2026-59203",
        "a crafted picture writes beyond its memory, or is read for ever",
        "error",
        f"{_upgrade('pillow', '12.3.0')} It reads the pictures of a data set.",
    ),
    Hole(
        "protobuf",
        "<5.29.6",
        "CVE-2026-0994, GHSA-7gcm-g887-7qv7",
        "deeply nested JSON ends a process",
        "error",
        _upgrade("protobuf", "6.33.5"),
    ),
    Hole(
        "protobuf",
        ">=6.30.0rc1,<6.33.5",
        "CVE-2026-0994, GHSA-7gcm-g887-7qv7",
        "deeply nested JSON ends a process",
        "error",
        _upgrade("protobuf", "6.33.5"),
    ),
    Hole(
        "onnx",
        "<1.22.0",
        "CVE-2026-27489, CVE-2026-34445 (below 1.21), CVE-2026-44512",
        "a crafted model reads files beside it, or ends the process",
        "error",
        f"{_upgrade('onnx', '1.22.0')} Open no models of strangers before.",
    ),
    Hole(
        "hydra-core",
        "<1.3.4",
        "CVE-2026-68508, GHSA-2cp2-2r3c-7p7r",
        "hydra.utils.instantiate runs what a configuration names",
        "error",
        f"{_upgrade('hydra-core', '1.3.4')} FedFER never calls it.",
    ),
    Hole(
        "jinja2",
        "<3.1.6",
        "CVE-2025-27516, GHSA-cpwx-vrp4-4pq7",
        "a template can leave its sandbox",
        "error",
        f"{_upgrade('jinja2', '3.1.6')} FedFER renders its own templates alone.",
    ),
)
