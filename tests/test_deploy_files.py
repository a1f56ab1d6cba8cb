"""The image, the compose files and the systemd units: read as their programs read them, and held against the code."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from fer_models.errors import ConfigError
from server.coordinator import PORT

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = {"server": "server", "site": "site"}
KNOWN = {"image", "build", "command", "ports", "volumes", "healthcheck", "init", "restart", "stop_grace_period",
         "read_only", "tmpfs", "cap_drop", "security_opt"}  # fmt: skip


def instructions():
    """Instruction -> its arguments, in their order."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def service(room):
    found = yaml.safe_load((DEPLOY / f"compose.{room}.yaml").read_text())
    assert set(found) == {"services"}
    assert set(found["services"]) == {room}
    return found["services"][room]


def unit(room):
    found = configparser.ConfigParser(strict=True, interpolation=None)
    found.optionxform = str
    found.read(DEPLOY / f"fedfer-{room}.service")
    return found


def test_the_image_holds_the_rooms_and_nothing_else():
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    rooms = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    needed = {
        "pyproject.toml",
        "constraints.txt",
        PROJECT["project"]["readme"],
        *PROJECT["project"]["license-files"],
    }
    assert set(copied) == rooms | needed
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


def test_the_image_is_pinned_and_runs_as_nobody_special():
    found = instructions()
    assert {name for name, _ in found} <= {
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", found[0][1])
    assert found[0][1].split(":")[1].startswith(PROJECT["project"]["requires-python"].removeprefix(">="))
    names = [name for name, _ in found]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(found)["USER"] == "10001"
    assert dict(found)["ENTRYPOINT"] == '["fedfer"]'
    assert "--constraint constraints.txt" in next(rest for _, rest in found if "pip install" in rest)


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_is_whole_and_shut(room):
    found = service(room)
    assert set(found) <= KNOWN
    assert found["image"] == f"fedfer:{PROJECT['project']['version']}"
    assert (DEPLOY / found["build"]["context"] / found["build"]["dockerfile"]).is_file()
    assert found["read_only"] and found["init"] and found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    mounted = {volume.split(":")[1] for volume in found["volumes"]}
    assert found["command"][2] in mounted
    assert "privileged" not in found and "network_mode" not in found


def test_the_gate_s_port_alone_is_open():
    assert service("server")["ports"] == [f"{PORT}:{PORT}"]
    assert "ports" not in service("site")
    assert "./pictures:/pictures:ro" in service("site")["volumes"]


def commands():
    for room in ROOMS:
        found = service(room)
        yield room, found["command"]
        assert found["healthcheck"]["test"][:2] == ["CMD", "fedfer"]
        yield room, found["healthcheck"]["test"][2:]
        for key in ("ExecStart", "ExecStop"):
            program, *words = shlex.split(unit(room)["Service"][key])
            assert program == "/opt/fedfer/bin/fedfer"
            yield room, words


@pytest.mark.parametrize(("room", "words"), tuple(commands()))
def test_every_command_is_understood(room, words, fedfer, refused, tmp_path):
    """With an empty folder in the place of theirs: the words are right, and only the folder is missing."""
    found = fedfer(*words[:2], str(tmp_path), *words[3:])
    thing = {"server": "coordinator", "site": "site"}[room]
    assert refused(found, ConfigError, f"this folder holds no {thing}")


@pytest.mark.parametrize("room", ROOMS)
def test_unit_and_container_run_the_same(room):
    start = shlex.split(unit(room)["Service"]["ExecStart"])[1:]
    command = service(room)["command"]
    assert [*start[:2], *start[3:]] == [*command[:2], *command[3:]]


@pytest.mark.parametrize("room", ROOMS)
def test_systemd_takes_the_unit(room, tmp_path):
    section = unit(room)["Service"]
    assert section["User"] == "fedfer"
    assert section["StateDirectoryMode"] == "0700"
    assert shlex.split(section["ExecStart"])[3].startswith(f"{section['WorkingDirectory']}/")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    here = tmp_path / f"fedfer-{room}.service"
    here.write_text((DEPLOY / here.name).read_text().replace("/opt/fedfer/bin/fedfer", shutil.which("true")))
    found = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
