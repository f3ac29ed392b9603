"""Matrix products of an ONNX graph in fp16, as autocast computes them; all else, geometry above all, stays in fp32."""

import numpy as np

from hdmap_core.required_packages import missing_packages_named

_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}


def in_half_precision(content: bytes) -> bytes:
    """The graph with casts around its products, and their weights stored in fp16.

    Args:
        content: of an ONNX file in fp32.
    """
    with missing_packages_named():
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    network = onnx.load_from_string(content)
    graph = network.graph
    weights = {each.name: each for each in graph.initializer}
    halved: set[str] = set()
    nodes = []

    def halve(name: str) -> str:
        half = f"{name}_half"
        if half in halved:
            return half
        halved.add(half)
        if name in weights:
            values = numpy_helper.to_array(weights[name]).astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(values, half))
        else:
            nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
        return half

    for node in graph.node:
        if node.op_type in _PRODUCTS:
            node.input[:] = [halve(name) if name else name for name in node.input]
            found, product = node.output[0], f"{node.output[0]}_of_half"
            node.output[:] = [product]
            nodes += [node, helper.make_node("Cast", [product], [found], to=TensorProto.FLOAT)]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {each.name for each in graph.output}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]  # types of what lies between
    return bytes(network.SerializeToString())
