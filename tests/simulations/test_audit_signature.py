"""Signed audits: a key, a signature, and every way to tamper with what was signed."""

import hashlib
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.identity import Identity
from fer_models.errors import ConfigError, SignatureError
from simulations.audit_signature import canonical, verify_folder
from simulations.signing_key import make_key, read_key, read_public


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A signed audit with its key beside it; to be looked at, not written to."""
    from simulations.cli import main

    place = tmp_path_factory.mktemp("signed")
    rows = ["happy,happy,f", "sad,happy,m", "sad,sad,f", "happy,happy,m"] * 20
    (place / "predictions.csv").write_text("true,predicted,gender\n" + "\n".join(rows) + "\n")
    (place / "limits.yaml").write_text("rules: [{metric: accuracy, limit: 0.1}]\n")
    asked = [f"predictions={place}/predictions.csv", f"tolerance={place}/limits.yaml"]
    asked += ["--out", str(place / "audit"), "--sign", str(place / "key")]
    for words in (["key", str(place / "key")], asked):
        with pytest.raises(SystemExit) as ended:
            main(["audit", *words])
        assert ended.value.code == 0
    return place


@pytest.fixture
def mine(signed, tmp_path):
    """A copy of the signed audit's folder."""
    return Path(shutil.copytree(signed / "audit", tmp_path / "audit"))


def test_a_signed_audit_is_verified(fedfer, signed):
    public = f"key={signed}/key.pub"
    code, out, err = fedfer("audit", "verify", str(signed / "audit"), public)
    assert (code, err) == (0, "")
    files = [path for path in (signed / "audit").iterdir() if path.name != "signature.json"]
    assert f"verified: {len(files)} files" in out
    assert "proves that the files belong together" not in out
    digits = read_public(str(signed / "key.pub")).hex()
    assert digits in out
    assert fedfer("audit", "verify", str(signed / "audit"), f"key={digits}")[1] == out
    code, out, _ = fedfer("audit", "verify", str(signed / "audit"))
    assert code == 0 and "not who signed them" in out


def test_what_is_signed_names_counts_words_and_limits(signed):
    record = json.loads((signed / "audit" / "audit.json").read_text())
    assert record["config"] == {
        "words": [f"predictions={signed}/predictions.csv"],
        "tolerance": (signed / "limits.yaml").read_text(),
    }
    facts = verify_folder(signed / "audit")
    assert {"counts", "config", "files", "time", "format", "record", "public_key"} == set(facts)
    assert facts["public_key"] == read_key(signed / "key").public.hex()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda f: (f / "figures.csv").write_text("accuracy,1\n"), "figures.csv was changed"),
        (lambda f: (f / "audit.json").unlink(), "audit.json is missing"),
        (lambda f: (f / "notes.txt").write_text("x"), "notes.txt was not signed"),
        (
            lambda f: (f / "more").mkdir() or (f / "more" / "a.png").write_text("x"),
            "more/a.png was not signed",
        ),
        (lambda f: (f / "link").symlink_to(f / "audit.json"), "link was not signed"),
        (lambda f: (f / "more").symlink_to("..", target_is_directory=True), "more was not signed"),
        (
            lambda f: (
                (f / "figures.csv").rename(f.parent / "x") and (f / "figures.csv").symlink_to(f.parent / "x")
            ),
            "figures.csv was changed",
        ),
        (lambda f: (f / "signature.json").unlink(), "no signature"),
        (lambda f: (f / "signature.json").write_text("{"), "a damaged signature"),
        (lambda f: (f / "signature.json").write_text("[" * 100_000), "a damaged signature"),
        (lambda f: (f / "signature.json").write_bytes(b" " * (1 << 22) + b"1"), "a damaged signature"),
        (lambda f: (f / "signature.json").write_bytes(b"\xff"), "a damaged signature"),
    ],
)
def test_tampering_is_found_and_named(fedfer, refused, mine, tamper, said):
    tamper(mine)
    assert refused(fedfer("audit", "verify", str(mine)), SignatureError, said)


def edited(folder, change):
    path = folder / "signature.json"
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w["signed"].update(time="2020-01-01T00:00:00+00:00"), "not of what it stands beside"),
        (lambda w: w["signed"]["files"].update(x="00"), "not of what it stands beside"),
        (lambda w: w["signed"].update(more="x"), "not of what it stands beside"),
        (lambda w: w.update(signature="00" * 64), "not of what it stands beside"),
        (lambda w: w.update(signature=""), "not of what it stands beside"),
        (lambda w: w.update(public_key="00" * 31), "not of what it stands beside"),
        (lambda w: w.update(public_key=Identity(b"1" * 32).public.hex()), "not of what it stands beside"),
        (lambda w: w.update(public_key="zz"), "a damaged signature"),
        (lambda w: w["signed"].update(format="other"), "a damaged signature"),
        (lambda w: w["signed"].update(files=[]), "a damaged signature"),
        (lambda w: w["signed"].update(record="../audit/audit.json"), "a damaged signature"),
        (lambda w: w["signed"]["files"].update(x=1), "a damaged signature"),
    ],
)
def test_an_edited_signature_is_refused(mine, change, said):
    edited(mine, change)
    with pytest.raises(SignatureError, match=said):
        verify_folder(mine)


def test_a_key_twice_in_a_signature_is_refused(mine):
    path = mine / "signature.json"
    path.write_text(path.read_text().replace('"time":', '"time": "2020-01-01T00:00:00+00:00",\n  "time":'))
    with pytest.raises(SignatureError, match="a damaged signature"):
        verify_folder(mine)


def test_another_s_signature_over_the_same_files_is_not_trusted(fedfer, refused, signed, mine, tmp_path):
    make_key(tmp_path / "other")
    other = read_key(tmp_path / "other")

    def resign(whole):
        whole.update(public_key=other.public.hex(), signature=other.sign(canonical(whole["signed"])).hex())

    edited(mine, resign)
    assert fedfer("audit", "verify", str(mine))[0] == 0
    found = fedfer("audit", "verify", str(mine), f"key={signed}/key.pub")
    assert refused(found, SignatureError, f"signed with another key, {other.public.hex()}")


def test_digests_that_are_not_the_record_s_are_refused(signed, mine):
    key = read_key(signed / "key")

    def lie(whole):
        whole["signed"]["counts"] = "00" * 32
        whole["signature"] = key.sign(canonical(whole["signed"])).hex()

    edited(mine, lie)
    with pytest.raises(SignatureError, match="counts of the audit and of its signature differ"):
        verify_folder(mine)


def test_openssl_reads_the_key_and_verifies_the_signature(signed, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH")
    whole = json.loads((signed / "audit" / "signature.json").read_text())
    (tmp_path / "message").write_bytes(canonical(whole["signed"]))
    (tmp_path / "signature").write_bytes(bytes.fromhex(whole["signature"]))
    public = subprocess.run(
        ["openssl", "pkey", "-in", signed / "key", "-pubout"], capture_output=True, check=True
    ).stdout
    assert public == (signed / "key.pub").read_bytes()
    verified = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", signed / "key.pub", "-rawin"]
    verified += ["-in", tmp_path / "message", "-sigfile", tmp_path / "signature"]
    assert subprocess.run(verified, capture_output=True).returncode == 0


def test_a_new_audit_in_the_folder_takes_the_old_signature_away(fedfer, signed, mine):
    assert fedfer("audit", f"predictions={signed}/predictions.csv", f"--out={mine}")[0] == 0
    assert not (mine / "signature.json").exists()


def test_a_folder_with_other_things_is_not_signed(fedfer, refused, signed, mine):
    (mine / "thesis.txt").write_text("x")
    words = [f"predictions={signed}/predictions.csv", f"--out={mine}", f"--sign={signed}/key"]
    assert refused(fedfer("audit", *words), ConfigError, "thesis.txt is no part of the audit")
    assert not (mine / "signature.json").exists()


def test_a_key_is_its_owner_s_alone(fedfer, refused, tmp_path):
    path = tmp_path / "new" / "key"
    code, out, err = fedfer("audit", "key", str(path))
    assert (code, err) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_public(f"{path}.pub").hex() in out
    assert read_key(path).public == read_public(f"{path}.pub")
    before = path.read_bytes()
    assert refused(fedfer("audit", "key", str(path)), ConfigError, "there already")
    path.rename(tmp_path / "moved")
    assert refused(fedfer("audit", "key", str(path)), ConfigError, "key.pub", "there already")
    assert (tmp_path / "moved").read_bytes() == before
    (tmp_path / "moved").chmod(0o640)
    with pytest.raises(ConfigError, match=r"others can use this key \(mode 640\)"):
        read_key(tmp_path / "moved")


BROKEN = ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]


@pytest.mark.parametrize("text", BROKEN)
def test_files_that_are_no_keys_are_refused(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="this is no private key"):
        read_key(path)
    with pytest.raises(ConfigError, match="this is no public key"):
        read_public(str(path))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_public("12" * 31)


def test_keys_of_another_kind_are_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key, path = X25519PrivateKey.generate(), tmp_path / "key"
    path.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="another kind than Ed25519"):
        read_key(path)
    path.write_bytes(
        key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x"))
    )
    with pytest.raises(ConfigError, match="without a password"):
        read_key(path)
    path.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ConfigError, match="another kind than Ed25519"):
        read_public(str(path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["key"], "audit key FILE"),
        (["key", "a", "b"], "audit key FILE"),
        (["key", "--force"], "audit key FILE"),
        (["verify"], "audit verify DIR"),
        (["verify", "nowhere"], "no such folder"),
        (["verify", ".", "key="], "audit verify DIR"),
        (["verify", ".", "."], "audit verify DIR"),
        (["predictions=x.csv", "--sign", "key"], "--out DIR --sign FILE"),
        (["predictions=x.csv", "--out", "new", "--sign"], "--sign FILE"),
        (["predictions=x.csv", "--out", "new", "--sign", "nokey"], "nokey"),
    ],
)
def test_words_that_say_too_little_are_refused(fedfer, refused, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert refused(fedfer("audit", *words), ConfigError, said)
    assert not list(tmp_path.iterdir())


def test_the_model_that_was_audited_is_known_again(fedfer, refused, compared, words, tmp_path):
    make_key(tmp_path / "key")
    out = tmp_path / "audit"
    code, _, err = fedfer("audit", f"run={compared}", f"--out={out}", f"--sign={tmp_path}/key")
    assert (code, err) == (0, "")
    plan = json.loads((compared / "summary.json").read_text())["plan_hash"]
    assert f"plan: {plan}" in fedfer("audit", "verify", str(out), f"model={compared}")[1]
    data = [word for word in words if not word.startswith("model=")]
    code, _, err = fedfer("audit", f"model={compared}", *data, f"--out={out}", f"--sign={tmp_path}/key")
    assert (code, err) == (0, "")
    assert fedfer("audit", "verify", str(out), f"model={compared}")[0] == 0
    assert fedfer("audit", "verify", str(out), f"model={compared}/model")[0] == 0
    other = shutil.copytree(compared / "model", tmp_path / "other")
    with (other / "model.safetensors").open("ab") as file:
        file.write(b"x")
    found = fedfer("audit", "verify", str(out), f"model={other}")
    assert refused(found, SignatureError, "not the model that was audited")
    assert refused(fedfer("audit", "verify", str(out), f"model={out}"), ConfigError, "holds no model")


def test_other_systems_of_a_run_have_no_model(fedfer, compared, tmp_path):
    out = tmp_path / "one"
    assert fedfer("audit", f"run={compared}", "system=pooled", f"--json={out}")[0] == 0
    assert "model_sha256" not in json.loads(out.read_text())["source"]


def test_a_comparison_is_signed(fedfer, refused, signed, tmp_path):
    rows = [f"r{i},happy,{['happy', 'sad'][i % 3 == 0]},f" for i in range(30)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("id,true,predicted,gender\n" + "\n".join(rows[::-1]) + "\n")
    out = tmp_path / "out"
    pair = f"compare=[{tmp_path}/a.csv,{tmp_path}/b.csv]"
    code, _, err = fedfer("audit", pair, "id=id", "ignore=[gender]", f"--out={out}", f"--sign={signed}/key")
    assert (code, err) == (0, "")
    digests = json.loads((out / "comparison.json").read_text())["source"]["judged"]
    assert (
        digests == [{"predictions_sha256": hashlib.sha256((tmp_path / "a.csv").read_bytes()).hexdigest()}] * 2
    )
    assert fedfer("audit", "verify", str(out), f"key={signed}/key.pub")[0] == 0
    (out / "changes.csv").write_text("x")
    assert refused(fedfer("audit", "verify", str(out)), SignatureError, "changes.csv was changed")


def test_an_audit_of_predictions_names_no_model(fedfer, refused, signed, compared):
    found = fedfer("audit", "verify", str(signed / "audit"), f"model={compared}")
    assert refused(found, SignatureError, "names no model")


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
@settings(max_examples=100, deadline=None)
def test_canonical_json_is_one_text_a_value(one, other):
    assert json.loads(canonical(one)) == one
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical(one) == canonical(other)) == same
    if isinstance(one, dict):
        assert canonical(dict(reversed(one.items()))) == canonical(one)


def test_canonical_json_as_rfc_8785_writes_it():
    # Section 3.2.4 of the RFC, as far as there are no fractions.
    value = {"literals": [None, True, False], "string": '\u20ac$\x0f\nA\'B"\\\\"/'}
    expected = b'{"literals":[null,true,false],"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical(value) == expected
