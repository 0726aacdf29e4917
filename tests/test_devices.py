import pytest

from ampgraph.devices import device_named, load_devices
from ampgraph.errors import OptionError
from ampgraph.precision import Precision

FIGURES = ("float32", "tf32", "float16", "bfloat16", "bandwidth", "launch")
FIGURES += ("graph_launch", "compute_efficiency", "memory_efficiency")


def test_every_figure_has_its_source():
    for device in load_devices().values():
        assert set(device.sources) == set(FIGURES), device.name
        assert all(device.sources.values())


def test_the_deployment_devices_are_there():
    assert {"h100", "h200", "a100", "l4", "t4", "rtx4090", "a10", "v100"} <= set(load_devices())


def test_an_unknown_device_names_the_known_ones():
    with pytest.raises(OptionError, match=r"--device: no figures for 'gtx'; choose one of a10, a100, h100"):
        device_named("gtx")


def test_float32_products_run_at_tf32_where_there_is_one():
    h100, t4 = device_named("H100"), device_named("t4")
    assert h100.matrix_rate(Precision.FLOAT32) == h100.tf32 * h100.compute_efficiency
    assert t4.matrix_rate(Precision.FLOAT32) == t4.plain_rate
    assert t4.matrix_rate(Precision.BFLOAT16) == 0


def test_a_cuda_graph_launches_for_less():
    plain, graph = device_named("h100"), device_named("h100", cuda_graph=True)
    assert graph.launch == plain.graph_launch < plain.launch
    assert graph.byte_rate == plain.byte_rate
