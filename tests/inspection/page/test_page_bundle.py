"""What is shipped is what the sources make, and its licences are with it."""

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

import ampgraph.inspection.page as package

PAGE = Path(package.__file__).parent
WEB, BUNDLE = PAGE / "web", PAGE / "bundle"


def test_licences_of_all_that_is_bundled_are_shipped() -> None:
    text = resources.files(package).joinpath("bundle", "LICENSES.txt").read_text(encoding="utf-8")
    dependencies = json.loads((WEB / "package.json").read_text())["dependencies"]
    for name, version in dependencies.items():
        assert f"{name} {version} (" in text
    assert "Eclipse Public License - v 1.0" in text


def test_the_lock_names_no_registry() -> None:
    assert "registry" not in (WEB / "package-lock.json").read_text()
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert not any("resolved" in entry for entry in lock["packages"].values())


def test_the_bundle_is_what_the_sources_make(tmp_path: Path) -> None:
    """In a copy, so that no packages are left in the tree."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not here to build the page")
    copy = tmp_path / "page"
    shutil.copytree(PAGE, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    installed = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=copy / "web", capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot fetch the packages: {installed.stderr[-200:]}")
    checked = subprocess.run([npm, "run", "check"], cwd=copy / "web", capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
