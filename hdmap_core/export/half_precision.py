"""Matrix products of an ONNX graph in fp16, as autocast computes them; all else, geometry above all, stays in fp32."""

from typing import Any

_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}


def in_half_precision(network: Any) -> Any:
    """The graph with casts around its products, and their weights stored in fp16.

    Args:
        network: an `onnx.ModelProto` in fp32; it is changed in place.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

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
            content = numpy_helper.to_array(weights[name]).astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(content, half))
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
    return network
