"""The coordinator's commands on real folders: found a federation, let a site in, put it out, and every mistake."""

import datetime
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from client.audit_log import AuditLog
from client.enrolment import make_request
from client.identity import Roster
from client.keys import make_node_key, make_signing_key
from client.study import read_study
from fer_models.errors import ConfigError, IdentityError, SignatureError
from server.coordinator import Coordinator


@pytest.fixture
def study(tmp_path, fedfer):
    """A new coordinator."""
    code, out, err = fedfer("server", "init", str(tmp_path / "study"), "hosts=fl.example.org,10.0.0.5")
    assert (code, err) == (0, "")
    assert "sites connect to fl.example.org:9443" in out
    return tmp_path / "study"


@pytest.fixture
def ask(tmp_path):
    """ask(name): a new site's request, as a file."""

    def make(name, keys=None):
        folder = tmp_path / (keys or name)
        folder.mkdir()
        request = make_request(name, make_signing_key(folder / "s"), make_node_key(folder / "n"))
        (folder / "request.json").write_text(request.text)
        return folder / "request.json", request

    return make


def test_a_new_coordinator_is_its_owner_s_alone(study):
    assert study.stat().st_mode & 0o777 == 0o700
    for name in ("ca/ca.key", "tls/server.key", "superexec.secret"):
        assert (study / name).stat().st_mode & 0o777 == 0o600
    assert len((study / "superexec.secret").read_bytes()) == 32


def test_a_site_is_let_in_by_what_it_reads_out(study, ask, fedfer):
    path, request = ask("clinic-a")
    code, out, err = fedfer(
        "server", "approve", str(study), str(path), "--fingerprint", request.fingerprint.upper()
    )
    assert (code, err) == (0, "")
    assert f"fingerprint {request.fingerprint}" in out
    sent = read_study(study / "study.json")
    assert (sent.address, sent.sites) == ("fl.example.org:9443", {"clinic-a": request.signing_key})
    assert sent.ca == (study / "ca" / "ca.crt").read_text()
    assert "PRIVATE" not in sent.text
    roster = Roster.from_json((study / "roster.json").read_text())
    assert roster.names == ("clinic-a",)
    code, out, _ = fedfer("server", "sites", str(study))
    assert code == 0
    assert request.fingerprint in out
    assert "keys and certificates are good" in out


def test_a_wrong_fingerprint_lets_nobody_in(study, ask, fedfer, refused):
    path, _ = ask("clinic-a")
    _, other = ask("clinic-a", "forged")
    found = fedfer("server", "approve", str(study), str(path), "--fingerprint", other.fingerprint)
    assert refused(found, IdentityError, "not what the site reads out", "Do not approve it")
    assert not (study / "roster.json").exists()


def test_nobody_is_let_in_unasked(study, ask, fedfer, refused, monkeypatch):
    path, _ = ask("clinic-a")
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        found = fedfer("server", "approve", str(study), str(path))
    assert refused(found, IdentityError, "nobody has compared", "--fingerprint")
    assert not (study / "roster.json").exists()


def test_on_a_terminal_the_fingerprint_is_asked_for(study, ask):
    path, request = ask("clinic-a")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "simulations.cli", "server", "approve", str(study), str(path)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{request.fingerprint}\n".encode())
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0
    assert "What does it read out?" in out
    assert Coordinator.open(study).enrolled().roster.names == ("clinic-a",)


def approve(fedfer, study, path, request):
    return fedfer("server", "approve", str(study), str(path), f"--fingerprint={request.fingerprint}")


def test_a_second_time_or_a_second_site_of_that_name_is_refused(study, ask, fedfer, refused):
    path, request = ask("clinic-a")
    assert approve(fedfer, study, path, request)[0] == 0
    assert refused(approve(fedfer, study, path, request), IdentityError, "approved already")
    path, other = ask("clinic-a", "other")
    assert refused(approve(fedfer, study, path, other), IdentityError, "with other keys", "server revoke")


def test_a_revoked_site_is_out_for_good(study, ask, fedfer, refused):
    asked = [ask(name) for name in ("clinic-a", "clinic-b")]
    for path, request in asked:
        assert approve(fedfer, study, path, request)[0] == 0
    assert fedfer("server", "revoke", str(study), "clinic-a")[0] == 0
    assert Roster.from_json((study / "roster.json").read_text()).names == ("clinic-b",)
    assert refused(approve(fedfer, study, *asked[0]), IdentityError, "revoked at", "new keys")
    found = fedfer("server", "revoke", str(study), "clinic-a")
    assert refused(found, IdentityError, "no site 'clinic-a' takes part")
    assert fedfer("server", "revoke", str(study), "clinic-b")[0] == 0
    assert not (study / "roster.json").exists()


def test_a_site_and_a_coordinator_come_together_and_part(study, tmp_path, fedfer, refused):
    site, sent = str(tmp_path / "clinic-a"), str(study / "study.json")
    assert fedfer("site", "init", site, "--data", str(tmp_path))[0] == 0
    mine = re.search(r"fingerprint of clinic-a: (.*)", fedfer("site", "enrol", site)[1])[1]
    theirs = re.search(r"fingerprint of study: (.*)", fedfer("server", "sites", str(study))[1])[1]
    assert refused(
        fedfer("site", "join", site, sent, "--fingerprint", theirs), IdentityError, "not approved yet"
    )
    request = str(tmp_path / "clinic-a" / "request.json")
    assert fedfer("server", "approve", str(study), request, "--fingerprint", mine)[0] == 0
    assert refused(fedfer("site", "join", site, sent), IdentityError, "nobody has compared")
    assert fedfer("site", "join", site, sent, "--fingerprint", theirs)[0] == 0
    old = (study / "study.json").read_bytes()
    assert fedfer("server", "revoke", str(study), "clinic-a")[0] == 0
    assert refused(fedfer("site", "join", site, sent), IdentityError, "or revoked")
    (tmp_path / "clinic-a" / "study.json").write_bytes((study / "study.json").read_bytes())
    (tmp_path / "old.json").write_bytes(old)  # which still names the site
    found = fedfer("site", "join", site, str(tmp_path / "old.json"))
    assert refused(found, IdentityError, "older than the one")


def test_every_change_has_a_higher_serial(study, ask, fedfer):
    def serial():
        return read_study(study / "study.json").serial

    assert serial() == 1
    path, request = ask("clinic-a")
    assert approve(fedfer, study, path, request)[0] == 0
    assert serial() == 2
    assert fedfer("server", "revoke", str(study), "clinic-a")[0] == 0
    assert serial() == 3


def test_without_its_signing_key_a_coordinator_changes_nothing(study, ask, fedfer, refused):
    path, request = ask("clinic-a")
    (study / "signing.pem").chmod(0o644)
    assert refused(approve(fedfer, study, path, request), IdentityError, "others may use this key")
    assert refused(fedfer("server", "sites", str(study)), IdentityError, "others may use this key")
    assert [entry.kind for entry in AuditLog(study / "audit.jsonl").entries()] == [
        "founded",
        "certificate_made",
    ]
    (study / "signing.pem").chmod(0o600)
    assert not Coordinator.open(study).enrolled().sites
    assert approve(fedfer, study, path, request)[0] == 0


@pytest.mark.parametrize("change", [{"site": "clinic-b"}, {"signature": "00"}, {"role": "admin"}, None])
def test_damaged_requests_are_refused(change, study, ask, fedfer, refused):
    path, request = ask("clinic-a")
    path.write_text("no JSON" if change is None else json.dumps({**json.loads(request.text), **change}))
    assert refused(approve(fedfer, study, path, request), IdentityError, "fedfer site enrol")


def test_certificates_that_cannot_be_used_are_told(study, tmp_path, fedfer, refused):
    sites = ("server", "sites", str(study))
    (study / "tls" / "server.key").chmod(0o644)
    assert refused(fedfer(*sites), IdentityError, "others may use this key", "chmod 600")
    (study / "tls" / "server.key").chmod(0o600)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=400)
    Coordinator.make(tmp_path / "old", "old", ["localhost"], 1, past)
    for name in ("server.key", "server.crt"):
        (study / "tls" / name).write_bytes((tmp_path / "old" / "tls" / name).read_bytes())
    assert refused(fedfer(*sites), IdentityError, "another authority", "server renew")
    assert refused(
        fedfer("server", "sites", str(tmp_path / "old")), IdentityError, "ended at", "server renew"
    )
    for folder in (study, tmp_path / "old"):
        assert fedfer("server", "renew", str(folder))[0] == 0
        assert fedfer("server", "sites", str(folder))[0] == 0
    assert "run fedfer server renew" not in fedfer(*sites)[1]
    future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    Coordinator.make(tmp_path / "young", "young", ["localhost"], 1, future)
    assert refused(fedfer("server", "sites", str(tmp_path / "young")), IdentityError, "begins at", "clock")


def test_a_certificate_that_ends_soon_is_told(tmp_path, fedfer):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=380)
    Coordinator.make(tmp_path / "study", "study", ["localhost"], 1, past)
    assert "run fedfer server renew" in fedfer("server", "sites", str(tmp_path / "study"))[1]


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ([], ConfigError, "server needs a command"),
        (["aprove"], ConfigError, "Did you mean approve?"),
        (["init", "hosts=a"], ConfigError, "needs a new folder"),
        (["init", "new"], ConfigError, "hosts is missing"),
        (["init", "new", "hosts="], ConfigError, "no host"),
        (["init", "new", "host=a"], ConfigError, "Did you mean hosts?"),
        (["init", "new", "hosts=a b"], ConfigError, "'a b' is no host"),
        (["init", "new", "hosts=a", "port=x"], ConfigError, "port 'x' is no number"),
        (["init", "new", "hosts=a", "port=70000"], ConfigError, "port 70000"),
        (["init", "full", "hosts=a"], ConfigError, "the folder is not empty"),
        (["approve", "full"], ConfigError, "needs a folder and a request"),
        (["approve", "full", "request"], ConfigError, "this folder holds no coordinator"),
        (["revoke", "full"], ConfigError, "needs a folder and a site"),
        (["sites"], ConfigError, "server sites needs a folder"),
        (["renew", "full"], ConfigError, "this folder holds no coordinator"),
    ],
)
def test_mistakes_are_one_line(words, kind, said, tmp_path, monkeypatch, fedfer, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert refused(fedfer("server", *words), kind, said)
    assert not (tmp_path / "new").exists()


def test_a_damaged_list_is_not_taken_for_an_empty_one(study, fedfer, refused):
    (study / "sites.json").write_text("{}")
    found = fedfer("server", "sites", str(study))
    assert refused(found, IdentityError, "the list of sites is damaged", "revoked")


def test_the_log_says_who_was_let_in_and_put_out(study, ask, fedfer, refused):
    path, request = ask("clinic-a")
    assert approve(fedfer, study, path, request)[0] == 0
    code, out, _ = fedfer("server", "log", str(study))
    assert code == 0
    head = out.splitlines()[-1]
    assert f"site approved site=clinic-a fingerprint={request.fingerprint}" in out
    assert fedfer("server", "revoke", str(study), "clinic-a")[0] == 0
    code, out, _ = fedfer("server", "log", str(study), "--log-json", "--head", head)
    assert code == 0
    kinds = [json.loads(line)["kind"] for line in out.splitlines()]
    assert kinds == ["founded", "certificate_made", "site_approved", "site_revoked"]
    book = study / "audit.jsonl"
    book.write_text("".join(book.read_text().splitlines(keepends=True)[:-1]))
    assert fedfer("server", "log", str(study))[0] == 0  # the chain alone does not tell of a cut
    book.write_text("".join(book.read_text().splitlines(keepends=True)[:-1]))
    found = fedfer("server", "log", str(study), "--head", head)
    assert refused(found, SignatureError, "does not hold the head")
    book.write_text(book.read_text().replace("study", "other"))
    assert refused(fedfer("server", "log", str(study)), SignatureError, "entry 1 is not what was written")
