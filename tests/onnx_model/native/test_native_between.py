"""Standard operators between ours compute with channels last, where that is the same and saves changes of layout."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own import kept, model_of, own

CONV = "Conv<pads=[1,1,1,1], kernel_shape=[3,3]>"
WEIGHTS = {
    "w": (16, 8, 3, 3), "v": (8, 16, 3, 3), "u": (8, 32, 3, 3), "t": (16, 16, 3, 3), "h": (8, 8, 3, 3), "b": (16,),
    "one": (1,), "rows": (16, 1, 1), "whole": (1, 16, 1, 1), "columns": (6,), "full": (16, 6, 6), "slope": (16, 1, 1),
    "squeeze": (12, 16, 1, 1), "excite": (16, 12, 1, 1),
}  # fmt: skip
INTEGERS = (
    "float[4] twice = {1, 1, 2, 2}, int64[4] sizes = {1, 16, 12, 12}, int64[2] halves = {8, 8}, float[0] none = {}"
)


def between(middle: str, last: str = f"y = {CONV}(m, v)", size: str = "H,V", convolutions: int = 2) -> Counter[str]:
    """The standard operators that are left of a model with this between two convolutions of ours."""
    graph = (
        f"g (float16[N,8,6,6] x) => (float16[N,8,{size}] y) <{INTEGERS}> {{ c = {CONV}(x, w, b)  {middle}  {last} }}"
    )
    model = model_of(graph, WEIGHTS)
    assert own(model)["Conv"] == convolutions
    return kept(model)


@pytest.mark.parametrize(
    ("middle", "left"),
    [
        ("m = Tanh(c)", "Tanh"),
        ("m = LeakyRelu<alpha=0.1>(c)", "LeakyRelu"),
        ("m = Mul(c, one)", "Mul"),
        ("m = Mul(rows, c)", "Mul"),
        ("m = Sub(one, c)", "Sub"),
        ("m = Add(c, full)", "Add"),
        ("m = Mul(c, columns)", "Mul"),
        ("m = PRelu(c, slope)", "PRelu"),
        ("m = Clip(c, low)", "Clip"),
        ("m = Resize<mode=\"nearest\">(c, , twice)", "Resize"),
        ("m = Resize<mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\">(c, none, twice)", "Resize"),
    ],
)  # fmt: skip
def test_what_is_the_same_in_either_layout_is_left_in_ours(middle: str, left: str) -> None:
    low = "l = Constant<value_float=-0.5>()  low = Cast<to=10>(l)  " if "low" in middle else ""
    found = between(low + middle)
    assert found[left] == 1
    assert found["Transpose"] == 2  # of input and output


def test_images_side_by_side_in_the_channels() -> None:
    found = between("r = Tanh(c)  m = Concat<axis=1>(r, c)", f"y = {CONV}(m, u)")
    assert (found["Concat"], found["Transpose"]) == (1, 2)
    found = between("p, q = Split<axis=1>(c, halves)  m = Add(p, q)", f"y = {CONV}(m, h)")
    assert (found["Split"], found["Transpose"]) == (1, 2)
    found = between("p, q = Split<axis=-3, num_outputs=2>(c)  m = Mul(p, q)", f"y = {CONV}(m, h)")
    assert (found["Split"], found["Transpose"]) == (1, 2)


@pytest.mark.parametrize(
    "part",
    [
        "Slice(c, none_of, eight, first_axis)",
        "Slice(c, eight, all_of, channels)",
        "Slice(c, one_of, far, edges, twos)",
        "Slice(c, some, eight, first_axis)",
        "Pad(c, edge)",
        'Pad<mode="reflect">(c, edge)',
        "Pad(c, deep, ones)",
    ],
)
def test_parts_and_borders(part: str) -> None:
    """Where a part ends may be computed, as TorchScript's exporter has it."""
    numbers = {
        "none_of": "0", "eight": "8", "all_of": "16", "first_axis": "1", "channels": "-3", "twos": "1,2",
        "one_of": "0,1", "far": "8,99", "edges": "1,3", "edge": "0,0,1,2,0,0,0,1", "deep": "0,4,0,0,0,12,0,0",
    }  # fmt: skip
    constants = "  ".join(f"{name} = Constant<value_ints=[{said}]>()" for name, said in numbers.items())
    channels = {"Slice": "h", "Pad(c, d": "u"}
    weight = next((name for start, name in channels.items() if part.startswith(start)), "v")
    computed = "some = Sub(eight, eight)  ones = Cast<to=10>(one)"
    found = between(f"{constants}  {computed}  p = {part}  m = Tanh(p)", f"y = {CONV}(m, {weight})")
    assert (found["Transpose"], found["Tanh"]) == (2, 1)


@pytest.mark.parametrize(
    "middle",
    [
        "a = Constant<value_ints=[0]>()  e = Constant<value_ints=[8]>()  m = Slice(c, a, e)",
        "p, q = Split<axis=2, num_outputs=2>(c)  m = Add(p, q)",
        "m = Concat<axis=2>(c, c)",
        'm = Resize<mode="linear">(c, , twice)',
        "m = Softmax<axis=1>(c)",
        "m = Transpose<perm=[0,1,3,2]>(c)",
        "m = LpPool<kernel_shape=[3,3], pads=[1,1,1,1]>(c)",
        'm = AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(c)',
    ],
)
def test_other_operators_stay_as_they_are(middle: str) -> None:
    assert between(middle)["Transpose"] >= 4


def test_means_and_largest_values_are_ours_whoever_made_the_image() -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,8,3,3] y, float16[N,16,1,1] z)
        {{ c = {CONV}(x, w, b)  r = Tanh(c)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
           y = {CONV}(p, v)  e = Add(r, c)  f = {CONV}(e, t)  s = Tanh(f)  z = GlobalAveragePool(s) }}"""
    model = model_of(graph, WEIGHTS)
    left = kept(model)
    assert (left["MaxPool"], left["GlobalAveragePool"]) == (0, 0)


@pytest.mark.parametrize("border", ["", ", pads=[1,1,1,1]", ", pads=[1,1,1,1], count_include_pad=1"])
def test_means_of_windows_are_ours(border: str) -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,8,A,B] y)
        {{ c = {CONV}(x, w, b)  p = AveragePool<kernel_shape=[3,3]{border}>(c)  r = Tanh(p)
           q = AveragePool<kernel_shape=[2,2], strides=[2,2]{border}>(r)  y = {CONV}(q, v) }}"""
    found = own(model_of(graph, WEIGHTS))
    assert found == {"Conv": 2, "AveragePool": 2}
    assert kept(model_of(graph, WEIGHTS)) == {"Transpose": 2, "Tanh": 1}


def test_means_of_windows_whose_sizes_are_rounded_up_are_ours_where_nothing_is_added() -> None:
    def pooled(size: int) -> int:
        graph = f"""g (float16[N,8,{size},{size}] x) => (float16[N,8,a,b] y)
            {{ c = {CONV}(x, w, b)  p = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(c)
               y = {CONV}(p, v) }}"""
        return own(model_of(graph, WEIGHTS))["AveragePool"]

    assert (pooled(6), pooled(7)) == (1, 0)


@pytest.mark.parametrize("before", ["", "r = Tanh(c)"])
def test_the_mean_of_an_image_as_a_row_is_ours(before: str) -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,16] y)
        {{ c = {CONV}(x, w, b)  {before}  axes = Constant<value_ints=[-1,-2]>()
           y = ReduceMean<keepdims=0>({"r" if before else "c"}, axes) }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 1, "Mean": 1}
    assert kept(model)["Transpose"] == 1


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize(
    "pool", ["kernel_shape=[3,3], strides=[2,2]", "kernel_shape=[3,3], strides=[2,2], pads=[1,1,0,0]"]
)
def test_sizes_that_are_rounded_up_are_ours_where_they_are_known(pool: str, size: int) -> None:
    graph = f"""g (float16[N,8,{size},{size}] x) => (float16[N,8,a,b] y)
        {{ c = {CONV}(x, w, b)  p = MaxPool<{pool}, ceil_mode=1>(c)  m = Tanh(p)  y = {CONV}(m, v) }}"""
    assert own(model_of(graph, WEIGHTS)) == {"Conv": 2, "MaxPool": 1}
    free = graph.replace(f"[N,8,{size},{size}]", "[N,8,H,W]")
    assert own(model_of(free, WEIGHTS)) == {"Conv": 2}


def test_one_pixel_is_turned_by_a_name_alone() -> None:
    gates = "p = GlobalAveragePool(c)  q = Conv(p, squeeze)  r = Relu(q)  s = Conv(r, excite)  g = Softplus(s)"
    found = between(f"{gates}  e = Mul(c, g)  m = Tanh(e)", convolutions=4)
    assert (found["Transpose"], found["Mul"], found["Tanh"]) == (2, 1, 1)
    assert found["Reshape"] >= 1


def test_where_nothing_of_ours_reads_it_a_value_is_turned_at_once() -> None:
    """Two that are read as they were would have to be turned, instead of one."""
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,16,6,6] y, float16[N,16,6,6] z)
        {{ c = {CONV}(x, w, b)  y = Tanh(c)  z = Neg(c) }}"""
    assert kept(model_of(graph, WEIGHTS)) == {"Transpose": 2, "Tanh": 1, "Neg": 1}


def test_of_images_that_lie_otherwise_there_must_not_be_more() -> None:
    graph = f"""g (float16[N,8,6,6] x, float16[N,16,6,6] p, float16[N,16,6,6] q) => (float16[N,8,6,6] y)
        {{ c = {CONV}(x, w, b)  m = Sum(c, p, q)  y = {CONV}(m, v) }}"""
    assert kept(model_of(graph, WEIGHTS))["Transpose"] == 4


STEPS = st.sampled_from([
    "Tanh({0})", "Mul({0}, rows)", "Add({0}, {1})", "Max({1}, {0})", "Sub(one, {0})", "Relu({1})", f"{CONV}({{0}}, t)",
    "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({0})", "Softmax<axis=1>({0})", "GlobalAveragePool({0})",
])  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_answers_stay_whatever_is_between(steps: list[str]) -> None:
    names = ["c", "c", *(f"m{place}" for place in range(len(steps)))]
    body = "  ".join(
        f"{new} = {step.format(one, other)}"
        for other, one, new, step in zip(names, names[1:], names[2:], steps, strict=False)
    )
    ends = f"c = {CONV}(x, w, b)", f"y = {CONV}({names[len(steps) + 1]}, t, b)"
    own(model_of(f"g (float16[N,8,6,6] x) => (float16[N,16,H,V] y) {{ {ends[0]}  {body}  {ends[1]} }}", WEIGHTS))
