"""A study: signed, joined by fingerprint, followed by newer ones of the same coordinator alone."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from client.certificates import read_certificate
from client.identity import Identity
from client.site_folder import SiteFolder
from client.study import Study, read_study
from fer_models.errors import ConfigError, IdentityError
from server.authority import make_authority

COORDINATOR = Identity(b"c" * 32)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """authority(name, now): the PEM text of an authority's certificate."""
    folder = tmp_path_factory.mktemp("authorities")

    def make(name="good", now=None):
        certificate = folder / f"{name}.crt"
        make_authority(folder / f"{name}.key", certificate, name, now or datetime.now(UTC))
        assert read_certificate(certificate)
        return certificate.read_text()

    return make


@pytest.fixture(scope="module")
def ca(authority):
    return authority()


@pytest.fixture
def study_of(ca):
    """study_of(serial, sites): a study of some folders' sites."""

    def make(serial, *folders, signer=COORDINATOR):
        sites = {folder.name: folder.identity().public.hex() for folder in folders}
        return Study(serial, "", "localhost:9443", ca, sites, "").signed(signer)

    return make


@pytest.fixture
def site(tmp_path):
    return lambda name: SiteFolder.make(tmp_path / name, name, "imagefolder", str(tmp_path))


def test_a_study_reads_as_it_was_signed(study_of, site, tmp_path):
    study = study_of(1, site("clinic-a"))
    (tmp_path / "study.json").write_text(study.text)
    found = read_study(tmp_path / "study.json")
    assert found == study
    assert found.roster.names == ("clinic-a",)
    study_of(0).verify()  # before anybody was approved


def test_a_site_joins_by_fingerprint_and_takes_newer_studies_without(study_of, site):
    a, b = site("clinic-a"), site("clinic-b")
    first = study_of(1, a)
    with pytest.raises(IdentityError, match="nobody has compared the coordinator") as error:
        a.join(first, None)
    assert first.fingerprint in error.value.what
    with pytest.raises(IdentityError, match="not the coordinator that read"):
        a.join(first, "0000 " * 8)
    with pytest.raises(IdentityError, match="clinic-b is not in this study"):
        b.join(first, first.fingerprint)
    assert a.study() is None
    a.join(first, f" {first.fingerprint.replace(' ', '  ')}")
    a.join(study_of(2, a, b), None)
    assert a.study().roster.names == ("clinic-a", "clinic-b")
    with pytest.raises(IdentityError, match="older than the one that the site has joined, 1 before 2"):
        a.join(first, None)
    with pytest.raises(IdentityError, match="both have the serial 2"):
        a.join(study_of(2, a), None)
    a.join(study_of(2, a, b), None)  # the same once more
    with pytest.raises(IdentityError, match="not approved yet, or revoked"):
        a.join(study_of(3, b), None)
    assert a.study().serial == 2


def test_a_site_with_another_key_of_the_same_name_does_not_join(study_of, site, tmp_path):
    a = site("clinic-a")
    other = SiteFolder.make(tmp_path / "other", "clinic-a", "imagefolder", "x")
    study = study_of(1, other)
    with pytest.raises(IdentityError, match="with its key"):
        a.join(study, study.fingerprint)


def test_another_coordinator_is_refused_even_with_its_fingerprint(study_of, site):
    a = site("clinic-a")
    mine, other = study_of(1, a), study_of(2, a, signer=Identity(b"o" * 32))
    a.join(mine, mine.fingerprint)
    with pytest.raises(IdentityError, match="another coordinator"):
        a.join(other, other.fingerprint)


def test_a_study_that_was_changed_is_refused(study_of, site, authority):
    study = study_of(1, site("clinic-a"))
    for change in (
        {"address": "evil.example.org:9443"},
        {"sites": {**study.sites, "sybil": "00" * 32}},
        {"sites": {}},
        {"ca": authority("evil")},
        {"serial": 99},
        {"coordinator": "00" * 32},
        {"signature": "none"},
        {"version": 2},
    ):
        with pytest.raises(IdentityError, match="damaged"):
            replace(study, **change).verify()
    study.verify()


def test_signed_nonsense_is_refused(study_of, site):
    study = study_of(1, site("clinic-a"))
    twice = dict.fromkeys(("clinic-a", "clinic-b"), study.sites["clinic-a"])
    for change in ({"sites": {"clinic-a": "00"}}, {"sites": twice}, {"ca": "none"}):
        with pytest.raises(IdentityError, match="damaged"):
            replace(study, **change).signed(COORDINATOR).verify()


def test_an_authority_that_has_ended_or_not_begun_is_refused(study_of, site, authority):
    study = study_of(1, site("clinic-a"))
    for name, year, said in (("old", 2000, "ended"), ("early", 2090, "begins")):
        text = authority(name, datetime(year, 1, 1, tzinfo=UTC))
        with pytest.raises(IdentityError, match=said):
            replace(study, ca=text).signed(COORDINATOR).verify()


def test_other_files_are_no_study(study_of, site, tmp_path):
    study, path = study_of(1, site("clinic-a")), tmp_path / "study.json"
    for text in ("", "{}", "[]", "[" * 10_000, json.dumps({**json.loads(study.text), "more": 1})):
        path.write_text(text)
        with pytest.raises(IdentityError, match="no study"):
            read_study(path)
    with pytest.raises(IdentityError, match="no study"):
        read_study(tmp_path / "gone.json")


def test_the_command_joins_and_says_with_whom(study_of, site, tmp_path, fedfer, refused):
    a = site("clinic-a")
    study = study_of(3, a, site("clinic-b"))
    (tmp_path / "study.json").write_text(study.text)
    words = ("site", "join", str(a.path), str(tmp_path / "study.json"))
    assert refused(fedfer(*words), IdentityError, study.fingerprint, "join with --fingerprint")
    code, out, _ = fedfer(*words, "--fingerprint", study.fingerprint)
    assert (code, out) == (0, "joined the study of localhost:9443, serial 3\nsites: clinic-a, clinic-b\n")
    assert (a.path / "study.json").stat().st_mode & 0o077 == 0
    assert fedfer(*words)[0] == 0
    assert refused(fedfer("site", "join", str(a.path)), ConfigError, "needs a site's folder and a study")
