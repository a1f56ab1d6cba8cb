"""``fedfer server verify-round``: what it prints, what it refuses, and a byte changed in every part."""

import json
import shutil

import pytest

from client.identity import Identity, Roster
from fer_models import errors
from server.cli import transcripts_of

from .conftest import key
from .test_verify import AUDITED, SITES, Training


@pytest.fixture(scope="module")
def plan():
    return AUDITED


@pytest.fixture(scope="module")
def kept(plan, tmp_path_factory):
    """(folder of a run, its roster) with the transcript of one round."""
    run = tmp_path_factory.mktemp("run")
    world = Training(plan, run / "transcripts")
    world.round()
    roster = run.parent / "trusted.json"
    roster.write_text(world.roster.to_json())
    return run, roster


@pytest.fixture
def run(kept, tmp_path):
    """A copy of the run, to be changed."""
    return shutil.copytree(kept[0], tmp_path / "run")


@pytest.fixture
def session(run):
    return run / "transcripts" / "000001"


CHECKS = (
    "offer: ",
    "keys: ",
    "vectors: ",
    "survivors: ",
    "shares: ",
    "sum: ",
    "count and canaries: ",
    "next model: ",
)


@pytest.mark.parametrize("where", ["", "transcripts", "transcripts/000001"])
def test_a_run_its_transcripts_or_one_of_them(kept, fedfer, where):
    run, roster = kept
    code, out, err = fedfer("server", "verify-round", str(run / where))
    assert (code, err) == (0, "")
    assert "session 1 of run audited, round 1, train" in out
    assert [line for line in out.splitlines() if any(line.startswith(f"  {check}") for check in CHECKS)]
    for check in CHECKS:
        assert f"\n  {check}" in out
    assert "the sum is over site-000, site-002, site-003, site-004" in out
    assert "give --roster FILE" in out
    assert out.endswith("verified: 1 session\n")
    code, out, _ = fedfer("server", "verify-round", str(run / where), f"--roster={roster}", "--session", "1")
    assert code == 0
    assert "--roster" not in out


def test_as_json(kept, fedfer):
    code, out, _ = fedfer("server", "verify-round", str(kept[0]), "--json")
    (found,) = json.loads(out)["sessions"]
    assert code == 0
    assert (found["session"], found["purpose"], len(found["checks"])) == (1, "train", len(CHECKS))
    assert len(found["before"]) == len(found["after"]) == 64


PARTS = ("plan", "roster", "offer", "advert-1", "shares-1", "masked-0", "consent-3", "reveal-0", "sum")
PARTS += ("before", "step")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("place", [0.03, 0.5, 1.0])
def test_a_byte_changed_in_any_part_is_one_line(session, fedfer, refused, part, place):
    (path,) = session.glob(f"{part}.*")
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    found = fedfer("server", "verify-round", str(session))
    assert refused(found, errors.SecureAggregationError)
    assert "verified" not in found[1]


def test_what_is_wrong_is_in_the_json_too(session, fedfer):
    (session / "sum.bin").write_bytes(bytes((session / "sum.bin").stat().st_size))
    code, out, err = fedfer("server", "verify-round", str(session), "--json")
    assert code == errors.SecureAggregationError.exit_code
    (said,) = json.loads(out)["sessions"]
    assert said["code"] == "bad_sum"
    assert err == f"error: {said['error']}\n"
    assert "sum.bin" in err


def test_somebody_elses_keys(kept, fedfer, refused, tmp_path):
    own = {f"site-{site:03}": Identity(key("another", site)).public for site in range(SITES)}
    (tmp_path / "roster.json").write_text(Roster(own).to_json())
    found = fedfer("server", "verify-round", str(kept[0]), "--roster", str(tmp_path / "roster.json"))
    assert refused(found, errors.SecureAggregationError, "a roster that is not the one you trust")


def test_a_round_made_again_after_a_kill_starts_where_the_one_before_ended(run, fedfer):
    """Both begin with the same weights; rounds that do not follow each other are tried on a run of several."""
    shutil.copytree(run / "transcripts" / "000001", run / "transcripts" / "000002")
    code, out, _ = fedfer("server", "verify-round", str(run))
    assert (code, out.count("round 1, train")) == (0, 2)


def test_a_lost_session_has_no_sum(run, fedfer, refused):
    lost = run / "transcripts" / "000000"
    lost.mkdir()
    for path in (run / "transcripts" / "000001").glob("[opr]*"):
        shutil.copy(path, lost)
    code, out, _ = fedfer("server", "verify-round", str(run))
    assert code == 0
    assert "session 0 was lost, it has no sum" in out
    assert out.endswith("verified: 1 session\n")
    assert refused(
        fedfer("server", "verify-round", str(run), "--session", "0"), errors.SecureAggregationError
    )
    assert [path.name for path in transcripts_of(run, None)] == ["000000", "000001"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "server needs a command"),
        (["verify"], "server needs a command"),
        (["verify-round"], "verify-round needs one folder"),
        (["verify-round", "a", "b"], "verify-round needs one folder"),
        (["verify-round", "nowhere"], "no such folder (nowhere)"),
        (["verify-round", "."], "no transcript (.)"),
        (["verify-round", ".", "--rooster"], "Did you mean --roster?"),
        (["verify-round", ".", "--session"], "--session without a value"),
        (["verify-round", ".", "--session", "one"], "session 'one' is no number"),
        (["verify-round", ".", "--roster", "nowhere.json"], "the roster cannot be read (nowhere.json)"),
    ],
)
def test_mistakes_are_one_line(words, said, fedfer, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(fedfer("server", *words), errors.ConfigError, said)


def test_a_session_that_is_not_there(kept, fedfer, refused):
    found = fedfer("server", "verify-round", str(kept[0]), "--session", "7")
    assert refused(found, errors.ConfigError, "no transcript of session 7", "Give 1 to 1.")
