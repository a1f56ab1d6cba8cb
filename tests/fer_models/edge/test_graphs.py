"""Graphs of nets: the same answers in ONNX, nearly the same in eight bits, and folders that are refused."""

import hashlib
import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fer_models.edge import graphs
from fer_models.edge.files import FILES, EdgeConfig, digests_of, load_exported
from fer_models.edge.folding import folded
from fer_models.edge.runtime import GraphNet, openvino_session, session
from fer_models.errors import ModelError
from fer_models.zoo import ModelSpec, build

LABELS = ("anger", "fear", "happiness")
SPEC = ModelSpec("fer_nano", norm="ws", classes=3)


@pytest.fixture(scope="module")
def net():
    return folded(build(SPEC, 0))


@pytest.fixture(scope="module")
def x():
    return torch.randn(40, 1, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph(net):
    return graphs.exported(net, 1, 48, {"labels": json.dumps(LABELS)})


@pytest.fixture(scope="module")
def small(graph, x):
    return graphs.quantised(graph, x.numpy())


def answers(net, x):
    with torch.inference_mode():
        return net(x).numpy()


def test_a_graph_answers_as_its_net_does_at_every_batch_size(net, graph, x):
    assert graphs.require_same_answers(net, session(graph), x) < 1e-5
    run = session(graph)
    assert (
        np.abs(np.concatenate([run(x[i : i + 1].numpy()) for i in range(5)]) - answers(net, x[:5])).max()
        < 1e-5
    )


def test_another_net_s_graph_is_refused(graph, x):
    other = folded(build(SPEC, 1))
    with pytest.raises(ModelError, match="differ from the net's by"):
        graphs.require_same_answers(other, session(graph), x)


def test_eight_bits_are_a_quarter_in_size_and_answer_nearly_alike(net, graph, small, x):
    assert len(small) < 0.35 * len(graph)
    kinds = [node.op_type for node in onnx.load_from_string(small).graph.node]
    assert kinds[kinds.index("GlobalAveragePool") + 1] == "QuantizeLinear"  # a pool works on eight bits
    share = graphs.difference(answers(net, x), session(small)(x.numpy()))[1]
    assert 1e-6 < share < 0.1
    weights = {
        each.data_type for each in onnx.load_from_string(small).graph.initializer if len(each.dims) == 4
    }
    assert weights == {onnx.TensorProto.INT8}


@pytest.mark.parametrize(
    ("name", "settings", "pools"),
    [("fer_nano", {}, 1), ("fer_nano", {"attention": "cbam"}, 2), ("mini_xception", {}, 1)],
)
def test_a_mean_over_places_becomes_a_pool_with_the_same_answers(x, name, settings, pools):
    norm = "gn" if name == "mini_xception" else "ws"
    net = folded(build(ModelSpec(name, norm=norm, classes=3, **settings), 0))
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs.exported(net, 1, 48, {})))
    changed = graphs._with_pools(graph)
    kinds = [node.op_type for node in changed.graph.node]
    assert kinds.count("GlobalAveragePool") == pools
    onnx.checker.check_model(changed, full_check=True)
    assert graphs.require_same_answers(net, session(changed.SerializeToString()), x) < 1e-5


def test_labels_travel_with_the_graph(graph, small):
    for each in (graph, small):
        kept = {entry.key: entry.value for entry in onnx.load_from_string(each).metadata_props}
        assert json.loads(kept["labels"]) == list(LABELS)


def test_memory_that_is_bound_once_changes_no_answer(small, x):
    free, bound = session(small), session(small, batch=1)
    first = bound(x[:1].numpy())
    given = np.concatenate([bound(x[i : i + 1].numpy()) for i in range(8)])
    assert np.array_equal(given, np.concatenate([free(x[i : i + 1].numpy()) for i in range(8)]))
    assert np.array_equal(first, given[:1])  # an answer stays when the next one comes
    with pytest.raises(ModelError, match="bound to pictures of"):
        bound(x[:2].numpy())


def test_openvino_gives_what_onnx_gives(small, x, tmp_path):
    pytest.importorskip("openvino")
    graphs.to_openvino(small, FILES["openvino"], tmp_path)
    own = session(small)(x.numpy())
    free, single = (openvino_session(tmp_path / "model.xml", batch=batch) for batch in (None, 1))
    one = np.concatenate([single(x[i : i + 1].numpy()) for i in range(8)])
    for given, wanted in ((free(x.numpy()), own), (one, own[:8])):
        assert graphs.difference(wanted, given)[1] < 0.05
        assert (given.argmax(1) == wanted.argmax(1)).mean() > 0.9


def test_features_without_a_convolution_stay_in_float32(x):
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 3)).eval()
    small = graphs.quantised(graphs.exported(net, 1, 48, {}), x.numpy())
    nodes = onnx.load_from_string(small).graph.node
    before = next(node for node in nodes if node.op_type == "AveragePool")
    assert before.input[0] == graphs.PICTURES
    assert graphs.difference(answers(net, x), session(small)(x.numpy()))[1] < 0.05


def test_a_graph_takes_the_place_of_a_net(net, graph, x):
    assert torch.allclose(GraphNet(session(graph))(x[:4]), net(x[:4]), atol=1e-5)


# The folder


@pytest.fixture
def folder(tmp_path, graph):
    (tmp_path / "model.onnx").write_bytes(graph)
    write_config(tmp_path)
    return tmp_path


def write_config(folder, **changed):
    config = EdgeConfig("onnx", LABELS, 1, 48, 79_000, {}, {"sha256": "0"})
    facts = config.to_json(digests_of(folder, FILES["onnx"])) | changed
    (folder / "config.json").write_text(json.dumps(facts))


def test_an_exported_model_is_read_again(folder, net, x):
    run, config = load_exported(folder)
    assert config.labels == LABELS
    assert np.abs(run(x.numpy()) - answers(net, x)).max() < 1e-5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": ["anger", "fear"]}, "gives 3 logits and the configuration names 2 labels"),
        ({"labels": ["anger", "anger", "fear"]}, "labels, channels or size"),
        ({"channels": 3}, "takes no pictures of 48 pixels and 3 channels"),
        ({"size": 64}, "takes no pictures of 64 pixels"),
        ({"size": 10**9}, "labels, channels or size"),
        ({"kind": "int8"}, "files that are not of it"),
        ({"files": {"model.onnx": "0" * 64}}, "not the one that the configuration"),
        ({"files": {"../model.onnx": "0" * 64}}, "files that are not of it"),
        ({"format": "fedfer-edge-0"}, "not of the format fedfer-edge-1"),
        ({"normalisation": "x / 255"}, "another normalisation"),
        ({"more": 1}, "not of the format"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(folder, changed, said):
    write_config(folder, **changed)
    with pytest.raises(ModelError, match=said):
        load_exported(folder)


def test_damaged_files_are_refused(folder):
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="not the one that the configuration"):
        load_exported(folder)
    write_config(folder, files={"model.onnx": hashlib.sha256(b"no graph").hexdigest()})
    with pytest.raises(ModelError, match="the graph cannot be run"):
        load_exported(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_exported(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="holds no exported model"):
        load_exported(folder)
