"""The command ``fedfer predict``."""

from __future__ import annotations

USAGE = "Write: fedfer predict RUN PICTURE [FOLDER FILM 0 ...]."


def run(words: list[str]) -> int:
    """Tell the expressions in what the words name; see :func:`simulations.predicting.command.predict`."""
    from simulations.predicting.asked import asked
    from simulations.predicting.command import predict

    return predict(asked(words))
