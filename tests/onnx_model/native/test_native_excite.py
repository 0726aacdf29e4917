"""Squeeze and excite between a depthwise convolution and a plain one."""

import pytest
from own import kept, model_of, own

DEPTHWISE = "Conv<group=16, kernel_shape=[3,3], pads=[1,1,1,1]>"
POINT = "Conv<kernel_shape=[1,1]>"
WEIGHTS = {
    "d": (16, 1, 3, 3), "b": (16,), "s": (4, 16, 1, 1), "t": (4,), "e": (16, 4, 1, 1), "u": (16,), "w": (8, 16, 1, 1),
    "before": (1, 4, 1, 1), "after": (16, 1, 1), "one": (1, 1, 1), "point": (16, 16, 1, 1),
    "halves": (16, 8, 1, 1),
}  # fmt: skip
HEAD = f"c = {DEPTHWISE}(x, d, b)  r = Relu(c)"
TAIL = f"z = Mul(g, r)  y = {POINT}(z, w)"


def squeezed(middle: str, head: str = HEAD, tail: str = TAIL, output: str = "") -> str:
    return f"""g (float16[N,16,6,6] x) => (float16[N,8,6,6] y{output})
        {{ {head}  m = GlobalAveragePool(r)  {middle}  {tail} }}"""


@pytest.mark.parametrize(
    "middle",
    [
        f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = Sigmoid(k)",
        f"i = {POINT}(m, s)  v = Sigmoid(i)  j = Mul(i, v)  k = {POINT}(j, e)  g = Sigmoid(k)",
        f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = HardSigmoid<alpha=0.16666667>(k)",
        f"i = {POINT}(m, s, t)  k = {POINT}(i, e, u)  g = Sigmoid(k)",
        f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = HardSigmoid(k)",
        f"h = {POINT}(m, s)  i = Add(h, before)  j = Relu(i)  l = {POINT}(j, e)  k = Add(after, l)  g = Sigmoid(k)",
        f"""o = Constant<value_ints=[1,-1,1,1]>()  v = Reshape(t, o)  h = {POINT}(m, s)  i = Add(h, v)  j = Relu(i)
        k = {POINT}(j, e)  g = Sigmoid(k)""",
    ],
)
def test_it_is_one_operator_and_the_product_goes_with_the_convolution(middle: str) -> None:
    model = model_of(squeezed(middle), WEIGHTS)
    assert own(model) == {"DepthwiseConv": 1, "Excite": 1, "Conv": 1}
    assert kept(model) == {"Transpose": 2}


@pytest.mark.parametrize(
    "conv", ["Conv<kernel_shape=[1,1]>(x, point, b)", "Conv<group=2, kernel_shape=[1,1]>(x, halves, b)"]
)
def test_after_any_convolution_the_means_are_one_more(conv: str) -> None:
    middle = f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = Sigmoid(k)"
    model = model_of(squeezed(middle, head=f"c = {conv}  r = Relu(c)"), WEIGHTS)
    assert own(model) == {"Conv": 2, "Means": 1, "Excite": 1}
    assert kept(model) == {"Transpose": 2}


@pytest.mark.parametrize("numbers", ["r = Add(a, after)", "p = Mul(a, one)  r = Add(p, after)"])
def test_numbers_after_the_activation_before_it_go_with_the_convolution(numbers: str) -> None:
    middle = f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = Sigmoid(k)"
    model = model_of(squeezed(middle, head=f"c = {DEPTHWISE}(x, d, b)  a = Relu(c)  {numbers}"), WEIGHTS)
    assert own(model) == {"DepthwiseConv": 1, "Excite": 1, "Conv": 1}
    assert kept(model) == {"Transpose": 2}


PLAIN = f"i = {POINT}(m, s, t)  j = Relu(i)  k = {POINT}(j, e, u)  g = Sigmoid(k)"


@pytest.mark.parametrize(
    "graph",
    [
        squeezed(PLAIN, tail=f"z = Mul(g, r)  n = {POINT}(z, w)  o = {POINT}(r, w)  y = Add(n, o)"),  # a third reader
        squeezed(PLAIN, output=", float16[N,16,1,1] g"),
        squeezed(PLAIN.replace("Sigmoid(k)", "HardSigmoid<alpha=0.3>(k)")),  # of another slope
        squeezed(PLAIN.replace("(m, s, t)", "(m, s)").replace("Relu(i)", "Add(i, one)")),  # one number for all channels
        squeezed(PLAIN.replace("Sigmoid(k)", "Tanh(k)")),
        squeezed(PLAIN.replace("Relu(i)", "HardSwish(i)")),  # the kernel has no such between the products
        squeezed(PLAIN, head="r = Relu(x)"),  # no depthwise convolution that could give the means
    ],
)
def test_what_is_not_quite_that_is_taken_apart_and_still_right(graph: str) -> None:
    assert "Excite" not in own(model_of(graph, WEIGHTS))


def test_where_no_convolution_reads_the_product_it_is_one_more() -> None:
    graph = squeezed(PLAIN, tail=f"z = Mul(g, r)  q = Tanh(z)  y = {POINT}(q, w)")
    assert own(model_of(graph, WEIGHTS)) == {"DepthwiseConv": 1, "Excite": 1, "Scaled": 1, "Conv": 1}
    graph = squeezed(PLAIN, tail=f"z = Mul(g, r)  y = {POINT}(z, w)", output=", float16[N,16,6,6] z")
    assert own(model_of(graph, WEIGHTS)) == {"DepthwiseConv": 1, "Excite": 1, "Scaled": 1, "Conv": 1}


@pytest.mark.parametrize("order", ["z, r", "r, z"])
@pytest.mark.parametrize("conv", [DEPTHWISE + "(x, d, b)", POINT + "(x, point, b)"])
def test_the_image_may_be_added_to_the_product(conv: str, order: str) -> None:
    tail = f"z = Mul(g, r)  q = Add({order})  y = {POINT}(q, w)"
    found = own(model_of(squeezed(PLAIN, f"c = {conv}  r = Relu(c)", tail), WEIGHTS))
    assert (found["Excite"], found["Scaled"]) == (1, 1)
    assert kept(model_of(squeezed(PLAIN, f"c = {conv}  r = Relu(c)", tail), WEIGHTS)) == {"Transpose": 2}


def test_another_sum_after_it_stays() -> None:
    tail = f"z = Mul(g, r)  h = Tanh(x)  q = Add(z, h)  y = {POINT}(q, w)"
    model = model_of(squeezed(PLAIN, tail=tail), WEIGHTS)
    assert own(model)["Scaled"] == 1
    assert kept(model)["Add"] == 1


def test_means_in_float32_are_the_same() -> None:
    graph = squeezed(PLAIN).replace(
        "m = GlobalAveragePool(r)", "f = Cast<to=1>(r) n = ReduceMean(f, a) m = Cast<to=10>(n)"
    )
    model = model_of(graph.replace("{ c =", "<int64[2] a = {2, 3}> { c =", 1), WEIGHTS)
    assert own(model) == {"DepthwiseConv": 1, "Excite": 1, "Conv": 1}
