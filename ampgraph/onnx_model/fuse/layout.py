"""Layout: one walk over the graph that finds attention and rotary embeddings and drops layout changes for nothing."""

from __future__ import annotations

from ampgraph.onnx_model.fuse.attention import attention_of
from ampgraph.onnx_model.fuse.heads import biased_of, normalized_of
from ampgraph.onnx_model.fuse.net import Fusion, Net
from ampgraph.onnx_model.fuse.rolls import reordered_of
from ampgraph.onnx_model.fuse.rotary import partial_of, rotary_of
from ampgraph.onnx_model.fuse.rows import Draft, copies, replacements, view_of
from ampgraph.onnx_model.fuse.skip_norm import Norm, layer_norm, root_mean_square
from ampgraph.onnx_model.fuse.windows import windows_of

WINDOWS = "attention in windows"


def fuse_layout(net: Net) -> Fusion:
    """New nodes for every fused operator and moved product; those that turn out to be for nothing are never read."""
    draft, windows, norms = Draft(net), 0, _norms(net)
    for each in net.graph.node:
        found = None
        if each.op_type == "MatMul" and each.domain == "":
            found = windows_of(draft, each)
            windows += found is not None
            found = found or attention_of(draft, each)
        elif each.op_type == "Add" and each.domain == "":
            found = rotary_of(draft, each) or biased_of(draft, each)
        elif each.op_type == "Concat":
            found = reordered_of(draft, each) or partial_of(draft, each)
        elif each.output and each.output[0] in norms:
            found = normalized_of(draft, norms[each.output[0]])
        if found is not None:
            draft.views[each.output[0]] = found
        else:
            view_of(draft, each)
    named = copies(draft)
    nodes, constants = (*draft.made.values(), *named), tuple(draft.constants.values())
    removed = tuple(net.makers[copy.output[0]] for copy in named)
    kinds = {WINDOWS: windows} if windows else {}
    return Fusion(nodes, replacements(draft), removed, constants, draft.merged, draft.shapes, kinds)


def _norms(net: Net) -> dict[str, Norm]:
    """Layer and RMS normalizations by what they make."""
    found = (layer_norm(net, each) or root_mean_square(net, each) for each in net.graph.node)
    return {norm.output: norm for norm in found if norm is not None}
