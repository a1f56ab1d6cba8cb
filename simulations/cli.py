"""The command ``fedfer``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from fer_models.errors import ConfigError, FedferError, RunFolderError

HELP = """\
fedfer: federated, private, fair training of facial expression recognition

usage: fedfer COMMAND [KEY=VALUE ...] [--run-dir DIR]

commands
  compare        pooled, local-only and federated models on one split, and a report;
                 with fairness=A,B seed=0,1 a table of methods of fair training
  simulate       the federated run alone
  baseline       the pooled and the local-only models alone
  data check     what a data set holds: counts, copies, people, parity of the labels
  data template DIR   write a folder to fill with your own pictures: a table, and what its columns mean
  data validate DIR   say everything that is wrong with such a table, line by line
  data prepare IN OUT  find, turn upright and crop faces, with their table; every picture without one is told
  data list      the data sets that are known, with their groups and terms
  data card NAME   all about one: size, groups and who told them, terms, whom to ask, what may be published
  data recommend   which sets serve a goal: data recommend goal=fairness
  data deal      deal a data set out to folders, one a site, with the plan: to rehearse a deployment; --run-dir DIR
  audit          judge a saved model: audit model=RUN data=NAME data.root=DIR;
                 or any system's predictions: audit predictions=FILE.csv --json FILE;
                 or what the sites of a run counted: audit run=RUN;
                 --out DIR writes a folder: the record, a csv of every figure, a page;
                 --sign FILE signs it;
                 explain=true adds where a model looks;
                 compare=[A,B] tells what B does better and worse than A, for whom
  audit key FILE a key to sign audits with
  audit verify DIR  check a signed audit: key=PUBLIC model=RUN
  export RUN     a model for a box without a GPU: export RUN format=int8 --out DIR; onnx, int8 or openvino
  predict MODEL INPUT  expressions in pictures, folders, films and from cameras (0): --out FILE --annotate DIR
  audit-privacy  how much a training leaks, at least: canaries, or model=RUN for a finished run
  curves RUN ... accuracy against rounds, visits and bytes of some runs
  faces          a contact sheet of drawn faces: faces sheet=FILE.png
  models         the nets that can be trained, counted and measured: models NAME size=96 speed=false --json FILE
  losses         what a site may minimise, and whether privacy lets it: losses NAME --json FILE
  fairness       methods of fair training, what each needs, reveals and costs: fairness NAME --json FILE
  site init DIR  make a site: keys, a careful policy, a mapping of its data: --data FOLDER --name NAME
  site check DIR  read a site's data, try a step, say what a plan would disclose and cost: site check DIR PLAN.json
  site enrol DIR  write a site's request for the coordinator, with the fingerprint to compare
  site join DIR STUDY  take the coordinator's study.json: --fingerprint F the first time
  site run DIR   run a site: its agent and its node, both started again when they end; --log-json
  site status DIR  how a site is doing: --json
  site stop DIR  end a site
  site log DIR   what was asked of a site, every entry held against its hash: --head NUMBER:HASH --log-json
  site ledger    what a site has released, and what it cost: site ledger FILE|RUN|DIR --site NAME --check --json
  server init DIR  found a coordinator: server init DIR hosts=NAME,ADDRESS makes certificates and an empty list of sites
  server approve DIR REQUEST  let a site in, by the fingerprint that it reads out
  server revoke DIR SITE  put a site out for good
  server sites DIR  who takes part, and whether keys and certificates are good
  server renew DIR  make the server's certificate anew
  server start DIR  run the coordinator until it is stopped: gate, SuperLink, SuperExec: --log-json
  server statistics DIR PLAN  what the sites train on, by class and group, before a run
  server run DIR PLAN  run a plan, or experiment=NAME KEY=VALUE, over the connected sites; the same words go on with it
  server status DIR  which processes run, which sites are connected
  server stop DIR  end them
  server log DIR  who was let in and put out, every entry held against its hash: --head NUMBER:HASH --log-json
  server verify-round RUN  replay rounds of secure aggregation from their transcripts: --session N --roster FILE --json
  tune-private   levers of private training, chosen on drawn faces: tune-private target_epsilon=8 sites=10 pictures=2000
  doctor         whether machine and installation can do the work, and what to do: doctor --json FILE
  bench NAME     benchmarks: rounds, private-step, private-frontier, secagg, faces, audit, edge, readers, fer2013, zoo,
                 deploy, scaling

examples
  fedfer compare experiment=quickstart
  fedfer compare experiment=fer2013 data.root=DIR
  fedfer compare experiment=private data=imagefolder data.root=DIR partition.sites=4
  fedfer compare experiment=quickstart fairness=none,logit_adjustment seed=0,1,2,3,4
  fedfer compare experiment=study
  fedfer simulate experiment=quickstart privacy.target_epsilon=1,3,8 --multirun

options
  --run-dir DIR  where the run goes; the same command on the same folder resumes a run that was killed
  --cfg job      print the composed configuration and stop
  --multirun     run every combination of values given with commas
  --help         this text

Settings are explained in docs/reference.md; exit codes in docs/exit-codes.md.
"""


INTERRUPTED = "interrupted: the same command with --run-dir goes on from the last checkpoint"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit code; a user's mistake is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_command(words))
    except FedferError as error:
        _fail(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail(INTERRUPTED, 130)
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # how an interrupt in the midst of an import ends
            _fail(INTERRUPTED, 130)
        if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = RunFolderError(
            "the disk is full", where=error.filename or "", cure="Free disk space and run again."
        )
        _fail(f"error: {full}", full.exit_code)


def _fail(line: str, code: int) -> NoReturn:
    sys.stderr.write(line + "\n")
    sys.exit(code)


def _command(words: list[str]) -> int:
    if not words or words[0] == "help" or {"--help", "-h"} & set(words):
        sys.stdout.write(HELP)
        return 0
    if words[0] == "site":  # which needs nothing of the other rooms
        from client.cli import site

        return site(words[1:])
    if words[0] == "server":
        from server.cli import server
        from simulations.planning import planned

        return server(words[1:], planned)
    from simulations import commands, export, predict

    table: dict[str, Callable[[list[str]], int]] = {
        "compare": commands.compare,
        "simulate": commands.simulate,
        "baseline": commands.baseline,
        "data": commands.data,
        "audit": commands.audit,
        "audit-privacy": commands.audit_privacy,
        "curves": commands.curves,
        "faces": commands.faces,
        "models": commands.models,
        "export": export.run,
        "predict": predict.run,
        "losses": commands.losses,
        "fairness": commands.fairness,
        "tune-private": commands.tune_private,
        "doctor": commands.doctor,
        "bench": commands.bench,
    }
    if words[0] not in table:
        from client.strict import nearest

        raise ConfigError(
            f"unknown command {words[0]!r}",
            where="command line",
            cure=nearest(words[0], [*table, "site", "server"]),
        )
    return table[words[0]](with_run_dir(words[1:]))


def with_run_dir(words: list[str]) -> list[str]:
    """Turn ``--run-dir DIR`` into Hydra's ``hydra.run.dir=DIR``, or ``hydra.sweep.dir=DIR`` with ``--multirun``."""
    from simulations.commands import MULTIRUN
    from simulations.compose import folder_override

    key = "hydra.sweep.dir" if set(MULTIRUN) & set(words) else "hydra.run.dir"
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != "--run-dir":
            found.append(word)
            continue
        value = value if equals else next(rest, "")
        if not value:
            raise ConfigError("--run-dir without a folder", where="command line", cure="Write --run-dir DIR.")
        found.append(folder_override(key, value))
    return found


if __name__ == "__main__":
    main()
