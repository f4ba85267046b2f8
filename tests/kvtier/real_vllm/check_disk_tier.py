"""The disk tier in a real vLLM on the CPU (`make test-vllm`): blocks are written, served after a kill -9, evicted under
a cap, and computed anew where the slab was damaged; what the server answers is always what it answered cold."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VENV = Path(os.environ.get("OPTIINFRA_VLLM_VENV", ROOT / ".venv-vllm"))
PORT = 18_411
PROMPTS = 16
BLOCK_BYTES = 64 * 1024  # 64 tokens of 2 layers, 2 heads of 64, keys and values, bf16
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([VENV / "bin/python", HERE / "tiny.py", folder], check=True, capture_output=True)
    return folder


@contextmanager
def served(model: Path, disk: Path, cap_gb: float) -> Iterator[None]:
    """A server with little memory, so that what is asked for again comes from disk. Ended by kill -9."""
    tier = {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": str(disk), "cap_gb": cap_gb}
    extra = {"spec_name": "HostCopySpec", "spec_module_path": "hostcopy", "cpu_bytes_to_use": 2 << 20, "block_size": 64}
    transfer = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": extra | {"secondary_tiers": [tier | {"policy": "lru"}]},
    }
    flags = "--dtype bfloat16 --max-model-len 2048 --max-num-seqs 16 --enforce-eager --block-size 32"
    command = [VENV / "bin/vllm", "serve", model, *flags.split(), "--num-gpu-blocks-override", "80"]
    command += ["--host", "127.0.0.1", "--port", str(PORT), "--kv-transfer-config", json.dumps(transfer)]
    around = {
        "PYTHONPATH": f"{ROOT}:{HERE}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = (disk.parent / "server.log").open("ab")
    server = subprocess.Popen(command, env=os.environ | around, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(server)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()
        for left in Path("/dev/shm").glob("vllm_offload_*"):
            left.unlink()


def _wait(server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}: see server.log")
        try:
            urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(1)
    pytest.fail("the server did not come up")


def answers() -> list[str]:
    """What the server says to every prompt, greedily."""
    told = []
    for number in range(PROMPTS):
        words = (
            f"word{(number * 37 + n) % 3000} speaks of {((number * 37 + n) % 3000) ** 2} things" for n in range(70)
        )
        body = {"prompt": f"topic {number}: " + " ".join(words), "max_tokens": 16, "temperature": 0}
        request = Request(f"http://127.0.0.1:{PORT}/v1/completions", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=120) as response:
            told.append(json.load(response)["choices"][0]["text"])
    return told


def metric(pattern: str) -> float:
    """The sum of the samples whose name and labels match, once the server has had a moment to tell."""
    time.sleep(2)
    with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as response:
        page = response.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(pattern, line))


FROM_DISK = r'vllm:prompt_tokens_cached_by_source_total\{.*source="disk"'
OURS = r"vllm:kv_offload_optiinfra_disk_"


def test_a_real_server_keeps_its_prefixes_over_a_kill_and_recomputes_what_is_damaged(
    model: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with served(model, disk, cap_gb=0.1):
        cold = answers()
        written = metric(OURS + "blocks")
        assert written > 5 * PROMPTS
        assert metric(FROM_DISK) == 0
        assert answers() == cold
        assert metric(FROM_DISK) == pytest.approx(written * 64, rel=0.1)
    with served(model, disk, cap_gb=0.1):
        assert answers() == cold
        assert metric(OURS + "recovered_blocks_total") == written
        assert metric(FROM_DISK) == pytest.approx(written * 64, rel=0.1)
    _damage(next(disk.glob("*/slab-00000.kv")), round(written))
    with served(model, disk, cap_gb=0.1):
        assert answers() == cold
        assert metric(OURS + "corrupt_blocks_total") >= PROMPTS
        assert metric(FROM_DISK) < written * 64 / 2


def test_a_real_server_evicts_under_a_cap_that_holds(model: Path, tmp_path: Path) -> None:
    disk, cap_gb = tmp_path / "disk", 0.005
    with served(model, disk, cap_gb):
        cold = answers()
        assert answers() == cold
        assert metric(OURS + "evicted_blocks_total") > 50
        assert metric(OURS + "blocks") == metric(OURS + "slots") > 50
        assert sum(path.stat().st_size for path in disk.rglob("*")) <= cap_gb * 1e9 + 3 * 4096


def _damage(slab: Path, blocks: int) -> None:
    raw, chance = bytearray(slab.read_bytes()), Random(1)
    for block in range(0, blocks, 2):
        raw[block * BLOCK_BYTES + chance.randrange(BLOCK_BYTES)] ^= 1 << chance.randrange(8)
    slab.write_bytes(raw)
