"""What may be written over, and texts that appear whole or not at all."""

import os
from pathlib import Path

import onnx
import pytest

import ampgraph
from ampgraph.errors import OptionError
from ampgraph.outputs import Outputs, same_file, staged
from tests.models import parse


def refused(complaint: str, paths, inputs=(), **options) -> None:
    with pytest.raises(OptionError, match=complaint):
        Outputs(paths, **options).verify(inputs)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    refused("is a directory", {"-o": tmp_path}, force=True)
    refused("has no folder", {"-o": tmp_path / "none" / "x"})
    refused("is no regular file", {"-o": Path("/dev/full")}, force=True)


def test_a_place_is_written_in_before_anything_is_done(tmp_path: Path) -> None:
    """Whoever runs this, nothing can be made in /proc."""
    path = Path("/proc/out.json")
    refused(r"--json /proc/out\.json: cannot be written \(.+\); choose another place", {"--json": path}, force=True)
    Outputs({"-o": path}).verify((), unwritten=["-o"])
    Outputs({"-o": tmp_path / "x"}).verify(())
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_pipe_is_none_either(tmp_path: Path) -> None:
    """As /dev/stdout is one, which the file would take the place of."""
    pipe, link, further = (tmp_path / name for name in ("pipe", "link", "further"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    further.symlink_to(link)
    for path in (pipe, link, further):
        refused("is no regular file", {"-o": path}, force=True)
    source = tmp_path / "m.onnx"
    onnx.save(parse("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }"), source)
    with pytest.raises(OptionError, match=f"{further}: is no regular file"):
        ampgraph.convert(source, further, force=True)
    assert further.readlink() == link
    assert link.readlink() == pipe
    assert pipe.is_fifo()


def test_a_link_to_a_file_or_to_nothing_is_replaced_with_force(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    for name in ("x", "nowhere"):
        link = tmp_path / f"to_{name}"
        link.symlink_to(tmp_path / name)
        Outputs({"-o": link}, force=True).verify(())


def test_existing_files_need_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    refused("exists already", {"-o": path})
    Outputs({"-o": path}, force=True).verify(())
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    refused("exists already", {"-o": dangling})


def test_no_file_is_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "x"
    refused("is also an input file; choose another place", {"-o": path}, [tmp_path / "." / "x"], force=True)
    refused("is named by two options", {"-o": path, "--report": path})
    Outputs({"-o": path, "--report": tmp_path / "y"}).verify([tmp_path / "z"])


def test_one_file_by_many_names(tmp_path: Path) -> None:
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_text("")
    link.symlink_to(path)
    assert same_file(path, link)
    assert not same_file(path, tmp_path / "y")


def test_staged_texts_appear_together_or_not_at_all(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with staged({one: "1", two: "2"}) as publish:
        assert not one.exists()
        publish()
    assert (one.read_text(), two.read_text()) == ("1", "2")
    with pytest.raises(RuntimeError, match="stop"), staged({one: "new"}):
        raise RuntimeError("stop")
    assert one.read_text() == "1"
    with pytest.raises(OptionError, match="cannot be written"), staged({tmp_path / "none" / "x": "1"}):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
