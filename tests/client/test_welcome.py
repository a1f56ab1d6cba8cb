"""What a coordinator sends back: read strictly."""

import datetime
import json

import pytest

from client.certificates import certificate_fingerprint, read_certificate
from client.welcome import Welcome, read_welcome
from fer_models.errors import IdentityError
from server.authority import make_authority


@pytest.fixture
def welcome(tmp_path):
    make_authority(tmp_path / "k", tmp_path / "c", "study", datetime.datetime.now(datetime.UTC))
    return Welcome("study", "clinic-a", "[::1]:9443", (tmp_path / "c").read_text())


def test_a_file_gives_back_what_was_written(welcome, tmp_path):
    (tmp_path / "w.json").write_text(welcome.text)
    found = read_welcome(tmp_path / "w.json")
    assert found == welcome
    assert found.fingerprint == certificate_fingerprint(read_certificate(tmp_path / "c"))


@pytest.mark.parametrize(
    "change",
    [{"address": "host"}, {"address": ":1"}, {"address": "a:0"}, {"address": "a:65536"}, {"address": "a:x"},
     {"authority": "text"}, {"version": 2}, {"more": 1}, {"site": 3}, {"coordinator": "x" * 20_000}],
)  # fmt: skip
def test_other_files_are_refused(change, welcome, tmp_path):
    (tmp_path / "w.json").write_text(json.dumps({**json.loads(welcome.text), **change}))
    with pytest.raises(IdentityError, match="no answer of a coordinator"):
        read_welcome(tmp_path / "w.json")
    with pytest.raises(IdentityError):
        read_welcome(tmp_path / "gone.json")
