"""What an operator installs beside vLLM: a small wheel, which works where nothing else of ours is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.terms import Settings
from kvtier.engine.tier import DiskTier
from kvtier.serving import asked, choice, leftovers, recorder, weights
import kvtier
assert kvtier.__file__.startswith(sys.argv[1]), kvtier.__file__
with DiskTier(Path(sys.argv[2]), Settings(1 << 20, 4096, "any")) as tier:
    jobs, room = Jobs(tier), memoryview(bytearray(4096))
    for _ in range(9):
        assert jobs.store(1, [Block(b"key", memoryview(b"x" * 4096), None, 0, 16)])
        jobs.drain()
    jobs.load(2, [Block(b"key", room)])
    jobs.drain()
    assert bytes(room) == b"x" * 4096, tier.counters()
    jobs.close()
ours = {"contracts", "connectors", "streams", "rules", "agents", "dashboards", "optiinfra", "pydantic"}
print(sorted(ours & {name.split(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "-w"]
    subprocess.run([*build, folder, ROOT / "packaging" / "kvtier"], check=True)
    (found,) = folder.glob("optiinfra_kvtier-*.whl")
    return found


def test_it_holds_the_engine_the_policies_and_the_adapter_alone(wheel: Path) -> None:
    names = {Path(name).parts[:2] for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name}
    parts = ("__init__.py", "adapter", "engine", "policies", "serving")
    assert names == {("kvtier", part) for part in parts}


def test_a_tier_from_the_wheel_keeps_blocks_with_nothing_else_of_ours(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-I", "-c", USE, tmp_path / "site", tmp_path / "disk"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
