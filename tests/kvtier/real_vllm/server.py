"""A real vLLM on the CPU with the disk tier, what it is asked, and what it tells."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from connectors.vllm.core.page import PageReader
from connectors.vllm.core.snapshot import Reading, Translator
from connectors.vllm.scraper import default_map

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VENV = Path(os.environ.get("OPTIINFRA_VLLM_VENV", ROOT / ".venv-vllm"))
PORT = 18_411
GPU_BLOCK_TOKENS, GPU_BLOCKS = 32, 79  # one more is made, and never used
BLOCK_TOKENS = 64
BLOCK_BYTES = 64 * 1024  # 2 layers, 2 heads of 64, keys and values, bf16
FROM_DISK = ("vllm:prompt_tokens_cached_by_source_total", {"source": "disk"})
CHUNK_HITS = ("vllm:kv_offload_tiering_chunk_hits_total", {"tier": "1:OptiInfraDiskTier"})


def made(folder: Path) -> Path:
    """A small model with random weights, in `folder`."""
    subprocess.run([VENV / "bin/python", HERE / "tiny.py", folder], check=True, capture_output=True)
    return folder


def tiered(disk: Path, cap_gb: float, **tier: object) -> list[str]:
    """Flags of a server with the disk tier, and little memory above it."""
    own = {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": str(disk), "cap_gb": cap_gb}
    extra = {"spec_name": "HostCopySpec", "spec_module_path": "hostcopy", "cpu_bytes_to_use": 2 << 20, "block_size": 64}
    transfer = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": extra | {"secondary_tiers": [own | {"policy": "lru"} | tier]},
    }
    return ["--kv-transfer-config", json.dumps(transfer)]


@contextmanager
def served(model: Path, log: Path, flags: Sequence[str]) -> Iterator[None]:
    """A server whose GPU holds 79 blocks, so that what is asked for again comes from elsewhere. Ended by kill -9."""
    fixed = "--dtype bfloat16 --max-model-len 2048 --max-num-seqs 16 --enforce-eager"
    command = [str(VENV / "bin/vllm"), "serve", str(model), *fixed.split(), "--block-size", str(GPU_BLOCK_TOKENS)]
    command += ["--num-gpu-blocks-override", str(GPU_BLOCKS + 1), "--host", "127.0.0.1", "--port", str(PORT), *flags]
    around = {
        "PYTHONPATH": f"{ROOT}:{HERE}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    _await_port()
    with log.open("wb") as told:
        server = subprocess.Popen(command, env=os.environ | around, stdout=told, stderr=told, start_new_session=True)
        try:
            _wait(server, log)
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            for left in Path("/dev/shm").glob("vllm_offload_*"):
                left.unlink()


def _await_port() -> None:
    """Children of a killed server hold its port a moment longer; one that was left behind would answer in our stead."""
    for _ in range(20):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", PORT))
                return
            except OSError:
                time.sleep(0.5)
    pytest.fail(f"port {PORT} is taken: end the server that was left behind")


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}: {log.read_text()[-4000:]}")
        try:
            urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(1)
    pytest.fail("the server did not come up")


def answer(document: int, question: str = "") -> str:
    """What the server says to a document of some ten blocks, and a question about it, greedily."""
    numbers = ((document * 37 + n) % 3000 for n in range(70))
    words = " ".join(f"word{number} speaks of {number**2} things" for number in numbers)
    body = {"prompt": f"topic {document}: {words} {question}".strip(), "max_tokens": 16, "temperature": 0}
    request = Request(f"http://127.0.0.1:{PORT}/v1/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=120) as response:
        return str(json.load(response)["choices"][0]["text"])


def page() -> bytes:
    """The metrics page, once the server has had a moment to tell."""
    time.sleep(2)
    with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as response:
        return bytes(response.read())


def metric(name: str, labels: dict[str, str] | None = None, raw: bytes = b"") -> float:
    """The sum of a metric's samples that have these labels, as OptiInfra's reader of pages reads them."""
    found = PageReader({name}).read(raw or page())
    wanted = (labels or {}).items()
    pairs = zip(found.shape.samples, found.values, strict=True)
    return sum(value for key, value in pairs if wanted <= dict(key.labels).items())


def ours(name: str, raw: bytes = b"") -> float:
    """One of the tier's own metrics."""
    return metric(f"vllm:kv_offload_optiinfra_disk_{name}", raw=raw)


def scraped(raw: bytes) -> Reading:
    """What OptiInfra's scraper makes of a page."""
    names = default_map()
    return Translator(names).translate(PageReader(names.wanted, prefix=names.prefix).read(raw))
