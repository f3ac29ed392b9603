"""What an int8 graph of the ground's pixels does at its two ends, done in fewer passes; the same sums.

The exporter writes the network down as PyTorch computes it: pixels to float, unshuffled by a transpose of six axes,
then quantised; masks shuffled back from the channels of the last convolution. ONNX Runtime takes an eighth of its time
for that (docs/results/student_path.md).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_FRONT = ("DequantizeLinear", "QuantizeLinear", "Concat", "Reshape", "Transpose", "Reshape", "Sub", "Div", "Cast")
_PIXEL_UNSHUFFLE = [0, 1, 3, 5, 2, 4]
_STEP, _ZERO = 1 / 127.5, 128  # of a byte that is read as a pixel: (byte - 127.5) / 127.5, but for half a step
_LANES = 4  # of int8 that a CPU multiplies and adds at once; other numbers of channels are computed another way


def take_bytes(graph: Any) -> None:
    """The first convolution reads the pixels as the bytes that they are, and the places of the cells as such bytes.

    Zeros around the picture are then worth half a step of a byte more; everywhere else the bias takes it off.

    Args:
        graph: quantised; left as it is where it does not begin as `GroundPixels` does.
    """
    from onnx import helper

    constants, producers = _known(graph)
    fronts = {node.name: _chain(node.input[0], _FRONT, producers) for node in graph.node if node.op_type == "Conv"}
    found = next((name for name, front in fronts.items() if front), None)
    if found is None or list(fronts[found][4].attribute[0].ints) != _PIXEL_UNSHUFFLE:
        return
    dequantise, _, concat, _, _, reshape, _, _, cast = fronts[found]
    convolution = next(node for node in graph.node if node.name == found)
    weight, *biases = (producers[name] for name in convolution.input[1:])
    values, scales = (constants[name] for name in weight.input[:2])
    _, channels, _, block, _, _ = constants[reshape.input[1]].tolist()
    pixels = channels * block**2
    in_blocks = np.arange(pixels).reshape(channels, block**2).T.reshape(-1)  # the order of SpaceToDepth's channels
    expand = producers.get(concat.input[1])
    place = np.rint(constants[expand.input[0] if expand else concat.input[1]] / _STEP) + _ZERO
    fill = ((0, 0), (0, -values.shape[1] % _LANES), (0, 0), (0, 0))
    offset = _STEP / 2 * scales.astype(np.float64) * values[:, :pixels].sum(axis=(1, 2, 3))
    for bias in biases:
        offset += constants[bias.input[0]] * constants[bias.input[1]].astype(np.float64)
    bytes_ = f"{found}_bytes"
    weight.input[0] = _add(
        graph, f"{bytes_}_weight", np.pad(np.concatenate([values[:, in_blocks], values[:, pixels:]], axis=1), fill)
    )
    step = (_STEP * scales).astype(np.float32)
    summands = [
        _add(graph, f"{bytes_}_bias", np.rint(offset / step).astype(np.int32)), _add(graph, f"{bytes_}_bias_step", step)
    ]  # fmt: skip
    graph.node.insert(0, helper.make_node("DequantizeLinear", summands, [f"{bytes_}_offset"], axis=0))
    convolution.input[:] = [*convolution.input[:2], f"{bytes_}_offset"]
    dequantise.input[:] = [
        bytes_, _add(graph, f"{bytes_}_step", np.float32(_STEP)), _add(graph, f"{bytes_}_zero", np.uint8(_ZERO))
    ]  # fmt: skip
    places = np.pad(np.clip(place, 0, 255).astype(np.uint8), fill, constant_values=_ZERO)
    inputs = [f"{bytes_}_in_blocks", _add(graph, f"{bytes_}_places", places)]
    graph.node.insert(0, helper.make_node("SpaceToDepth", [cast.input[0]], inputs[:1], inputs[0], blocksize=block))
    graph.node.insert(1, helper.make_node("Concat", inputs, [bytes_], bytes_, axis=1))
    _remove_unread(graph)


def shuffle_by_convolution(graph: Any) -> None:
    """A convolution by 1 x 1 whose channels are shuffled to pixels becomes one transposed convolution.

    Args:
        graph: any; left as it is where its outputs are made otherwise.
    """
    constants, producers = _known(graph)
    ends = [(output, *_chain(output.name, ("DepthToSpace", "Conv"), producers)) for output in graph.output]
    for output, shuffle, convolution in (end for end in ends if len(end) == 3):
        if constants[convolution.input[1]].shape[2:] == (1, 1):
            _shuffle(graph, output, shuffle, convolution, constants)
    _remove_unread(graph)


def _shuffle(graph: Any, output: Any, shuffle: Any, convolution: Any, constants: dict[str, np.ndarray]) -> None:
    from onnx import helper

    block = next(each.i for each in shuffle.attribute if each.name == "blocksize")
    weight, *biases = (constants[name] for name in convolution.input[1:])
    bias = sum(biases, np.zeros(len(weight), np.float32))
    _, classes, height, width = (each.dim_value for each in output.type.tensor_type.shape.dim)
    name = f"{convolution.name}_shuffled"
    kernels = weight.reshape(classes, block, block, -1).transpose(3, 0, 1, 2)
    cells = _add(graph, f"{name}_cells", np.array([1, height // block, 1, width // block, 1]))
    tiles = [_add(graph, f"{name}_bias", bias.reshape(classes, 1, block, 1, block)), cells]
    shape = _add(graph, f"{name}_shape", np.array([1, classes, height, width]))
    sides: dict[str, Any] = {"kernel_shape": [block, block], "strides": [block, block]}
    inputs = [convolution.input[0], _add(graph, f"{name}_weight", kernels)]
    for node in (shuffle, convolution):
        graph.node.remove(node)
    graph.node.extend(
        [
            helper.make_node("ConvTranspose", inputs, [f"{name}_sum"], f"{name}_sum", **sides),
            helper.make_node("Tile", tiles, [f"{name}_tiles"], f"{name}_tiles"),
            helper.make_node("Reshape", [f"{name}_tiles", shape], [f"{name}_offset"], f"{name}_offset"),
            helper.make_node("Add", [f"{name}_sum", f"{name}_offset"], [output.name], name),
        ]
    )


def _known(graph: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from onnx import numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    return constants, {name: node for node in graph.node for name in node.output}


def _chain(name: str, kinds: Sequence[str], producers: dict[str, Any]) -> list[Any]:
    """The nodes of these kinds from a tensor backwards, each by its first input; none unless all are there."""
    nodes: list[Any] = []
    for kind in kinds:
        node = producers.get(name)
        if node is None or node.op_type != kind:
            return []
        nodes.append(node)
        name = node.input[0]
    return nodes


def _add(graph: Any, name: str, value: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
    return name


def _remove_unread(graph: Any) -> None:
    """Nodes whose outputs, and constants that, nobody reads."""
    while True:
        read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
        for node in (idle := [node for node in graph.node if read.isdisjoint(node.output)]):
            graph.node.remove(node)
        if not idle:
            break
    for each in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(each)
