"""`make clean`: nothing is pulled away under a running `up`, and Kafka's data stays unless asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from optiinfra.statedir import StateDir

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def clean(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-f", str(MAKEFILE), "clean", f"PYTHON={sys.executable}", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def test_it_refuses_while_an_up_runs_and_then_keeps_the_data_of_kafka(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    state = StateDir(tmp_path / ".optiinfra")
    (state.sub("kafka") / "segment.log").write_text("")
    with state.owned():
        refused = clean(tmp_path)
        assert refused.returncode != 0
        assert "optiinfra runs here" in refused.stderr
        assert (tmp_path / ".venv").is_dir()
        state.check_owned()
    assert clean(tmp_path).returncode == 0
    assert not (tmp_path / ".venv").exists()
    assert [entry.name for entry in state.path.iterdir()] == ["kafka"]
    assert clean(tmp_path, "KAFKA_TOO=1").returncode == 0
    assert list(state.path.iterdir()) == []
    assert clean(tmp_path).returncode == 0
