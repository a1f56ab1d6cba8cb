"""What the documents say: every setting, choice, code, link and command line in them is checked against the code."""

import dataclasses
import re
import shlex
import types
import typing
from collections import namedtuple
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import MISSING

from client.plan import LocalWork, ServerWork
from client.strict import parse
from fer_models import errors
from fer_models.readers import options_of
from fer_models.zoo import ModelSpec
from server.enrolment_commands import folder_and_settings
from simulations import cli
from simulations.audit_command import explain_among, tolerance_among
from simulations.audit_folder import RECORD
from simulations.bench.private_frontier import chosen
from simulations.bench.run import NAMES, parsed
from simulations.bench.zoo import asked
from simulations.compose import CONF, composed, json_file, out_folder, readable, signing_file
from simulations.data_cards import cards, goals
from simulations.export import MARK
from simulations.exporting.asked import options_among as export_options
from simulations.faces import FacesConfig
from simulations.partition import PartitionSpec
from simulations.predicting.asked import asked as predict_words
from simulations.prediction_audit import parsed as parsed_audit
from simulations.privacy_audit.finished import CHANGEABLE, run_among
from simulations.run_audit import options_among
from simulations.settings import Settings
from simulations.sweeps.cells import asked as sweep_of
from simulations.sweeps.cells import kind_of
from simulations.tuning.facts import Facts, facts_of
from simulations.versus.asked import is_comparison
from simulations.versus.asked import named as compared

ROOT = Path(__file__).resolve().parent.parent
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *RESULTS]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
EXIT_CODES = (ROOT / "docs" / "exit-codes.md").read_text()
RUNS = ("compare", "simulate", "baseline")

Block = namedtuple("Block", "document language text")


def blocks(document):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(document.relative_to(ROOT).as_posix(), language, text) for language, text in fenced]


def command_lines(block):
    """The words after ``fedfer`` of every command line of a block, comments and placeholders taken out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if "fedfer" in line else []
        if words and Path(words[0]).name == "fedfer":
            yield [re.sub(r"\b(DIR|RUN)\b", "somewhere", word) for word in words[1:]]


# A console block of exit-codes.md also shows mistakes; test_mistakes_read_as_documented runs those.
LINES = [
    (block.document, words)
    for document in DOCUMENTS
    if not document.name.startswith(
        "extend-"
    )  # tests/test_extend.py runs those, with what they add installed
    for block in blocks(document)
    if block.language in ("sh", "text", "")
    for words in command_lines(block)
]


# Settings


def leaves(cls=Settings, prefix=""):
    """Every setting: (dotted name, type, default as a YAML value)."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], f"{name}.")
        else:
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            yield name, hints[field.name], default


def named(kind):
    """A type as the reference calls it."""
    if isinstance(kind, types.UnionType):
        return " or ".join(
            "null" if each is types.NoneType else named(each) for each in typing.get_args(kind)
        )
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "yes or no",
        list: "list",
        dict: "mapping",
    }
    return words[typing.get_origin(kind) or kind]


def written(default):
    """A default as the reference writes it."""
    if default == MISSING:
        return "none"
    if default == "":
        return "empty"
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    return (
        f"`{str(default).lower() if isinstance(default, bool) else 'null' if default is None else default}`"
    )


@pytest.mark.parametrize(("name", "kind", "default"), [pytest.param(*each, id=each[0]) for each in leaves()])
def test_every_setting_is_explained(name, kind, default):
    row = re.search(rf"^\| `{re.escape(name)}` \| (.*?) \| (.*?) \| (.*) \|$", REFERENCE, re.MULTILINE)
    assert row, f"docs/reference.md has no row for {name}"
    assert (row[1], row[2]) == (named(kind), written(default))
    assert len(row[3]) > 5


def test_reference_explains_no_setting_that_is_gone():
    known = {name for name, _, _ in leaves()}
    told = re.findall(r"^\| `([\w.]+)` \| [^|]* \| [^|]* \| ", REFERENCE, re.MULTILINE)
    assert set(told) == known
    assert len(told) == len(known)


def test_every_choice_is_named_and_no_other():
    choices = {f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml")}
    told = set(re.findall(r"^\| `(\w+=\w+)` \|", REFERENCE, re.MULTILINE))
    assert told == choices


def test_every_command_is_named():
    second = "check|deal|init|enrol|join|ledger|log|verify-round|key|verify|approve|revoke|sites|renew"
    second += "|statistics|start|run|status|stop|list|card|recommend|template|validate|prepare"
    listed = re.findall(
        rf"^  ([\w-]+(?: (?:{second}))?)(?: [A-Z.]+)* .*", cli.HELP.split("options")[0], re.MULTILINE
    )
    commands = [name for name in dict.fromkeys(listed) if name != "fedfer"]
    assert "compare" in commands
    assert "data check" in commands
    told = re.findall(r"^\| `([a-z -]+)` \| ", REFERENCE.split("## Options")[0], re.MULTILINE)
    assert told == commands


def test_every_benchmark_is_named():
    row = re.search(r"^\| `bench` \| (.*)", REFERENCE, re.MULTILINE)[1]
    assert set(re.findall(r"`bench ([\w-]+)", row)) == set(NAMES)
    told = re.search(r"^  bench NAME +benchmarks: (.*?)\n\n", cli.HELP, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"[\w-]+", told)) == set(NAMES)


def test_every_fact_of_the_search_is_explained():
    rows = re.findall(
        r"^\| ([^|]*`[^|]*) \| ([^|]*) \| ", (ROOT / "docs" / "tune-private.md").read_text(), re.MULTILINE
    )
    told = {}
    for names, defaults in rows:
        shown = [each.strip() for each in re.split(r"(?<=`), ", defaults)]
        told |= dict(zip(re.findall(r"`(\w+)`", names), shown, strict=False))
    for field in dataclasses.fields(Facts):
        value = field.default
        text = ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)
        assert told[field.name] == (f"`{text}`" if text else "empty"), field.name


# Command lines


def first_values(words):
    """Take the first of the values that a sweep would try."""
    for word in readable(words):
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            yield f"{override.key_or_group}={next(override.sweep_string_iterator())}"
        else:
            yield word


def settings_of(words):
    flags = ("--multirun", "-m", "--cfg", "job")
    words = [word for word in cli.with_run_dir(words) if word not in flags]
    settings, _ = composed(list(first_values(words)))
    return settings


def require_values(settings):
    """Refuse what composes and is refused when it is used."""
    parse(LocalWork, dataclasses.asdict(settings.local), "local")
    server = dataclasses.asdict(settings.server)
    parse(ServerWork, server | {"weighting": server["weighting"].replace("auto", "uniform")}, "server")
    parse(PartitionSpec, dataclasses.asdict(settings.partition), "partition")
    parse(ModelSpec, dataclasses.asdict(settings.model), "model")
    options = dict(settings.data.options)
    if settings.data.reader == "faces":
        parse(FacesConfig, options, "data.options")
    else:
        assert set(options) <= set(options_of(settings.data.reader))


@pytest.mark.parametrize(
    ("document", "words"), [pytest.param(*each, id=f"{each[0]}: {' '.join(each[1])[:60]}") for each in LINES]
)
def test_command_lines_compose(document, words):
    if words[0] == "COMMAND":  # the general form
        return
    known = re.findall(r"^  ([\w-]+)", cli.HELP, re.MULTILINE)
    assert words[0] in known
    rest = words[1:]
    if words[:2] in (["data", "template"], ["data", "validate"]):
        assert len(rest) == 2
        return
    if words[:2] == ["data", "card"]:
        assert all(name in cards() or name == "NAME" for name in rest[1:])
        return
    if words[:2] == ["data", "prepare"]:
        assert len([word for word in rest[1:] if "=" not in word]) == 2
        return
    if words[:2] in (["data", "list"], ["data", "recommend"]):
        assert all(word.removeprefix("goal=") in goals() for word in rest[1:])
        return
    if words[0] == "data":
        assert rest.pop(0) in ("check", "deal")
    elif words[0] == "faces":
        own = ("sheet", "rows_by", "columns")
        rest = ["data=faces", *(word for word in rest if word.split("=")[0] not in own)]
    elif words[0] == "audit-privacy":
        _, rest = json_file(rest)
        folder, rest = run_among(rest)
        if folder is not None:
            assert all(word.startswith(CHANGEABLE) for word in rest)
            return
    elif words[0] == "tune-private":
        told = cli.with_run_dir(json_file(rest)[1])
        assert facts_of([word for word in told if not word.startswith("hydra.")])
        return
    elif words[0] == "audit":
        if rest[0] in ("key", "verify"):
            assert len([word for word in rest if not word.startswith(("key=", "model="))]) == 2
            return
        folder, rest = out_folder(json_file(rest)[1], RECORD)
        _, rest = signing_file(rest, folder)
        _, rest = tolerance_among(rest)
        if is_comparison(rest):
            assert len(compared(rest)[0]) > 1
            return
        if any(word.startswith("predictions=") for word in rest):
            assert parsed_audit(rest)
            return
        if any(word.startswith("run=") for word in rest):
            assert options_among(rest)
            return
        assert any(word.startswith("model=") for word in rest)
        _, rest = explain_among([word for word in rest if not word.startswith("model=")])
    elif words[0] == "predict":
        assert predict_words(rest)
        return
    elif words[0] == "export":
        folder, rest = out_folder(rest, MARK)
        _, _, rest = export_options(rest)
        assert folder
        assert all(word.startswith("data") for word in rest)
        return
    elif words[:2] == ["server", "init"]:
        assert folder_and_settings(rest[1:])
        return
    elif words[:2] == ["server", "run"] and any("=" in word for word in rest):
        rest = rest[2:]  # of "run DIR KEY=VALUE ...": what composes a plan, as simulate does
    elif words[0] == "bench":
        assert rest[0] in NAMES
        name, rest = rest[0], parsed(rest[1:]).overrides
        if name == "private-frontier":
            _, rest = chosen(rest)
        if name == "zoo":
            asked(rest)
            return
    elif words[0] == "compare" and (kind := kind_of(rest)):
        assert sweep_of(cli.with_run_dir(rest), kind).methods
        return
    elif words[0] not in RUNS:
        assert not any("=" in word for word in rest)
        return
    settings = settings_of(rest)
    require_values(settings)
    assert settings.data.reader == "faces" or settings.data.root


def test_command_lines_were_found():
    assert {"README.md", "docs/simulate.md", "docs/faces.md", "docs/data.md"} <= {name for name, _ in LINES}
    assert len(LINES) > 30


# Exit codes


def kinds():
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.FedferError)
    ]


def sections():
    """Section of docs/exit-codes.md: code -> text."""
    parts = re.split(r"^## (\d+) (\w+)\n", EXIT_CODES, flags=re.MULTILINE)[1:]
    return {
        int(code): (name, text) for code, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def test_every_exit_code_has_its_section():
    expected = {kind.exit_code: kind.__name__ for kind in kinds()} | {130: "Interrupted"}
    assert {code: name for code, (name, _) in sections().items()} == expected
    for code, name in expected.items():
        assert re.search(rf"^\| \[{code}\]\(#{code}-{name.lower()}\) \|", EXIT_CODES, re.MULTILINE)


def shown():
    """Every command of a console block with the line it ends with, if any: (code, words, line)."""
    for code, (_, text) in sections().items():
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for part in re.split(r"^\$ fedfer ", block, flags=re.MULTILINE)[1:]:
                words, _, line = part.partition("\n")
                yield code, shlex.split(words), line.strip()


def test_mistakes_read_as_documented(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ran = set()
    for code, words, line in shown():
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, *(["engine.workers=1"] if words[0] == "simulate" else [])])
        told = capsys.readouterr().err.strip()
        assert told == line, words
        assert ended.value.code == (code if line else 0)
        ran.add(code)
    assert ran == {2, 3, 4, 5, 6, 7, 9}
    assert {path.name for path in tmp_path.iterdir()} == {"diverged", "mine"}
