"""The errors of FedFER, each with what is wrong, where, and the cure.

::

    FedferError                 exit code 1
    ├── ConfigError             2   a setting or an option on the command line
    ├── DataError               3   a file, a column, a label or a picture
    ├── PartitionError          4   a request for sites that the samples cannot meet
    ├── ModelError              5   a model's name, its layers or its weights
    ├── PrivacyError            6   a guarantee that would not hold
    ├── TrainingError           7   a loss or an update that is not finite
    ├── EvaluationError         8   a model whose answer depends on its neighbours in the batch
    ├── RunFolderError          9   a run folder that is full, foreign or half written
    ├── EngineError             10  a missing extra, or a worker that died
    ├── AuditError              11  an audit that found more to leak than is claimed
    ├── SecureAggregationError  12  a message of secure aggregation that was refused, or a session that ended
    ├── ToleranceError          13  an audit of fairness that found a limit broken
    ├── EvidenceError           14  an audit of fairness with too few pictures to decide on a limit
    ├── SignatureError          15  a signed audit or an audit log that is not what was written
    ├── IdentityError           16  a key, a certificate or an enrolment
    ├── PolicyError             17  a plan that a site's policy refuses
    └── InstallationError       19  a machine or an installation that has to be put right first

The command line prints one line, ``error: WHAT (WHERE). CURE``, and ends with the exit code.
Anything that is not in this tree is a defect of FedFER and shows its traceback.
"""

from __future__ import annotations


class FedferError(Exception):
    """What went wrong, where, and the cure.

    Parameters
    ----------
    what : one clause that says what is wrong, without a full stop.
    where : a file with line, a configuration key, a site; empty when ``what`` says it.
    cure : a whole sentence that says what to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        self.what, self.where, self.cure = what, where, cure
        super().__init__(what, where, cure)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        cure = f" {self.cure}" if self.cure else ""
        return " ".join(f"{self.what}{place}.{cure}".split())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.cure)


def _rebuild(kind: type[FedferError], what: str, where: str, cure: str) -> FedferError:
    return kind(what, where=where, cure=cure)


class ConfigError(FedferError):
    """A setting or an option on the command line."""

    exit_code = 2


class DataError(FedferError):
    """A file, a column, a label or a picture that cannot be read as asked."""

    exit_code = 3


class PartitionError(FedferError):
    """A request for sites that the samples cannot meet."""

    exit_code = 4


class ModelError(FedferError):
    """A model's name, its layers or its weights."""

    exit_code = 5


class PrivacyError(FedferError):
    """A privacy guarantee that would not hold."""

    exit_code = 6


class TrainingError(FedferError):
    """A loss or an update that is not finite."""

    exit_code = 7


class EvaluationError(FedferError):
    """A model whose answer for one picture depends on the other pictures of the batch."""

    exit_code = 8


class RunFolderError(FedferError):
    """A run folder that is full, foreign or half written."""

    exit_code = 9


class EngineError(FedferError):
    """A missing extra, or a worker that died."""

    exit_code = 10


class AuditError(FedferError):
    """An audit that found more to leak than is claimed."""

    exit_code = 11


class ToleranceError(FedferError):
    """An audit of fairness that found a limit of the tolerance file broken."""

    exit_code = 13


class EvidenceError(FedferError):
    """An audit of fairness that has too few pictures to decide on a limit, and found none broken."""

    exit_code = 14


class SignatureError(FedferError):
    """A signed audit, or an audit log, that is not what was written, or not signed with the key that is trusted."""

    exit_code = 15


class IdentityError(FedferError):
    """A key, a certificate or an enrolment that is missing, foreign, expired, revoked or open to others."""

    exit_code = 16


class PolicyError(FedferError):
    """A plan that a site's policy refuses; ``where`` names the site and the rule."""

    exit_code = 17


class VersionError(FedferError):
    """A site and a coordinator whose versions of FedFER do not speak with each other."""

    exit_code = 18


class InstallationError(FedferError):
    """A machine or an installation that has to be put right first, as ``fedfer doctor`` found."""

    exit_code = 19


class SecureAggregationError(FedferError):
    """A message of secure aggregation that was refused, or a session that ended without a sum.

    Parameters
    ----------
    code : the kind of fault, such as ``bad_signature``; :mod:`client.secagg.refusals` lists them.
    culprit : the id of the site at fault, None where no site is or it is not known.
    """

    exit_code = 12

    def __init__(
        self, what: str, *, code: str = "refused", culprit: int | None = None, where: str = "", cure: str = ""
    ) -> None:
        self.code, self.culprit = code, culprit
        super().__init__(what, where=where, cure=cure)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_refusal, (self.what, self.code, self.culprit, self.where, self.cure)


def _rebuild_refusal(
    what: str, code: str, culprit: int | None, where: str, cure: str
) -> SecureAggregationError:
    return SecureAggregationError(what, code=code, culprit=culprit, where=where, cure=cure)
