"""Faces in scenes: found, turned upright, cropped; and what no face can be found in."""

import cv2
import numpy as np
import pytest

from fer_models.edge.faces import Face, FaceFinder, cropped
from fer_models.errors import ConfigError, ModelError
from simulations.faces import FacesConfig, draw


@pytest.fixture(scope="module")
def face():
    """A drawn face without difficulties, 128 pixels."""
    plain = FacesConfig(count=1, size=128, channels=3, pose=0, light=0, occlusion=0, noise=0)
    return draw(plain, 0).pictures[0]


def scene(face, *places, size=(320, 480)):
    picture = np.full((*size, 3), np.median(face[:6].reshape(-1, 3), 0).astype(np.uint8), np.uint8)
    for top, left in places:
        picture[top : top + len(face), left : left + len(face)] = face
    return picture


def overlap(face, top, left, side):
    x = min(face.box[2], left + side) - max(face.box[0], left)
    y = min(face.box[3], top + side) - max(face.box[1], top)
    return max(x, 0) * max(y, 0) / (face.area + side**2 - max(x, 0) * max(y, 0))


def test_a_face_is_found_where_it_is(face):
    found = FaceFinder()(scene(face, (100, 200)))
    assert len(found) == 1
    assert overlap(found[0], 100, 200, 128) > 0.4


def test_several_faces_are_found_the_largest_first(face):
    small = cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA)
    picture = scene(face, (20, 20))
    picture[180:276, 300:396] = small
    found = FaceFinder()(picture)
    assert [overlap(found[0], 20, 20, 128) > 0.4, overlap(found[1], 180, 300, 96) > 0.4] == [True, True]
    assert found[0].area > found[1].area


def test_a_large_picture_gives_boxes_in_its_own_pixels(face):
    large = cv2.resize(scene(face, (100, 200)), None, fx=5, fy=5)
    found = FaceFinder()(large)
    assert overlap(found[0], 500, 1000, 640) > 0.4


def test_no_face_is_found_in_nothing():
    assert FaceFinder()(np.full((200, 200), 90, np.uint8)) == []


def test_the_whole_picture_is_one_face():
    assert FaceFinder("whole")(np.zeros((40, 60), np.uint8)) == [Face((0, 0, 60, 40))]


def test_eyes_are_made_level(face):
    """Of a face that is turned about its middle, the crop is that of the upright one."""
    centre = (200.0, 160.0)
    picture = scene(face, (96, 136), size=(320, 400))
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre, 15, 1), (400, 320), borderMode=1)
    eyes = ((180.0, 165.36), (220.0, 154.64))  # level before a turn of 15 degrees
    box = (136.0, 96.0, 264.0, 224.0)
    upright, straight = cropped(picture, Face(box), 48, 1), cropped(turned, Face(box, eyes), 48, 1)
    crooked = cropped(turned, Face(box), 48, 1)

    def apart(a, b):
        return np.abs(a.astype(int) - b.astype(int)).mean()

    assert apart(upright, straight) < 3 < apart(upright, crooked)


def test_a_crop_has_the_asked_form_even_at_an_edge(face):
    for channels, form in ((1, (64, 64)), (3, (64, 64, 3))):
        assert cropped(face, Face((-20, -20, 60, 60)), 64, channels).shape == form
        assert cropped(face[:, :, 0], Face((100, 100, 140, 170)), 64, channels, 0.25).shape == form
    assert np.array_equal(cropped(face, Face((0, 0, 128, 128)), 128, 3), face)


def like_yunet(path):
    """Write a graph with YuNet's outputs: a face of 64 pixels, its eyes turned, wherever a cell of 32 is white."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, kept, outputs = [], [], []

    def output(kind, stride, wide, weight, bias):
        name = f"{kind}_{stride}"
        values = {
            "w": np.full((wide, 3, stride, stride), weight, np.float32),
            "b": np.array(bias, np.float32),
            "s": np.array([1, -1, wide], np.int64),
        }
        kept.extend(numpy_helper.from_array(value, f"{name}{key}") for key, value in values.items())
        nodes.append(
            helper.make_node(
                "Conv", ["input", f"{name}w", f"{name}b"], [f"{name}c"], strides=[stride, stride]
            )
        )
        nodes.append(helper.make_node("Transpose", [f"{name}c"], [f"{name}t"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Reshape", [f"{name}t", f"{name}s"], [name]))
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, (320 // stride) ** 2, wide])
        )

    points = [0.9, 0.1, 0.1, 0.3, 0.5, 0.5, 0.2, 0.8, 0.8, 0.8]  # right eye first, as YuNet has them
    for kind, wide, bias in (
        ("cls", 1, [0]),
        ("obj", 1, [0]),
        ("bbox", 4, [0.5, 0.5, *2 * [np.log(2)]]),
        ("kps", 10, points),
    ):
        for stride in (8, 16, 32):
            seen = kind in ("cls", "obj") and stride == 32
            output(kind, stride, wide, 1 / (3 * 32 * 32 * 255) if seen else 0, bias)
    shown = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])]
    graph = helper.make_graph(nodes, "like", shown, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_what_yunet_says_becomes_faces_with_level_eyes(tmp_path):
    """Its weights are not here: a graph with its outputs stands in, so that only what it would see is made up."""
    like_yunet(tmp_path / "yunet.onnx")
    picture = np.zeros((320, 320, 3), np.uint8)
    picture[96:128, 160:192] = 255
    (found,) = FaceFinder("yunet", tmp_path / "yunet.onnx")(picture)
    assert found.box == pytest.approx((144, 80, 208, 144), abs=1)
    assert found.eyes is not None
    assert np.allclose(found.eyes, [(163.2, 105.6), (188.8, 99.2)], atol=1)
    assert found.angle == pytest.approx(np.arctan2(-6.4, 25.6), abs=0.02)
    assert FaceFinder("yunet", tmp_path / "yunet.onnx")(np.zeros((320, 320), np.uint8)) == []


def test_a_graph_of_another_kind_is_no_model_of_yunet(tmp_path):
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 320, 320]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"no model of YuNet"):
        FaceFinder("yunet", tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"no such file"):
        FaceFinder("yunet", tmp_path / "none.onnx")


def test_finders_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="unknown way"):
        FaceFinder("mtcnn")
    with pytest.raises(ConfigError, match="go together"):
        FaceFinder("yunet")
    with pytest.raises(ConfigError, match="go together"):
        FaceFinder("haar", tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"no model of YuNet"):
        FaceFinder("yunet", tmp_path / "model.onnx")
