"""Settings: as arguments of a session, in words, and as files record them."""

import json

import pytest

from ampgraph.settings import OWN_CHOICE, MeasuredSetting, Setting, from_json, from_text

MEASURED = MeasuredSetting(
    Setting(True, "auto", False, True), "NVIDIA H100", "CUDAExecutionProvider", True, {"x": (1, 3), "n": ()}
)


def test_a_setting_as_arguments_of_a_session_holds_whatever_a_file_records() -> None:
    assert Setting().options == {
        "nhwc": "auto",
        "tf32": "auto",
        "provider_options": {},
        "native": "auto",
        "recorded": False,
    }
    assert Setting(True, False, True).options["provider_options"] == {"fuse_conv_bias": "1"}
    assert MEASURED.setting.options["native"] is True


def test_a_setting_in_words() -> None:
    assert (Setting().words, Setting().changes) == (OWN_CHOICE, 0)
    assert Setting(False, False).words == "channels first, without TF32"
    assert (Setting(native=False).words, Setting(native=False).changes) == ("no kernels of our own", 1)
    assert (MEASURED.setting.words, MEASURED.setting.changes) == (
        "channels last, kernels of our own, biases after convolutions",
        3,
    )
    assert MEASURED.words.endswith(", as measured on NVIDIA H100 (as CUDA graph, x=1x3, n=scalar)")


def test_what_is_recorded_is_read_back() -> None:
    assert from_text(MEASURED.to_text()) == MEASURED
    assert from_json(MEASURED.as_json()) == MEASURED


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"nhwc": 1}, r"has no known nhwc \(1\)"),
        ({"tf32": None}, r"has no known tf32 \(null\)"),
        ({"bias_inside": "auto"}, "has no known bias_inside"),
        ({"native": 1}, r"has no known native \(1\)"),
        ({"cuda_graph": 0}, "has no known cuda_graph"),
        ({"device": 3}, "has no known device"),
        ({"shapes": {"x": [1, -1]}}, "has no known shapes"),
        ({"shapes": {"x": [True]}}, "has no known shapes"),
        ({"shapes": []}, "has no known shapes"),
        ({"more": 1}, "holds 'more', which means nothing"),
    ],
)
def test_what_is_no_setting_is_refused(change: dict[str, object], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        from_text(json.dumps({**MEASURED.as_json(), **change}))


@pytest.mark.parametrize(
    ("text", "fact"), [("{", "is not JSON"), ("3", "is no table of a setting"), ("{}", "lacks"), ("[" * 9999, "JSON")]
)
def test_text_that_records_no_setting_is_refused(text: str, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        from_text(text)
