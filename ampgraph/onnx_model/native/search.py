"""Search: which parts of a model kernels of our own compute, each as one step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.affine import affine_step, numbers_step
from ampgraph.onnx_model.native.attention import attention_steps
from ampgraph.onnx_model.native.conv import conv_step, image_step, transposed_step
from ampgraph.onnx_model.native.excite import Excite, excite_at
from ampgraph.onnx_model.native.gated import gated_steps, split_gelu_step
from ampgraph.onnx_model.native.group_norm import group_norm_step, residual_step
from ampgraph.onnx_model.native.layer_norm import NORMS, gains, layer_norm_step, saves_a_launch
from ampgraph.onnx_model.native.linear import linear_step, products_alone
from ampgraph.onnx_model.native.norm_rows import with_norms
from ampgraph.onnx_model.native.pool import pool_step
from ampgraph.onnx_model.native.rotary import rotary_steps
from ampgraph.onnx_model.native.rows import rows_step
from ampgraph.onnx_model.native.step import Slot, Step, image


@dataclass
class Search:
    """What has been found so far. Grows. `products`: whether they are looked for."""

    products: bool = True
    steps: dict[str, Step] = field(default_factory=dict)  # by the value that they make
    taken: set[int] = field(default_factory=set)  # ids of nodes that go
    scaled: dict[str, Excite] = field(default_factory=dict)  # by the product that goes


def steps_of(net: Net, products: bool = True, norms: bool = True) -> dict[str, Step]:
    """What our kernels can compute of a model, by the value that it makes; a node goes with one step alone.

    `products`: also products, with what follows them or alone. `norms`: also normalizations and copies of
    rows that save no launch.
    """
    search = Search(products)
    for each in net.graph.node:
        if id(each) not in search.taken:
            _look(net, each, search)
    found = {name: step for name, step in with_norms(net, search.steps).items() if gains(net, step)}
    found = found if norms else {name: step for name, step in found.items() if saves_a_launch(step)}
    return {**found, **products_alone(net, found)} if products else found


def _look(net: Net, each: NodeProto, search: Search) -> None:
    if each.domain not in ("", "ai.onnx"):
        for step in _contrib_steps(net, each, search.products):
            _take(net, each, step, search)
    elif each.op_type == "Conv":
        conv = conv_step(net, each, search.taken)
        if conv is not None:
            _take(net, each, _scaled(each, conv, search), search)
    elif each.op_type == "ConvTranspose":
        transposed = transposed_step(net, each, search.taken)
        if transposed is not None:
            _take(net, each, transposed, search)
    elif each.op_type == "MatMul":
        linear = linear_step(net, each, search.taken) if search.products else None
        if linear is not None:
            _take(net, each, linear, search)
    elif each.op_type == "Mul":
        for step in gated_steps(net, each) or _numbers(net, each, search):
            _take(net, each, step, search)
    elif each.op_type == "Gather":
        rows = rows_step(net, each)
        if rows is not None:
            _take(net, each, rows, search)
    elif each.op_type == "BatchNormalization":
        affine = affine_step(net, each)
        if affine is not None:
            _take(net, each, affine, search)
    elif each.op_type in NORMS:
        norm = layer_norm_step(net, each)
        if norm is not None:
            _take(net, each, norm, search)
    elif each.op_type == "Add":
        residual = _residual(net, each, search)
        if residual is not None:
            _take(net, each, residual, search)
    elif each.input and (source := search.steps.get(each.input[0])) is not None and source.last:
        excite = excite_at(net, each)
        if excite is not None and not any(id(node) in search.taken for node in excite.nodes):
            _take_excite(net, source, excite, search)
        elif (pool := pool_step(net, each)) is not None:
            _take(net, each, pool, search)


def _contrib_steps(net: Net, each: NodeProto, products: bool) -> tuple[Step, ...]:
    """What stands for an operator of onnxruntime's own."""
    alone = group_norm_step(net, each) or split_gelu_step(net, each) or layer_norm_step(net, each)
    if alone is not None:
        return (alone,)
    return rotary_steps(net, each) or (attention_steps(net, each) if products else ())


def _numbers(net: Net, each: NodeProto, search: Search) -> tuple[Step, ...]:
    """A product with numbers by channel of an image that a kernel of ours makes, with the sum after it."""
    name = next((name for name in each.input if (made := search.steps.get(name)) is not None and made.last), "")
    step = numbers_step(net, each, name) if name else None
    return (step,) if step is not None else ()


def _residual(net: Net, each: NodeProto, search: Search) -> Step | None:
    """A float32 sum with an image that a kernel of ours makes."""
    for value, other in (each.input, reversed(each.input)):
        cast = net.maker(value, "Cast")
        source = search.steps.get(cast.input[0]) if cast is not None else None
        if cast is not None and source is not None:
            return residual_step(net, each, source.last, cast, other)
    return None


def _take(net: Net, each: NodeProto, step: Step, search: Search) -> None:
    if step.op == "Conv" and not step.inputs[0].image:
        made = step.inputs[0].name
        search.steps[made] = image_step(net, each, made)
    search.taken.update(id(old) for old in step.old)
    search.steps[step.output] = step


def _goes_between(net: Net, excite: Excite, search: Search) -> bool:
    """Whether a kernel takes the gates beside the image."""
    after = conv_step(net, excite.conv, search.taken) if excite.conv is not None else None
    return after is not None and after.op == "Conv" and after.inputs[0].image


def _take_excite(net: Net, source: Step, excite: Excite, search: Search) -> None:
    if source.op == "DepthwiseConv":  # gives the means beside the image
        search.steps[source.output] = replace(source, further=(excite.means,))
    else:
        search.steps[excite.means] = Step("Means", (image(excite.source),), excite.means, (), last=False)
    search.steps[excite.step.output] = excite.step
    if _goes_between(net, excite, search):
        search.scaled[excite.product.output[0]] = excite
    else:
        search.steps[excite.scaled.output] = excite.scaled
    search.taken.update(id(each) for each in excite.nodes)


def _scaled(each: NodeProto, step: Step, search: Search) -> Step:
    """The step with the gates of its input, where a squeeze and excite has been taken before it."""
    excite = search.scaled.get(each.input[0])
    if excite is None:
        return step
    inputs = (image(excite.source), *step.inputs[1:], Slot(excite.step.output))
    return replace(step, inputs=inputs, old=(excite.product, *step.old))
