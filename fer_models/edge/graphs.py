"""ONNX graphs of nets: exported, held against the net itself, and quantised to eight bits.

The graph takes normalised pictures (N, channels, size, size), float32, named ``pictures``, and gives ``logits``
(N, classes). N is free. Labels, normalisation and size are written into the graph's metadata.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_models.errors import ModelError

PICTURES, LOGITS = "pictures", "logits"
"""Names of a graph's input and output."""

TOLERANCE = 1e-4
"""Largest difference between a graph's logits and the net's, as a share of the spread of the logits."""

CALIBRATION_BATCH = 32
"""Pictures a pass while ranges of activations are observed."""

QUANTISED = ("Conv", "Gemm", "MatMul", "Relu", "Clip", "Sigmoid", "Mul", "Add", "MaxPool", "AveragePool")
QUANTISED += ("GlobalAveragePool", "Flatten")
"""Operations between eight-bit numbers; whatever else a net has stays float32, as fixed features do."""

Numbers = NDArray[np.float32]


def exported(net: nn.Module, channels: int, size: int, metadata: Mapping[str, str]) -> bytes:
    """Return the ONNX graph of a net in evaluation mode.

    Raises
    ------
    ModelError : the net has operations that ONNX does not know.
    """
    # torch.export makes devices known for which autograd, at its first backward, would start threads: and processes
    # that are forked after that could not train. After a backward it does not.
    torch.zeros(1, requires_grad=True).sum().backward()
    example = torch.zeros(2, channels, size, size)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                net.eval(),
                (example,),
                input_names=[PICTURES],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"the net cannot be exported to ONNX: {reason}",
            where="format",
            cure="Export another net; those of fedfer models work.",
        ) from error
    assert program is not None
    proto = program.model_proto
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' remarks off the screen: they are about their own ways, not about the user's model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def difference(first: Numbers, second: Numbers) -> tuple[float, float]:
    """Return the largest difference of two sets of logits (N, C), and the same as a share of the first's spread."""
    most = float(np.abs(first - second).max(initial=0))
    spread = float(np.abs(first - first.mean(1, keepdims=True)).max(initial=0))
    return most, most / max(spread, float(np.finfo(np.float32).tiny))


def require_same_answers(
    net: nn.Module, run: Callable[[Numbers], Numbers], x: torch.Tensor, tolerance: float = TOLERANCE
) -> float:
    """Return the largest difference between a graph's logits and the net's on the same pictures.

    Parameters
    ----------
    run : the graph, as :func:`fer_models.edge.runtime.session` gives it.
    x : normalised pictures (N, C, H, W).
    tolerance : as a share of the spread of the net's logits.

    Raises
    ------
    ModelError : it is larger than the tolerance, or not a number.
    """
    with torch.inference_mode():
        own = net.eval()(x).numpy()
    given = run(np.ascontiguousarray(x.numpy()))
    most, share = difference(own, given)
    if not share <= tolerance:
        raise ModelError(
            f"the exported graph's logits differ from the net's by {most:.2g}, {share:.2g} of their spread, and "
            f"{tolerance:g} is allowed",
            where="format",
            cure="Export another net, or report this one: its operations mean something else in ONNX.",
        )
    return most


def quantised(graph: bytes, x: Numbers) -> bytes:
    """Return a graph with eight-bit weights, per channel, and activations, whose ranges are observed on pictures.

    Static quantisation of ONNX Runtime in its QDQ form: weights int8 and symmetric per output channel, activations
    uint8 from the least to the largest number seen. A mean over all places becomes a pool, which works on eight bits
    where the maps lie; a mean would take them to float32 and to another layout.

    Parameters
    ----------
    x : normalised pictures (N, C, H, W) that ranges are observed on.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    parsed = onnx.load_from_string(graph)
    with quiet(), tempfile.TemporaryDirectory(prefix="fedfer-int8-") as folder:
        plain, ready, done = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "done"))
        plain.write_bytes(graph)
        quant_pre_process(str(plain), str(ready))
        plainer = _with_pools(onnx.load(str(ready)))
        onnx.save(plainer, str(ready))
        kinds = {node.op_type for node in plainer.graph.node}
        # Without a convolution what precedes the linear layer is fixed features: no range of eight bits holds them.
        chosen = [kind for kind in QUANTISED if kind in kinds] if "Conv" in kinds else ["Gemm", "MatMul"]
        quantize_static(
            str(ready),
            str(done),
            _reader(x),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=chosen,
        )
        small = onnx.load(str(done))
    kept = {each.key: each.value for each in parsed.metadata_props}
    return _with_metadata(small, kept)


def _with_pools(proto: Any) -> Any:
    """Write every mean over the last two of four dimensions as a global pool."""
    from onnx import helper, numpy_helper

    graph = proto.graph
    constants = {each.name: each for each in graph.initializer}
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in graph.value_info}
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = numpy_helper.to_array(constants[node.input[1]]).ravel() % 4
        if sorted(axes.tolist()) != [2, 3] or ranks.get(node.input[0]) != 4:
            continue
        given, name = node.input[0], node.output[0]
        keeps = next((each.i for each in node.attribute if each.name == "keepdims"), 1)
        pooled = name if keeps else f"{name}.pool"
        made = [helper.make_node("GlobalAveragePool", [given], [pooled])]
        made += [] if keeps else [helper.make_node("Flatten", [pooled], [name], axis=1)]
        del graph.node[place]
        for each in reversed(made):
            graph.node.insert(place, each)
    used = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(each)
    return proto


def _with_metadata(proto: Any, kept: Mapping[str, str]) -> bytes:
    del proto.metadata_props[:]
    for key, value in kept.items():
        proto.metadata_props.add(key=key, value=value)
    for node in proto.graph.node:  # where in the exporter's Python each node came from: half of a small file
        del node.metadata_props[:]
        node.doc_string = ""
    return proto.SerializeToString()


def _reader(x: Numbers) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives the pictures, a batch at a time."""

        def __init__(self) -> None:
            self._starts = iter(range(0, len(x), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Numbers]:
            """Return the next batch; an empty mapping ends it."""
            start = next(self._starts, None)
            return {} if start is None else {PICTURES: x[start : start + CALIBRATION_BATCH]}

    return Reader()


def to_openvino(graph: bytes, names: Sequence[str], folder: Path) -> None:
    """Write an ONNX graph as OpenVINO's two files, the description and the weights.

    Parameters
    ----------
    names : of the two files, ``.xml`` and ``.bin``.

    Raises
    ------
    EngineError : OpenVINO is not installed.
    """
    from fer_models.edge.runtime import openvino

    ov = openvino()
    with quiet(), tempfile.TemporaryDirectory(prefix="fedfer-openvino-") as place:
        path = Path(place) / "model.onnx"
        path.write_bytes(graph)
        model = ov.convert_model(str(path))
        ov.save_model(model, str(Path(place) / "model.xml"), compress_to_fp16=False)
        for name in names:
            (folder / name).write_bytes((Path(place) / f"model{Path(name).suffix}").read_bytes())
