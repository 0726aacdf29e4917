"""Sessions: answers, bound runs, fixed buffers, what is refused, and what is said of nodes on the CPU provider."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

import ampgraph
from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model import buffers
from ampgraph.onnx_model import session as sessions
from ampgraph.onnx_model.cpu_nodes import RECORD, CpuNode, cpu_nodes, warning_line, without_shape_arithmetic
from ampgraph.onnx_model.dimensions import symbol_sizes
from ampgraph.onnx_model.run import CPU, CUDA, best_provider, open_session
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.setup import chosen_provider, without

HEADER = '<ir_version: 10, opset_import: ["" : 17]>'


def parse(graph: str) -> ModelProto:
    return parser.parse_model(f"{HEADER} {graph}")


DOUBLE = parse("g (float[N, 2] x, float[1] k) => (float[N, 2] y, int64[2] s) { y = Mul(x, k) s = Shape(y) }")
FEEDS = {"x": np.array([[1, 2], [3, 4]], np.float32), "k": np.array([2], np.float32)}


def test_importing_the_package_loads_no_runtime_until_a_session_is_named() -> None:
    script = (
        "import sys, ampgraph; print([m for m in ('torch', 'onnx', 'onnxruntime', 'numpy') if m in sys.modules]);"
        "print(ampgraph.Session.__name__, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\nSession False\n"


def test_a_session_answers_from_a_proto_and_a_path(tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    onnx.save(DOUBLE, path)
    for source in (DOUBLE, path, str(path)):
        session = ampgraph.Session(source)
        assert session.provider == best_provider()
        for _ in range(3):  # on CUDA the second run captures, the third replays
            found = session.run(FEEDS)
            np.testing.assert_array_equal(found["y"], FEEDS["x"] * 2)
            np.testing.assert_array_equal(found["s"], [2, 2])
        assert session.on_cpu == ()
    cpu = Session(DOUBLE, provider="cpu")
    assert (cpu.providers, cpu.cuda_graph, cpu.nhwc, cpu.notes) == ((CPU,), False, False, ())


def test_a_bound_model_runs_on_what_was_given_and_its_answers_are_copies() -> None:
    session = Session(DOUBLE)
    feeds = {name: value.copy() for name, value in FEEDS.items()}
    bound = session.bind(feeds)
    feeds["x"][:] = 0  # bound inputs are copies too
    bound.run()
    bound.wait()
    first = bound.outputs()
    np.testing.assert_array_equal(first["y"], FEEDS["x"] * 2)
    other = session.bind({**FEEDS, "k": np.array([3], np.float32)})
    other.run()
    bound.run()
    np.testing.assert_array_equal(other.outputs()["y"], FEEDS["x"] * 3)
    np.testing.assert_array_equal(bound.outputs()["y"], FEEDS["x"] * 2)
    np.testing.assert_array_equal(first["y"], FEEDS["x"] * 2)


def test_fixed_buffers_take_other_inputs_and_keep_no_answer() -> None:
    """What a CUDA graph replays on; without CUDA the same buffers serve plain runs."""
    session = open_session(DOUBLE, provider=CPU)
    plain = buffers.bind(session, FEEDS)
    plain.run()
    fixed = buffers.capture(plain, 7)
    before = fixed.outputs()
    addresses = [value.data_ptr() for value in fixed.binding.get_outputs()]
    fixed.fill({**FEEDS, "x": FEEDS["x"] + 1})
    fixed.run()
    assert [value.data_ptr() for value in fixed.binding.get_outputs()] == addresses
    np.testing.assert_array_equal(fixed.outputs()["y"], FEEDS["x"] * 2 + 2)
    np.testing.assert_array_equal(before["y"], FEEDS["x"] * 2)


def test_a_run_captures_when_shapes_come_again_and_then_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The road of CUDA graphs, walked on the CPU provider, which takes the ids of graphs and does not heed them."""
    monkeypatch.setattr(sessions, "MOST_GRAPHS", 1)
    session = Session(DOUBLE, provider="cpu")
    session._setup = replace(session._setup, cuda_graph=True)
    for turn, captured in enumerate((0, 1, 1, 1)):
        found = session.run({**FEEDS, "x": FEEDS["x"] + turn})
        np.testing.assert_array_equal(found["y"], (FEEDS["x"] + turn) * 2)
        assert len(session._captured) == captured
    longer = {**FEEDS, "x": np.ones((5, 2), np.float32)}
    for _ in range(3):
        np.testing.assert_array_equal(session.run(longer)["y"], longer["x"] * 2)
    assert session.notes == ("without a CUDA graph for more than 1 sets of input shapes",)
    assert session.bind(FEEDS).cuda_graph
    with pytest.raises(ModelError, match="does not run on these inputs"):
        session.bind({**FEEDS, "x": np.ones((2, 3), np.float32)})
    assert session.cuda_graph


def test_a_failed_capture_falls_back_and_says_why_unless_it_was_demanded() -> None:
    model = parse("g (float[64] x) => (float[64] y) { r = RandomNormalLike(x) y = Add(x, r) }")
    feeds = {"x": np.zeros(64, np.float32)}
    session = Session(model, provider="cpu")
    session._setup = replace(session._setup, cuda_graph=True)
    assert not session.bind(feeds).cuda_graph
    assert not session.cuda_graph
    assert session.run(feeds)["y"].shape == (64,)
    (note,) = session.notes
    assert note.startswith("without a CUDA graph: a replayed CUDA graph gives other answers")
    session._setup, session._asked = replace(session._setup, cuda_graph=True), {"cuda_graph": True, "nhwc": False}
    with pytest.raises(ModelError, match=r"^g: cannot run as a CUDA graph"):
        session.run(feeds)


def test_what_auto_gives_up_first() -> None:
    """What the complaint speaks of; what was demanded stays."""
    setup = replace(Session(DOUBLE, provider="cpu")._setup, cuda_graph=True, nhwc=True)
    auto = {"cuda_graph": "auto", "nhwc": "auto"}
    assert without(setup, auto, "cannot use the graph capture feature")[1] == replace(setup, cuda_graph=False)
    assert without(setup, auto, "no kernel")[1] == replace(setup, nhwc=False)
    assert without(replace(setup, nhwc=False), auto, "no kernel")[0] == "a CUDA graph"
    assert without(setup, {"cuda_graph": True, "nhwc": True}, "no kernel") == ("", setup)


def test_a_capture_whose_replay_answers_otherwise_is_refused() -> None:
    """Random values stand for a graph that was captured wrongly."""
    model = parse("g (float[64] x) => (float[64] y) { r = RandomNormalLike(x) y = Add(x, r) }")
    plain = buffers.bind(open_session(model, provider=CPU), {"x": np.zeros(64, np.float32)})
    plain.run()
    with pytest.raises(ModelError, match=r"gives other answers \(y is off by"):
        buffers.capture(plain, 1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int64, np.bool_, np.uint8])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_kind_of_tensor_goes_through_a_buffer(dtype: type, shape: tuple[int, ...]) -> None:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    given = np.ones(shape).astype(dtype)
    bound = Session(model, provider="cpu").bind({"x": given})
    bound.run()
    found = bound.outputs()["y"]
    assert found.dtype == given.dtype
    np.testing.assert_array_equal(found, given)


def test_a_float32_array_is_cast_where_the_model_takes_a_low_type() -> None:
    model = parse("g (float16[2] x) => (float16[2] y) { y = Neg(x) }")
    found = Session(model, provider="cpu").run({"x": np.array([1, 2], np.float32)})["y"]
    np.testing.assert_array_equal(found, np.array([-1, -2], np.float16))


def test_what_cannot_be_bound_still_runs() -> None:
    model = parse(
        "g (float[4] x, string[1] t) => (seq(float[1]) y, string[1] u) { y = SplitToSequence(x) u = Identity(t) }"
    )
    bound = Session(model, provider="cpu").bind({"x": np.arange(4, dtype=np.float32), "t": np.array(["a"], object)})
    bound.run()
    found = bound.outputs()
    assert [float(part[0]) for part in found["y"]] == [0, 1, 2, 3]
    assert list(found["u"]) == ["a"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"provider": "gpu"}, "provider gpu: is no provider; choose one of best, cpu, cuda, tensorrt"),
        ({"provider": "cpu", "cuda_graph": True}, "cuda_graph: is asked for, but CPUExecutionProvider is in use"),
    ],
)
def test_contradicting_wishes_are_refused(words: dict, expected: str) -> None:
    with pytest.raises(OptionError) as error:
        Session(DOUBLE, **words)
    assert str(error.value).startswith(expected)


@pytest.mark.skipif(best_provider() == CUDA, reason="CUDA opens here")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_open_is_no_silent_cpu(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="does not open here"):
        Session(DOUBLE, provider=name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        (FEEDS["x"], "feeds of g: are of type ndarray; give arrays by name: {'x': array}"),
        ({"x": FEEDS["x"]}, "feeds of g: lack the input 'k'; give x, k"),
        ({**FEEDS, "z": FEEDS["x"]}, "feeds of g: hold 'z', which is no input; give x, k"),
        ({**FEEDS, "x": np.ones((2, 3), np.float32)}, "g: does not run on these inputs"),
        ({**FEEDS, "x": np.ones((2, 2), np.int64)}, "g: does not run on these inputs"),
    ],
)
def test_wrong_inputs_are_one_line(feeds: dict, expected: str) -> None:
    session = Session(DOUBLE)
    for work in (session.run, session.bind):
        with pytest.raises((OptionError, ModelError)) as error:
            work(feeds)
        assert str(error.value).startswith(expected)
    np.testing.assert_array_equal(session.run(FEEDS)["y"], FEEDS["x"] * 2)


def test_a_model_that_does_not_open_says_so() -> None:
    with pytest.raises(ModelError, match=r"^g: does not open on \w+ \(.*NoSuchOp.*\); check the model"):
        Session(parse("g (float[1] x) => (float[1] y) { y = NoSuchOp(x) }"), provider="cpu")


def test_names_of_providers() -> None:
    assert chosen_provider("CPU") == chosen_provider("CPUExecutionProvider") == CPU
    assert chosen_provider("best") == best_provider()


@dataclass(frozen=True)
class Case:
    graph: str
    fallen: set[str]


CASES = {
    "all of a reshape's target": Case(
        """g (float[A, B] x) => (float[C] y) { [sh] s = Shape(x) [pick] a = Gather(s, zero) [up] b = Unsqueeze(a, zero1)
        [join] t = Concat<axis = 0>(b, minus) [move] r = Reshape(x, t) [sq] y = Squeeze(r, zero1) }""",
        {"move", "sq"},
    ),
    "float arithmetic on a size": Case(
        """g (float[A] x) => (float[A] y) { [n] n = Size(x) [c] f = Cast<to = 1>(n) [r] q = Sqrt(f)
        [d] y = Div(x, q) }""",
        {"d"},
    ),
    "a float input beside a shape": Case(
        "g (float[A, B] x) => (float[C, D] y) { [s] s = Shape(x) [e] y = Expand(x, s) }", {"e"}
    ),
    "an integer input beside a shape": Case(
        "g (float[A] x, int64 past) => (int64[1] y) { [s] s = Shape(x) [a] y = Add(s, past) }", set()
    ),
    "a large constant": Case("g (float[A] x) => (float[1] y) { [s] s = Shape(x) [g] y = Gather(big, s) }", {"g"}),
    "a body captures data": Case(
        """g (float[A] x) => (float[B] y) { [s] s = Shape(x) [q] z = ReduceSum<keepdims = 0>(s) [b] c = Cast<to = 9>(z)
        [if] y = If(c) <then_branch = t () => (float[U] u) { [in] u = Neg(x) },
                        else_branch = e () => (float[V] v) { [ie] p = Expand(x, s) [abs] v = Abs(p) }> }""",
        {"if", "in", "ie", "abs"},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nodes_on_the_cpu_without_shape_arithmetic(case: Case) -> None:
    """A CPU session puts all on the CPU provider: what remains is what computes on data."""
    model = parse(case.graph)
    constants = {"zero": np.array(0), "zero1": np.array([0]), "minus": np.array([-1]), "big": np.ones(500, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    nodes = cpu_nodes(open_session(model, provider=CPU, optimize="disabled", config=RECORD))
    assert {node.name for node in nodes} >= case.fallen
    assert {node.name for node in without_shape_arithmetic(nodes, model)} == case.fallen


def test_nodes_without_names_are_told_apart_by_type() -> None:
    model = parse("g (float[A] x) => (float[A] y) { s = Shape(x) i = Add(s, s) f = Cast<to = 1>(i) y = Mul(x, f) }")
    nodes = cpu_nodes(open_session(model, provider=CPU, optimize="disabled", config=RECORD))
    assert without_shape_arithmetic(nodes, model) == (CpuNode("", "Mul"),)


def test_a_branch_that_onnxruntime_inlines_is_judged_by_type() -> None:
    model = parse("""g (float[A] x) => (float[A] y) { [c] k = Constant<value = bool {1}>() [if] y = If(k)
        <then_branch = t () => (float[A] u) { [in_s] s = Shape(x) [in_a] a = Add(s, s) [in_c] f = Cast<to = 1>(a)
         [in_m] u = Mul(x, f) }, else_branch = e () => (float[A] v) { [out] v = Neg(x) }> }""")
    nodes = cpu_nodes(open_session(model, provider=CPU, config=RECORD))
    assert {node.op_type for node in nodes} == {"Shape", "Add", "Cast", "Mul"}
    (left,) = without_shape_arithmetic(nodes, model)
    assert left.op_type == "Mul"
    assert left.name != "in_m"


def test_the_warning_names_types_and_nodes() -> None:
    nodes = [CpuNode(f"pool{i}", "MaxPool") for i in range(7)] + [CpuNode("", "Elu")]
    assert warning_line(nodes, CUDA) == (
        "8 nodes run on the CPU provider although CUDAExecutionProvider is in use: 7 MaxPool, 1 Elu "
        "(pool0, pool1, pool2, pool3, pool4, pool5 and 1 more)"
    )
    assert warning_line(nodes[-1:], "CUDA") == "1 node runs on the CPU provider although CUDA is in use: 1 Elu"


def test_shapes_that_never_change_fix_the_free_dimensions():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'
    )
    session = Session(model, provider="cpu", shapes={"x": (2, 4)})
    assert session.run({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 4)
    with pytest.raises(ModelError):
        session.run({"x": np.ones((3, 4), np.float32)})


def test_a_symbol_of_two_sizes_stays_free():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x, float[n,m] z) => (float[n] y) { y = Relu(x) }'
    )
    assert symbol_sizes(model, {"x": (3,), "z": (1, 2)}) == {"m": 2}
    session = Session(model, provider="cpu", shapes={"x": (3,), "z": (1, 2)})
    assert session.notes == ("'n' is of sizes 1 and 3 in `shapes`, and stays free",)
    assert session.run({"x": np.ones(3, np.float32), "z": np.ones((1, 2), np.float32)})["y"].shape == (3,)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "?"
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "?"
    assert Session(model, provider="cpu", shapes={"x": (3,), "z": (1, 2)}).notes == ()


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"q": (2, 2)}, "shapes['q']: no such graph input; choose among k, x"),
        ({"x": (2,)}, "shapes['x']=2: the input is ?x2; give one like it"),
        ({"x": (2, 3)}, "shapes['x']=2x3: the input is ?x2; give one like it"),
        ({"x": (-1, 2)}, "shapes['x']: has a negative size in (-1, 2); give the sizes of a real input"),
    ],
)
def test_shapes_that_no_input_has_are_refused(shapes: dict, said: str) -> None:
    with pytest.raises(OptionError) as error:
        Session(DOUBLE, provider="cpu", shapes=shapes)
    assert str(error.value) == said


def test_inputs_that_are_too_large_are_told_so() -> None:
    model = parse(
        "g (int64 n) => (float[N] y) { one = Constant<value_ints = [-1]>() s = Reshape(n, one) y = Expand(k, s) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "k"))
    with pytest.raises(ModelError, match=r"Failed to allocate memory.*; give smaller ones$"):
        Session(model, provider="cpu").run({"n": 1 << 50})
