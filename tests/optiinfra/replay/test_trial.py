"""The thin command: it reads arrivals, prints the account, and names what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optiinfra.replay.trial import main
from tests.optiinfra.replay.loads import steady


def test_it_prints_the_account_and_writes_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "chat.npy", steady(8, 600))
    zone = tmp_path / "zone.json"
    zone.write_text('{"metadata": {"gap_seconds": 300}, "data": [1, 0]}')
    out = tmp_path / "result.json"
    told = [str(tmp_path / "chat.npy"), "--replicas", "4", "--scrape", "5", "--days", "0.006", "--spot", str(zone)]
    main([*told, "--json", str(out)])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["workload"] == "chat"
    assert "messages" in printed.err
    whole = json.loads(out.read_text())
    assert whole["end_s"] == 518
    assert whole["spot_losses"] == [[300, 3]]


def test_it_replays_again_without_each_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chat.txt").write_text("8\n" * 300)
    main([str(tmp_path / "chat.txt"), "--counterfactuals"])
    assert capsys.readouterr().out.count("without scale-") == 3


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path / "none.npy")])
    assert exit_.value.code == 2
    assert "none.npy" in capsys.readouterr().err
