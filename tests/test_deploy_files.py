"""The image, the compose files and the systemd units: read as their programs read them, and held against the code."""

import configparser
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from client.study import read_study
from client.supervisor import GRACE
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


@pytest.mark.parametrize(("room", "processes"), [("server", 3), ("site", 2)])
def test_all_processes_have_the_time_that_they_are_given_to_end(room, processes):
    assert int(unit(room)["Service"]["TimeoutStopSec"]) > processes * GRACE
    assert service(room)["stop_grace_period"] == f"{unit(room)['Service']['TimeoutStopSec']}s"


def carried_out(folder, context):
    """Carry out what the Dockerfile does to files, in its order; return the environment and the command in the end.

    What pip would fetch is here already. The user is whoever runs this.
    """
    place, environment, command = folder, {}, []
    for name, rest in instructions():
        if name == "WORKDIR":
            place = folder / rest.removeprefix("/")
            place.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                into = place / target / ("" if target.endswith("/") else ".")
                copy = shutil.copytree if (context / source).is_dir() else shutil.copy
                copy(context / source, place / target if (context / source).is_dir() else into / source)
        elif name == "RUN" and rest.startswith("pip "):
            options = ("--no-deps", "--no-build-isolation", "--quiet", "--target", str(folder / "installed"))
            subprocess.run([sys.executable, "-m", *shlex.split(rest), *options], cwd=place, check=True)
        elif name == "ENV":
            environment |= dict(word.split("=", 1) for word in rest.split())
        elif name in ("ENTRYPOINT", "CMD"):
            command += json.loads(rest)
    return environment, command


@pytest.mark.slow
def test_the_image_s_steps_make_a_program_that_says_what_it_can_do(tmp_path):
    """From no other files than those that are copied, installed, and run by the entry point."""
    environment, command = carried_out(tmp_path, ROOT)
    installed = tmp_path / "installed"
    paths = {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    found = subprocess.run(
        command, env={**os.environ, **environment, **paths}, cwd=tmp_path, capture_output=True, text=True
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert "usage: fedfer COMMAND" in found.stdout
    where = "import server, simulations; print(server.__file__, simulations.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", where], env={**os.environ, **paths}, cwd=tmp_path, capture_output=True, text=True
    )  # fmt: skip
    assert told.stdout.count(str(installed)) == 2
    sources = [
        path
        for room in ("client", "server", "fer_models", "simulations")
        for path in (ROOT / room).rglob("*")
    ]
    resources = {
        path.relative_to(ROOT) for path in sources if path.suffix not in (".pyc", "") and path.is_file()
    }
    assert {path for path in resources if not (installed / path).is_file()} == set()


def words_of(room, key, folder):
    """A unit's command, with this program and this folder in the places of theirs."""
    _, *words = shlex.split(unit(room)["Service"][key])
    where = unit(room)["Service"]["WorkingDirectory"]
    return [sys.executable, "-m", "simulations.cli", *(each.replace(where, str(folder)) for each in words)]


@pytest.mark.slow
def test_the_units_commands_start_and_end_a_coordinator_and_a_site(tmp_path_factory, fedfer):
    """As systemd gives them: in the folder of the state, with the unit's environment and mask of rights."""
    folder = tmp_path_factory.mktemp("u")
    study, site = folder / "study", folder / "site"
    settings = ("data.options.count=60", "partition=iid", "partition.sites=3", "model=hog_linear")
    for words in (
        ("data", "deal", *settings, "aggregation=plain", "--run-dir", str(folder / "dealt")),
        ("server", "init", str(study), "hosts=localhost", f"port={20000 + 2 * (os.getpid() % 5000)}"),
        ("site", "init", str(site), "--data", str(folder / "dealt" / "site-0"), "--name", "site-0"),
    ):
        assert fedfer(*words)[0] == 0
    told = fedfer("site", "enrol", str(site))[1]
    own = re.search(r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}", told)[0]
    assert fedfer("server", "approve", str(study), str(site / "request.json"), "--fingerprint", own)[0] == 0
    fingerprint = read_study(study / "study.json").fingerprint
    assert fedfer("site", "join", str(site), str(study / "study.json"), "--fingerprint", fingerprint)[0] == 0
    running = {}
    for room in ROOMS:
        section = unit(room)["Service"]
        environment = dict(word.split("=", 1) for word in section["Environment"].split())
        running[room] = subprocess.Popen(
            words_of(room, "ExecStart", folder), cwd=folder, umask=int(section["UMask"], 8),
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        end = time.monotonic() + 300  # a busy machine takes its time
        while "connected" not in fedfer("site", "status", str(site))[1]:
            assert time.monotonic() < end
            time.sleep(0.5)
        for room in reversed(list(ROOMS)):
            ended = subprocess.run(
                words_of(room, "ExecStop", folder), cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, timeout=int(unit(room)["Service"]["TimeoutStopSec"]),
            )  # fmt: skip
            assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "stopped"), ended.stderr
            assert running[room].wait(10) == 0
    finally:
        for process in running.values():
            process.kill()
    open_to_others = [
        path for each in (study / "state", site) for path in each.rglob("*")
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]  # fmt: skip
    assert open_to_others == []
