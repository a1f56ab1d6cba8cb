"""Runs exported graphs on one thread or more: ONNX Runtime, or OpenVINO where it is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_models.edge.graphs import LOGITS, PICTURES
from fer_models.errors import EngineError, ModelError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Normalised pictures (N, C, H, W) to logits (N, classes)."""


def session(graph: bytes, threads: int = 1, batch: int | None = None) -> Run:
    """Return an ONNX graph, ready to run in ONNX Runtime on the processor.

    Parameters
    ----------
    batch : how many pictures every call gives; None for any number. With a number, memory is bound once: for small nets
        at batch 1 a call takes up to a third less.

    Raises
    ------
    ModelError : the bytes are no graph that can be run.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        made = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of errors for every layer of it
        raise _no_graph(error) from error
    if batch is not None:
        return _bound(made, batch)
    wanted = [LOGITS]
    return lambda x: made.run(wanted, {PICTURES: x})[0]  # type: ignore[return-value]


def _bound(made: Any, batch: int) -> Run:
    given = np.zeros((batch, *made.get_inputs()[0].shape[1:]), np.float32)
    answer = np.zeros((batch, made.get_outputs()[0].shape[1]), np.float32)
    binding = made.io_binding()
    binding.bind_input(PICTURES, "cpu", 0, np.float32, given.shape, given.ctypes.data)
    binding.bind_output(LOGITS, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        _fill(given, x)
        made.run_with_iobinding(binding)
        return answer.copy()

    return run


def _fill(given: NDArray[np.float32], x: NDArray[np.float32]) -> None:
    """Copy pictures to where a graph reads them; another number of them would be spread over all."""
    if given.shape != x.shape:
        what = f"the graph is bound to pictures of {given.shape}, and these are of {x.shape}"
        raise ModelError(what, where="batch", cure="Give as many as batch says, or batch=None.")
    given[:] = x


def openvino() -> ModuleType:
    """Return OpenVINO.

    Raises
    ------
    EngineError : it is not installed.
    """
    os.environ.setdefault("OPENVINO_TELEMETRY", "0")
    try:
        import openvino as found
    except ImportError as error:
        cure = "Install it with: pip install 'fedfer[openvino]'; or use format=int8."
        raise EngineError("OpenVINO is not installed", where="format", cure=cure) from error
    return found


def openvino_session(path: Path, threads: int = 1, batch: int | None = None) -> Run:
    """Return OpenVINO's form of a graph, ready to run on the processor in float32 and eight bits, never in bfloat16.

    Parameters
    ----------
    path : the ``.xml`` file; the ``.bin`` file lies beside it.
    batch : how many pictures every call gives; None for any number, which is slower.

    Raises
    ------
    EngineError : OpenVINO is not installed.
    ModelError : the files are no graph that can be run.
    """
    ov = openvino()
    try:
        core = ov.Core()
        model = core.read_model(str(path))
        if batch is not None:
            shape = model.input(0).partial_shape
            shape[0] = batch
            model.reshape(shape)
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        made = core.compile_model(model, "CPU", {**hints, "INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise _no_graph(error) from error
    request = made.create_infer_request()
    if batch is not None:
        given, answer = request.get_input_tensor().data, request.get_output_tensor(0).data

        def run_bound(x: NDArray[np.float32]) -> NDArray[np.float32]:
            _fill(given, x)
            request.infer()
            return answer.copy()

        return run_bound

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        request.infer()
        return np.array(request.get_output_tensor(0).data)

    return run


def _no_graph(error: Exception) -> ModelError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ModelError(
        f"the graph cannot be run: {reason}",
        where="format",
        cure="Export the model again with this version of FedFER.",
    )


class GraphNet(nn.Module):
    """A graph in the place of a net, so that it is judged by the same code: pictures (B, C, H, W) to logits."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes)."""
        return torch.from_numpy(self._run(np.ascontiguousarray(x.cpu().numpy())))
