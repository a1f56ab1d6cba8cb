"""docs/secure-aggregation.md can be typed, and what it shows is what is printed."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "secure-aggregation.md").read_text()
SECTION = PAGE.split("## Verifying a round")[1].split("\n## ")[0]


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[1].splitlines()


def test_a_round_is_verified_word_for_word(fedfer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = []
    for line in block("sh"):
        words = shlex.split(line)[1:]
        code, out, err = fedfer(*words, *(["engine.workers=1"] if words[0] == "simulate" else []))
        assert (code, err) == (0, ""), line
        printed.append(out)
    _, one, everything = printed
    for line in block("text"):
        assert f"{line}\n" in one, line
    assert everything.endswith("verified: 3 sessions\n")
    assert [re.search(rf"session {n} of run \w+, (round \d, \w+)", everything)[1] for n in range(3)] == [
        "round 1, train",
        "round 2, train",
        "round 2, evaluate",
    ]
    named = re.findall(r"^\| ([a-z ]+) \| ", SECTION.split("| line |")[1], re.MULTILINE)
    assert named == [line.strip().partition(":")[0] for line in block("text")[:-2]]
