"""The house rules that no linter knows: layout, names, laws with two users, words that have no place here."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "connectors", "streams", "rules", "agents", "dashboards", "kvtier", "optiinfra")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from (ROOT / package).rglob("*.py")


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def requirements() -> list[str]:
    """Names of all distributions that the project asks for, in lower case."""
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(spec for extra in project["optional-dependencies"].values() for spec in extra),
    ]
    return [re.split(r"[^A-Za-z0-9._-]", spec)[0].lower() for spec in wanted]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_import_name_is_ours(package: str) -> None:
    """A distribution of somebody else with a top-level module of this name would hide ours, or be hidden by it."""
    providers = {name.lower() for name in importlib.metadata.packages_distributions().get(package, [])}
    assert providers <= {PROJECT["project"]["name"]}


def test_modules_stay_short() -> None:
    long = {str(p.relative_to(ROOT)): n for p in modules(*PACKAGES) if (n := len(p.read_text().splitlines())) > 400}
    assert not long, f"split along a noun: {long}"


def test_every_module_opens_with_a_sentence() -> None:
    silent = [str(p.relative_to(ROOT)) for p in modules(*PACKAGES) if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


def test_only_the_settings_read_the_environment() -> None:
    allowed = {"optiinfra/settings.py", "optiinfra/settings_load.py"}
    readers = {
        str(p.relative_to(ROOT))
        for p in modules(*PACKAGES)
        if re.search(r"\bos\.(environ|getenv)\b", p.read_text()) or "from os import environ" in p.read_text()
    }
    assert readers <= allowed


def test_every_law_has_two_users() -> None:
    laws = {p.stem for p in (ROOT / "contracts/laws").glob("*.py")} - {"__init__"}
    users: dict[str, set[str]] = {law: set() for law in laws}
    for path in modules(*PACKAGES):
        owner = path.relative_to(ROOT).parts[0]
        parts = path.relative_to(ROOT).parts
        if parts[:2] == ("contracts", "laws"):
            continue
        owner = "/".join(parts[:2]) if owner == "connectors" else owner
        for name in imports(path):
            law = name.removeprefix("contracts.laws.").split(".")[0]
            if name.startswith("contracts.laws.") and law in laws:
                users[law].add(owner)
    lonely = {law: sorted(who) for law, who in users.items() if len(who) < 2}
    assert not lonely, f"a law with one user belongs to that user: {lonely}"


def test_only_streams_imports_faust() -> None:
    def uses_faust(path: Path) -> bool:
        return any(name.split(".")[0] in ("faust", "mode") for name in imports(path))

    assert any(uses_faust(path) for path in modules("streams"))
    assert [str(path) for path in modules(*(p for p in PACKAGES if p != "streams")) if uses_faust(path)] == []


def test_the_twins_coefficients_stay_with_the_twin() -> None:
    outside = [
        str(p.relative_to(ROOT))
        for p in modules(*PACKAGES)
        if any("twin.coefficients" in name or "twin.profiles" in name for name in imports(p))
        and "connectors/twin" not in str(p)
    ]
    assert not outside


def test_every_dependency_has_its_line() -> None:
    listed = (ROOT / "docs/dependencies.md").read_text()
    assert {name for name in requirements() if f"`{name}`" not in listed} == set()


def test_nothing_that_clashes_on_pypi_is_depended_on() -> None:
    wanted = set(requirements())
    assert "pyyaml" in wanted
    assert wanted & {"openai-agents", "agents", "rules", "connectors", "contracts", "streams"} == set()


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_no_path_of_somebodys_machine_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = re.compile(r"/(home|root|Users|work)/\w")
    guilty = [
        name
        for name in tracked
        if (ROOT / name).suffix in {".py", ".md", ".toml", ".yaml", ".yml"}
        and name != "tests/house/test_house.py"
        and (ROOT / name).exists()
        and paths.search((ROOT / name).read_text())
    ]
    assert not guilty
