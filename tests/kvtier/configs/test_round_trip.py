"""What `write` writes, `lint` finds nothing wrong in, and it asks for no more than was wanted."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from kvtier.configs.commands import commands
from kvtier.configs.lint import lint
from kvtier.configs.terms import Machine, Severity
from kvtier.configs.writing import Wanted, write
from tests.kvtier.configs.linted import GIB

RELEASES: dict[str, list[tuple[int, ...]]] = {
    "vllm": [(0, minor) for minor in range(11, 34)],
    "lmcache": [(0, 3, 9), (0, 3, 15), (0, 4, 1), (0, 4, 3), (0, 4, 7), (0, 5), (0, 5, 6)],
    "kvbm": [(0, 7), (1, 0), (1, 6, 1)],
}


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    system = draw(st.sampled_from(sorted(RELEASES)))
    block = draw(st.sampled_from([16, 32, 48, 256]))
    memory = draw(st.integers(GIB, 2048 * GIB))
    disk = draw(st.one_of(st.just(0), st.integers(memory, 100 * 10**12)))
    return Wanted(
        system=system,
        release=draw(st.sampled_from(RELEASES[system])),
        memory_bytes=memory,
        disk_bytes=disk,
        folder=draw(st.sampled_from(["/mnt/nvme/kv", "/srv/it's here"])) if disk else "",
        policy=draw(st.sampled_from(["lru", "arc"])),
        block_tokens=block,
        chunk_tokens=block * draw(st.integers(0, 8)),
        workers=draw(st.sampled_from([1, 2, 8])),
        token_bytes=draw(st.sampled_from([0, 131072])),
    )


def machine(want: Wanted) -> Machine:
    """The release that was asked for, on a machine that has just the room that was given."""
    release = ".".join(map(str, want.release))
    return Machine(
        versions={want.system: release},
        host_bytes=want.memory_bytes,
        disk_free=lambda _: want.disk_bytes,
        kv_bytes=lambda tokens: tokens * 131072,
        block_tokens=want.block_tokens,
    )


@given(wanted())
def test_what_is_written_is_sound_on_a_machine_with_just_that_room(want: Wanted) -> None:
    try:
        written = write(want)
    except ConfigError:  # that release cannot do it; what is said then is tested below
        return
    text = written.text
    if want.system == "lmcache" and written.form == "yaml":  # its sizes are of each worker
        settings = {f"LMCACHE_{key.upper()}": value for key, value in yaml.safe_load(text).items()}
        env = " ".join(f'{key}="{value}"' for key, value in settings.items())
        worse = lint([("file", f"{env} vllm serve m -tp {want.workers}")], machine(want))
        assert [each for each in worse if each.severity is not Severity.NOTE] == []
    worse = lint([("file", text)], machine(want))
    assert [each for each in worse if each.severity is not Severity.NOTE] == []


@pytest.mark.parametrize("release", RELEASES["vllm"])
def test_every_release_of_vllm_gets_memory(release: tuple[int, ...]) -> None:
    text = write(Wanted("vllm", release, 64 * GIB, token_bytes=131072)).text
    extra = json.loads(commands(text)[0].flags["kv-transfer-config"][0])["kv_connector_extra_config"]
    assert extra == ({"num_cpu_blocks": 32768} if release < (0, 14) else {"cpu_bytes_to_use": 64 * GIB})


@pytest.mark.parametrize(
    ("want", "where"),
    [
        (Wanted("tgi", (1, 0), GIB), "--for"),
        (Wanted("vllm", (0, 10), GIB), "--version"),
        (Wanted("vllm", (0, 13), GIB), "--model"),
        (Wanted("vllm", (0, 13), 2**20, token_bytes=131072), "--memory"),
        (Wanted("vllm", (0, 32), 64), "--memory"),
        (Wanted("vllm", (0, 32), GIB, disk_bytes=10**12), "--disk"),
        (Wanted("vllm", (0, 32), GIB, folder="/kv"), "--disk"),
        (Wanted("vllm", (0, 30), GIB, disk_bytes=10**12, folder="/kv"), "--disk"),
        (Wanted("vllm", (0, 32), GIB, policy="lfu"), "--policy"),
        (Wanted("vllm", (0, 11), GIB, policy="arc", token_bytes=1), "--policy"),
        (Wanted("vllm", (0, 32), GIB, chunk_tokens=40), "--chunk"),
        (Wanted("lmcache", (0, 5, 4), GIB, disk_bytes=10**12, folder="/kv", policy="arc"), "--policy"),
        (Wanted("kvbm", (1, 6), GIB, policy="arc"), "--policy"),
        (Wanted("kvbm", (1, 6), GIB, chunk_tokens=64), "--chunk"),
        (Wanted("kvbm", (1, 6), GIB, disk_bytes=10**9, folder="/kv"), "--disk"),
    ],
)
def test_what_a_release_cannot_do_is_refused_with_the_flag_to_change(want: Wanted, where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        write(want)
    assert refused.value.where == where
    assert refused.value.fix


def test_a_disk_tier_on_a_release_on_which_it_was_not_run_says_so() -> None:
    def notes(release: tuple[int, ...]) -> str:
        return " ".join(write(Wanted("vllm", release, GIB, disk_bytes=10**12, folder="/kv")).notes)

    assert "not on 0.31" in notes((0, 31))
    assert "not on" not in notes((0, 32, 1))
