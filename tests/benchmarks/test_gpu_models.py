"""Which networks a benchmark measures."""

from benchmarks.gpu_models import FURTHER, ROWS, named


def test_all_rows_are_meant_by_nothing_and_further_networks_by_their_names_alone() -> None:
    assert named("") == tuple(ROWS)
    assert named("vit,densenet121") == ("vit_b_16", "densenet121")
    assert named("densenet") == ()
    assert named("resnet50,unet") == ("resnet50", "sd_unet_block")
    assert not FURTHER.keys() & ROWS.keys()
