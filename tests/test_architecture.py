"""Who may import whom, what a package holds, and that it installs."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ampgraph

ROOT = Path(ampgraph.__file__).resolve().parent.parent
PACKAGE = ROOT / "ampgraph"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
RUNTIMES = {"onnx", "onnx_ir", "onnxscript", "onnxruntime", "torch"}
MIDDLE = (
    "bounds", "cost", "costs", "cut", "decide", "devices", "errors", "explain", "figures", "fusable", "graph",
    "inspection.comparison", "inspection.comparison_json", "inspection.comparison_text", "inspection.plan_diff",
    "inspection.plan_diff_text", "inspection.recorded_plan", "inspection.verdict", "intervals", "judge",
    "judgement", "kernels", "laws", "matching", "measured", "neighbours", "network", "numbering", "options", "outputs",
    "overruled", "own_kernels", "placement", "plan", "precision", "range_rules", "range_table", "ranges", "reasons",
    "report", "report_text", "rule", "rule_list", "rule_text", "rulebook", "settings", "training", "wishes", "wording",
    "work", "worth",
)  # fmt: skip


def imports(path: Path, *, at_run_time: bool = True) -> set[str]:
    """Modules that a file imports, anywhere in it; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            hidden.update(child for statement in node.body for child in ast.walk(statement))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in hidden and at_run_time:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def reachable(start: str) -> set[str]:
    """Modules of the package that importing one of them may run."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [other for other in imports(MODULES[name]) if other in MODULES]
    return seen


@pytest.mark.parametrize("name", [f"ampgraph.{name}" for name in MIDDLE if f"ampgraph.{name}" in MODULES])
def test_the_middle_knows_no_dialect(name: str) -> None:
    """The figures and texts of a report know a model only through the graph; the runtime is asked at the edge."""
    for module in reachable(name):
        outside = {imported.partition(".")[0] for imported in imports(MODULES[module])}
        assert not outside & RUNTIMES, f"{name} reaches {module}, which imports {outside & RUNTIMES}"
        assert not module.startswith(("ampgraph.onnx_model", "ampgraph.fx_module"))


def test_the_program_begins_where_nothing_is_loaded() -> None:
    """Ctrl-C meets a quiet end from there on, see `tests/commands/test_streams.py`."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {
        "ampgraph": "ampgraph.__main__:main"
    }


def test_every_module_outside_the_dialects_is_either_middle_or_edge() -> None:
    flat = {name.removeprefix("ampgraph.") for name in MODULES if name.count(".") == 1}
    edges = {
        "__init__", "__main__", "api", "attributes", "cli", "conversion", "demo", "digits", "drawing", "exporting",
        "intercept", "painting", "quiet", "stamp", "tracing", "tuning", "tutorial", "user_code",
    }  # fmt: skip
    assert flat <= edges | set(MIDDLE), "say where the new module belongs"


INSPECTION_EDGES = {"ampgraph.inspection.files", "ampgraph.inspection.traced", "ampgraph.inspection.inspect"}


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("ampgraph.inspection.")))
def test_documents_are_built_and_shown_without_a_dialect(name: str) -> None:
    if name not in INSPECTION_EDGES:
        test_the_middle_knows_no_dialect(name)


def test_the_dialects_do_not_know_each_other() -> None:
    for name, path in MODULES.items():
        for this, other in (("onnx_model", "fx_module"), ("fx_module", "onnx_model")):
            if name.startswith(f"ampgraph.{this}"):
                assert not any(imported.startswith(f"ampgraph.{other}") for imported in imports(path))


@pytest.mark.parametrize("dialect", ["onnx_model", "fx_module"])
def test_apply_never_sees_rules(dialect: str) -> None:
    seen = reachable(f"ampgraph.{dialect}.apply")
    assert not seen & {f"ampgraph.{name}" for name in ("rule", "rulebook", "rule_text", "matching", "judge")}


def test_no_module_is_too_long_and_each_says_what_it_is() -> None:
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") < 400, name
        assert ast.get_docstring(ast.parse(text)), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    names = ["LICENSE", "README.md", "ampgraph", "pyproject.toml", "rules"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), _made(copy)], check=True)
    build = "import setuptools.build_meta as build, sys; print(build.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=copy, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def _made(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def test_the_wheel_holds_all_rules_and_tables(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    expected = {f"ampgraph/rules/{path.name}" for path in (ROOT / "rules").glob("*.toml")}
    expected |= {
        f"ampgraph/rules/targets/{path.name}" for path in (ROOT / "rules" / "targets").iterdir() if path.is_file()
    }
    expected |= {str(path.relative_to(ROOT)) for path in MODULES.values()}
    expected |= {str(path.relative_to(ROOT)) for path in (PACKAGE / "inspection" / "page" / "bundle").iterdir()}
    native = [path for path in (PACKAGE / "native").iterdir() if path.suffix in (".c", ".h", ".cu", ".ptx")]
    expected |= {str(path.relative_to(ROOT)) for path in native}
    expected |= {f"ampgraph/inspection/{path.name}" for path in (PACKAGE / "inspection").glob("*.schema.json")}
    assert expected <= inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_what_is_installed_from_the_wheel_loads_every_rule(wheel: Path, tmp_path: Path) -> None:
    """Read from the unpacked wheel, far from the sources."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import ampgraph, ampgraph.rulebook, ampgraph.kernels, ampgraph.devices; print(ampgraph.__file__);"
        "print(len(ampgraph.rulebook.load_builtin().rules), len(ampgraph.kernels.onnxruntime_cuda().kernels),"
        "len(ampgraph.devices.load_devices()))"
    )
    command = [sys.executable, "-c", script]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    place, counts = shown.splitlines()
    assert place.startswith(str(tmp_path))
    assert all(int(count) > 5 for count in counts.split())


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {requirement.partition(">")[0].partition(";")[0].strip().lower() for requirement in wanted}
    assert names <= pinned, names - pinned
    assert ampgraph.__version__ == project["version"]
