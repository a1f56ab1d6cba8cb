"""Cards of data sets: every reader has one, what it names exists, and the commands print it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fer_models.errors import ConfigError
from fer_models.readers import READERS
from fer_models.readers.people import VALUES
from simulations.compose import CONF
from simulations.data_cards import cards, goals

DATASETS = (Path(__file__).parent.parent.parent / "docs" / "datasets.md").read_text()
OWN = {"imagefolder", "classfolders", "many"}
"""Layouts for a user's own pictures, and several sets at once."""


def test_every_reader_of_a_set_has_a_card_and_no_other():
    assert {card.reader for card in cards().values()} - {""} == set(READERS) - OWN | {"faces"}


@pytest.mark.parametrize("name", cards())
def test_a_card_is_whole(name):
    card = cards()[name]
    for fact in (
        "title",
        "size",
        "kind",
        "classes",
        "annotation",
        "terms",
        "ask",
        "publish",
        "use",
        "limits",
        "checked",
    ):
        assert len(getattr(card, fact)) > 2, fact
    assert card.sources
    assert set(card.groups) <= {*VALUES, "scene", "skin_tone"}
    assert bool(card.reader) == bool(card.choice)
    if card.choice:
        assert OmegaConf.load(CONF / "data" / f"{card.choice}.yaml").reader == card.reader


@pytest.mark.parametrize("name", [name for name, card in cards().items() if name not in ("faces", "fer2013")])
def test_a_card_has_its_section_in_the_documents(name):
    card = cards()[name]
    wanted = rf"^\| \[`{card.choice}`\]\(#" if card.choice else r"^## Sets without a reader"
    assert re.search(wanted, DATASETS, re.MULTILINE)
    assert card.choice or any(
        word in DATASETS for word in card.title.split() if "-" in word or word.isupper()
    )


@pytest.mark.parametrize("name", goals())
def test_a_goal_names_sets_that_can_be_read(name):
    goal = goals()[name]
    assert goal.what
    assert all(cards()[chosen].choice and reason for chosen, reason in goal.sets.items())


def test_groups_that_annotators_guessed_are_said_to_be_guesses():
    guessed = [card for card in cards().values() if any("annotator" in told for told in card.groups.values())]
    assert len(guessed) == 3
    assert all("guess" in card.limits or "own files tell of no group" in card.limits for card in guessed)


def test_terms_are_quoted_or_said_not_to_be_verified():
    open_terms = {"faces", "fer2013", "cremad", "london"}
    for name, card in cards().items():
        assert card.quote or name in open_terms or "not verified" in card.checked, name
        assert name in open_terms or card.ask.startswith("http") or "@" in card.ask, name


def test_list_names_every_set(fedfer):
    code, out, _ = fedfer("data", "list")
    assert code == 0
    assert [name for name in cards() if not re.search(rf"^{name} ", out, re.MULTILINE)] == []


def test_card_tells_terms_and_whom_to_ask(fedfer):
    code, out, _ = fedfer("data", "card", "rafdb")
    assert code == 0
    words = " ".join(out.split())
    assert "data=rafdb data.root=DIR" in words
    assert "http://www.whdeng.cn/RAF/model1.html" in words
    assert "RESTRICTED to non-commercial research" in words
    assert "no reader" in fedfer("data", "card", "mmi")[1]


def test_recommend_prints_the_best_first(fedfer):
    code, out, _ = fedfer("data", "recommend", "goal=fairness")
    assert code == 0
    told = [line.split()[0] for line in out.splitlines() if line.split() and line.split()[0] in cards()]
    assert told == list(goals()["fairness"].sets)
    assert [name for name in goals() if f"goal={name}:" not in fedfer("data", "recommend")[1]] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "data needs a verb"),
        (("show",), "data needs a verb"),
        (("card",), "cannot read 'nothing'"),
        (("card", "rafdb", "kdef"), "cannot read 'rafdb kdef'"),
        (("card", "rafbd"), "rafdb"),
        (("list", "rafdb"), "cannot read 'rafdb'"),
        (("recommend", "goal=fair"), "fairness"),
        (("recommend", "fairness"), "Write goal="),
    ],
)
def test_mistakes(fedfer, refused, words, said):
    assert refused(fedfer("data", *words), ConfigError, said)


def test_tables_are_printed_without_torch():
    script = (
        "import sys; from simulations.cli import main\n"
        "for words in (['data', 'list'], ['data', 'card', 'rafdb'], ['data', 'recommend'], ['fairness']):\n"
        "    try: main(words)\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False).returncode == 0
    )
