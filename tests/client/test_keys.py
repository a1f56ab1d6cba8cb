"""Keys: made for their owner's eyes, never overwritten, and not used where others may read them."""

import os
import subprocess

import pytest

from client.keys import (
    make_folder,
    make_node_key,
    make_signing_key,
    read_node_key,
    read_private,
    read_signing_key,
    write_private,
)
from fer_models.errors import IdentityError, RunFolderError


def test_a_signing_key_is_the_same_when_read_again(tmp_path):
    made = make_signing_key(tmp_path / "signing.pem")
    read = read_signing_key(tmp_path / "signing.pem")
    assert read.public == made.public
    assert read.sign(b"text") == made.sign(b"text")
    assert (tmp_path / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_a_node_key_is_one_that_openssh_reads(tmp_path):
    public = make_node_key(tmp_path / "node.key")
    assert public.startswith("ecdsa-sha2-nistp384 ")
    assert read_node_key(tmp_path / "node.key") == public
    assert b"BEGIN OPENSSH PRIVATE KEY" in (tmp_path / "node.key").read_bytes()


@pytest.mark.parametrize("make", [make_signing_key, make_node_key])
def test_keys_are_not_overwritten(make, tmp_path):
    make(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(IdentityError, match="already"):
        make(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_use_is_not_used(mode, tmp_path):
    make_signing_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(IdentityError, match=f"mode {mode:03o}") as error:
        read_signing_key(tmp_path / "key")
    assert "chmod 600" in error.value.cure
    subprocess.run(["chmod", "600", tmp_path / "key"], check=True)  # which is the cure
    assert read_signing_key(tmp_path / "key")


def test_a_key_of_another_user_is_not_used(tmp_path, monkeypatch):
    make_signing_key(tmp_path / "key")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(IdentityError, match="another user"):
        read_signing_key(tmp_path / "key")


def test_other_files_are_no_keys(tmp_path):
    make_signing_key(tmp_path / "signing.pem")
    make_node_key(tmp_path / "node.key")
    write_private(tmp_path / "text", b"no key")
    for read, name in (
        (read_signing_key, "node.key"),
        (read_node_key, "signing.pem"),
        (read_signing_key, "text"),
        (read_node_key, "text"),
    ):
        with pytest.raises(IdentityError, match="no key of that kind"):
            read(tmp_path / name)
    with pytest.raises(IdentityError, match="cannot be read"):
        read_private(tmp_path / "gone")


def test_a_folder_is_the_owner_s(tmp_path):
    make_folder(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make"):
        make_folder(tmp_path / "file")
    with pytest.raises(RunFolderError, match="cannot write"):
        write_private(tmp_path / "nowhere" / "key", b"x")
