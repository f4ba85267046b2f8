"""A recorded trace behind a workload of the simulated fleet: what the settings say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from connectors.twin.profiles import BLOCK_TOKENS
from contracts.errors import ConfigError
from optiinfra.settings import Settings, TwinSettings, TwinWorkloadSettings
from optiinfra.wiring.sensing import twin_fed
from tests.connectors.traces import tables
from tests.optiinfra.replay import singles


def settings(**workloads: TwinWorkloadSettings) -> Settings:
    return Settings(twin=TwinSettings(workloads=workloads))


def test_a_workload_with_a_trace_is_fed_from_it_and_the_others_are_not(tmp_path: Path) -> None:
    found = singles.requests(60, 2.0)
    path = singles.azure(tmp_path / "a.csv", found)
    specs, feeds = twin_fed(settings(chat=TwinWorkloadSettings(trace=path, speed=2.0, replicas=4)))
    assert set(feeds) == {"chat"}
    assert len(feeds["chat"].trace) == len(found)
    assert feeds["chat"].speed == 2.0
    chat, code = specs
    assert (chat.name, chat.replicas, code.name) == ("chat", 4, "code")
    assert chat.engine.hash_tokens == BLOCK_TOKENS


def test_blocks_of_a_mooncake_trace_are_known_to_the_engine_by_their_size(tmp_path: Path) -> None:
    path = singles.mooncake(tmp_path / "m.jsonl", singles.requests(60, 2.0, shared=True))
    specs, feeds = twin_fed(settings(talk=TwinWorkloadSettings(trace=path)))
    (talk,) = [spec for spec in specs if spec.name == "talk"]
    assert talk.engine.hash_tokens == 512
    assert feeds["talk"].trace.hashes


def test_a_trace_of_rates_alone_feeds_nobody(tmp_path: Path) -> None:
    folder = tables.servegen(tmp_path / "s", ["chat,0,2", "chat,600,2"], None)
    with pytest.raises(ConfigError, match="no single requests"):
        twin_fed(settings(chat=TwinWorkloadSettings(trace=folder)))
    with pytest.raises(ConfigError, match="cannot be opened"):
        twin_fed(settings(chat=TwinWorkloadSettings(trace=tmp_path / "none.csv")))


@pytest.mark.parametrize(
    "wrong",
    [{"trace": "a.csv", "requests_per_s": 2.0}, {"speed": 2.0}, {"trace_model": "gpt"}, {"trace": "a.csv", "speed": 0}],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TwinWorkloadSettings.model_validate(wrong)
