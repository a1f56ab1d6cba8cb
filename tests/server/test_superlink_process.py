"""What the SuperLink's process leaves out, and that it leaves nothing else out."""

import asyncio
from importlib import import_module

import pytest
from starlette.responses import Response

from fer_models.errors import EngineError
from server import superlink_process
from server.superlink_process import AUTHENTICATION, BETWEEN, DEATHS, LAYERS, STATE, SUMS, lighten


def found(module, name):
    return getattr(import_module(module), name)


@pytest.fixture
def light(monkeypatch):
    """Flower's classes as the process has them; afterwards they are as they were."""
    layers = [found(module, name) for module, names in LAYERS.items() for name in names]
    state = found(*STATE)
    for target, names in [(each, ["__call__"]) for each in (*layers, found(*AUTHENTICATION))] + [
        (state, [*SUMS, DEATHS])
    ]:
        for name in names:
            monkeypatch.setattr(target, name, getattr(target, name))
    lighten()
    return layers, state


def passed(layer, path):
    """What a request for a path goes through of a layer and what lies within it."""
    seen = []

    async def inner(scope, receive, send):
        seen.append("inner")
        await Response()(scope, receive, send)

    async def looked(request, call_next):
        seen.append("layer")
        return await call_next(request)

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(_):
        pass

    made = layer(inner)
    made.dispatch_func = looked
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    asyncio.run(made(scope, receive, send))
    return seen


def test_requests_of_sites_and_rounds_pass_by_what_is_for_others(light):
    layers, _ = light
    for layer in layers:
        assert passed(layer, "/v1/fleet/pull-messages") == ["inner"]
        assert passed(layer, "/v1/runtime/push-messages") == ["inner"]
        assert passed(layer, "/v1/control/start-run") == ["layer", "inner"]


def test_who_a_site_is_is_still_looked_at(light):
    layer = found(*AUTHENTICATION)
    assert passed(layer, "/v1/fleet/pull-messages") == ["layer", "inner"]
    assert passed(layer, "/v1/runtime/push-messages") == ["inner"]


def test_the_dead_are_looked_for_once_in_a_while(light, monkeypatch):
    _, state = light
    now, looked = [100.0], []
    monkeypatch.setattr(superlink_process.time, "monotonic", lambda: now[0])
    seldom = superlink_process._seldom(looked.append)
    for step in (0.0, BETWEEN / 2, BETWEEN / 2):
        now[0] += step
        seldom("state")
    assert looked == ["state", "state"]
    assert state.store_traffic(None, 1, bytes_sent=1, bytes_recv=1) is None


def test_another_flower_is_told_in_a_line(light, monkeypatch):
    monkeypatch.delattr(light[1], DEATHS)
    monkeypatch.setattr(superlink_process, "SUMS", ("gone",))
    with pytest.raises(EngineError, match="is not the version that the server runs") as error:
        lighten()
    assert error.value.cure == "Install flwr 1.41."
