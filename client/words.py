"""The words after a command: options with and without a value, and all others in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from client.strict import nearest
from fer_models.errors import ConfigError


@dataclass(frozen=True)
class Words:
    """What was written.

    Attributes
    ----------
    others : words that are no options.
    options : option -> its value; a flag's value is itself.
    """

    others: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    def one(self, needed: str, usage: str) -> str:
        """Return the only word that is no option.

        Parameters
        ----------
        needed : what is wrong where it is not one, such as "site enrol needs a folder".

        Raises
        ------
        ConfigError : there is none, or more than one.
        """
        if len(self.others) != 1:
            raise ConfigError(needed, where="command line", cure=usage)
        return self.others[0]


def read_words(
    words: Sequence[str], usage: str, *, valued: Sequence[str] = (), flags: Sequence[str] = ()
) -> Words:
    """Sort the words of a command line; a value follows its option, or stands after ``=``.

    Raises
    ------
    ConfigError : an unknown option, one without its value, or one that is there twice.
    """
    others: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            others.append(word)
            continue
        if name in options:
            raise ConfigError(f"{name} is there twice", where="command line", cure="Give it once.")
        if name in valued:
            options[name] = value if equals else next(rest, "")
            if not options[name]:
                raise ConfigError(f"{name} without a value", where="command line", cure=usage)
        elif word in flags:
            options[word] = word
        else:
            known = [*valued, *flags]
            cure = nearest(word, known) if known else usage
            raise ConfigError(f"unknown option {word!r}", where="command line", cure=cure)
    return Words(tuple(others), options)
