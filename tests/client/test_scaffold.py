"""What a site keeps of SCAFFOLD: it outlives kills and new processes, and is of one plan, run and round."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from client.agent_service import service_of
from client.frames import Frame, from_bytes, to_bytes
from client.ledger import close_all
from client.messages import facts_of, vector_of, with_facts
from client.plan import Secure
from client.question import COUNTED, Question, correction_of, read_question
from client.scaffold import Correction, Variates
from fer_models.errors import ConfigError, EngineError, ModelError, RunFolderError
from fer_models.flat import FlatModel
from fer_models.zoo import build

WORK = {"scaffold": True, "amount": 4, "learning_rate": 0.05}


def numbers(*values):
    return np.array(values, np.float32)


def told(counted, common=(0.0, 0.0)):
    return Correction(numbers(*common), counted)


def test_a_site_goes_on_from_what_was_counted(plan_of, tmp_path):
    plan, kept = plan_of(local=WORK), Variates(tmp_path / "kept")
    assert kept.of(plan, told(0), "site").tolist() == [0, 0]
    sent = kept.answer(plan, 1, told(0), numbers(0, 0), numbers(1, -2), 4)
    assert sent.tolist() == [1, -2, -5, 10]  # minus the way, by 4 steps of 0.05
    for again in (kept, Variates(tmp_path / "kept")):
        assert again.of(plan, told(1), "site").tolist() == [-5, 10]
        assert again.of(plan, told(0), "site").tolist() == [0, 0], "never counted"
    common, own = (1.0, 1.0), kept.of(plan, told(1), "site")
    sent = kept.answer(plan, 3, told(1, common), own, numbers(0, 0), 4)
    assert sent.tolist() == [0, 0, -1, -1]
    assert kept.of(plan, told(3), "site").tolist() == [-6, 9]
    assert kept.of(plan, told(1), "site").tolist() == [-5, 10], "the answer to round 3 was lost"
    for counted, size in ((2, 2), (3, 3)):
        with pytest.raises(RunFolderError, match="restored from a copy"):
            kept.of(plan, told(counted, (0.0,) * size), "site")


def test_another_run_has_others_and_old_ones_make_way(plan_of, tmp_path):
    kept = Variates(tmp_path)
    for run in "abcdefghij":
        kept.answer(plan_of(local=WORK, run=run), 1, told(0), numbers(0, 0), numbers(1, 1), 4)
    assert len(list(tmp_path.iterdir())) == 8
    with pytest.raises(RunFolderError, match="not there"):
        kept.of(plan_of(local=WORK, run="a"), told(1), "site")
    assert kept.of(plan_of(local=WORK, run="j"), told(1), "site").tolist() == [-5, -5]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_what_is_sent_under_a_mask_is_what_is_kept(plan_of):
    plan = plan_of(
        local={**WORK, "gradient_clip": 0.5}, aggregation="secure", secure=Secure(3, 3, 3, 4.0, 64)
    )
    kept = Variates()
    sent = kept.answer(plan, 1, told(0), numbers(0, 0), numbers(1, 0.1), 4)
    assert sent[2:].tolist() == [-1, -0.5]
    assert kept.of(plan, told(1), "site").tolist() == [-1, -0.5]


def test_what_cannot_be_kept_is_told_of_and_not_sent(plan_of, tmp_path):
    plan, kept = plan_of(local=WORK), Variates(tmp_path)
    (tmp_path / f"{plan.digest}.variates").mkdir()
    with pytest.raises(RunFolderError, match="Free disk space"):
        kept.answer(plan, 1, told(0), numbers(0, 0), numbers(1, 1), 4)


def test_a_damaged_file_is_told_of(plan_of, tmp_path):
    plan, kept = plan_of(local=WORK), Variates(tmp_path)
    kept.answer(plan, 1, told(0), numbers(0, 0), numbers(1, 1), 4)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for body in (whole[:-1], whole[:-8] + b"\0" * 8, b"", b"{}\n"):
        path.write_bytes(body)
        with pytest.raises(RunFolderError, match="damaged"):
            kept.of(plan, told(1), "site")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from client.plan import read_plan
from client.scaffold import Correction, Variates
plan, kept = read_plan(Path(sys.argv[1]).read_text()), Variates(Path(sys.argv[2]))
own, length = np.zeros(200_000, np.float32), 200_000
for number in range(1, 10**6):
    told = Correction(np.zeros(length, np.float32), number - 1)
    own = kept.of(plan, told, "site")
    kept.answer(plan, number, told, own, np.full(length, -0.2 * number, np.float32), 4)
    print(number, flush=True)
"""


def test_a_kill_leaves_what_was_before_or_what_is_after(plan_of, tmp_path):
    plan, folder = plan_of(local=WORK), tmp_path / "kept"
    (tmp_path / "plan.json").write_text(plan.text)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "plan.json"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            last = int(process.stdout.readline())
        time.sleep(0.0137)
        process.kill()
        last = max([last, *map(int, process.stdout.read().split("\n")[:-1])])
    found = Variates(folder)
    for number in (last, last + 1):  # told of, or written and not told of
        try:
            own = found.of(plan, Correction(np.zeros(200_000, np.float32), number), "site")
        except RunFolderError:
            assert number == last + 1
        else:
            assert np.allclose(own, number * (number + 1) / 2)


def question_of(plan, number, vector, counted):
    asked = Question(plan, number, vector, common=np.zeros_like(vector)).content()
    return with_facts(asked, {COUNTED: str(counted)})


def test_the_agent_of_a_real_site_goes_on_after_it_was_started_again(joined, plan_of):
    rules = joined.path / "policy.yaml"
    for rule in ("signed: true", "required: true", "secure: true", "by_site: false"):
        assert rule in rules.read_text()
        rules.write_text(
            rules.read_text().replace(rule, rule.split()[0] + (" true" if "false" in rule else " false"))
        )
    plan = plan_of(local=WORK, server={"rounds": 3})
    vector = FlatModel(build(plan.model, 0)).full_vector.numpy()

    def answered(number, counted):
        close_all()
        asked = Frame("train", question_of(plan, number, vector, counted))
        return from_bytes(service_of(joined).answer(to_bytes(asked)))

    first = vector_of(answered(1, 0).content, np.float32)
    assert len(first) == 2 * len(vector)
    delta, change = np.split(first, 2)
    assert np.allclose(change, -delta / (4 * 0.05))
    second = vector_of(answered(2, 1).content, np.float32)
    apart = vector_of(answered(2, 0).content, np.float32)
    assert not np.array_equal(second, apart), "corrected by what it kept, or by nothing"
    assert np.array_equal(vector_of(answered(2, 0).content, np.float32), apart)
    lost = answered(3, 1)
    assert lost.content is None and lost.error is not None


def test_a_question_says_what_was_counted(plan_of):
    plan = plan_of(local=WORK, server={"rounds": 3})
    vector = numbers(1, 2, 3)
    asked = question_of(plan, 2, vector, 1)
    found = read_question(asked)
    assert found.vector.tolist() == [1, 2, 3] and correction_of(found, asked).counted == 1
    judged = Question(plan, 2, vector, judged=numbers(4, 5, 6), common=numbers(7, 8, 9)).content()
    found = read_question(judged)
    assert [each.tolist() for each in (found.vector, found.judged, found.common)] == [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]
    for counted in ("2", "-1", "many"):
        with pytest.raises(EngineError, match="counted in round"):
            correction_of(found, question_of(plan, 2, vector, counted))
    with pytest.raises(EngineError):
        correction_of(found, judged)
    bare = with_facts(Question(plan, 2, vector).content(), {})
    assert "control" not in facts_of(bare)
    with pytest.raises(EngineError):
        read_question(bare)


def test_sites_in_one_pass_and_nets_with_statistics_are_refused(plan_of, bench_of, agent_of):
    from client.one_pass import train_sites

    plan = plan_of(local=WORK)
    vector = bench_of(plan).flat.full_vector.clone().numpy()
    with pytest.raises(ConfigError, match="one pass"):
        train_sites([agent_of()], plan, 1, vector)
    kept = replace(plan, model=replace(plan.model, name="fer_nano", norm="bn"))
    flat = bench_of(kept).flat
    common = np.zeros(len(flat.learning), np.float32)
    with pytest.raises(ModelError, match="control variates for a net"):
        agent_of().train(kept, 1, flat.full_vector.clone().numpy(), correction=Correction(common, 0))
