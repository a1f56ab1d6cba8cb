"""Everything that runs inside a site; never imports the server's code."""

import os

# Flower reads these when it is first imported: no telemetry, no look for updates, no installation at run time.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}.items():
    os.environ.setdefault(_name, _value)
