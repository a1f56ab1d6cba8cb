"""The Flower ServerApp: runs a coordinator over whatever grid it is given."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fer_models.errors import FedferError
from server.results import Result
from server.rounds import Coordinator


def make_app(coordinator: Coordinator, done: Callable[[Result | FedferError], None]) -> ServerApp:
    """Return a ServerApp that runs ``coordinator`` and hands its result, or its error, to ``done``."""
    app = ServerApp()

    @app.main()
    def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        try:
            done(coordinator.run(grid))
        except FedferError as error:  # Flower would turn it into a log line and lose its kind
            done(error)

    return app
