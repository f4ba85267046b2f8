"""How long a scrape takes to become an SLI: a whole `optiinfra up`, against Prometheus with a recording rule.

Both scrape the same simulated fleet every 2 s, at the same time. Prometheus evaluates its rules every second; its
latency is from the time of a scrape to the first moment at which the recorded series shows it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from bench.report import Row, report
from optiinfra.plan import free_port

RUN_S = 60
RULE = "optiinfra_bench:newest_scrape_s"
CONFIG = """
global: {{scrape_interval: 2s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: twin
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
"""
# The quantile is what OptiInfra computes too; the second rule tells which scrape it has seen.
RULES = f"""
groups:
  - name: bench
    rules:
      - record: optiinfra_bench:ttft_p95_s
        expr: >-
          histogram_quantile(0.95, sum by (workload, le)
          (rate({{__name__="vllm:time_to_first_token_seconds_bucket"}}[10s])))
      - record: {RULE}
        expr: max(timestamp({{__name__="vllm:num_requests_running"}}))
"""


def prometheus(scratch: Path, targets: Path) -> tuple[subprocess.Popen[bytes], int] | None:
    """Prometheus on a free loopback port, or None where it is not installed."""
    binary = shutil.which("prometheus")
    if binary is None:
        return None
    port = free_port()
    (scratch / "rules.yml").write_text(RULES)
    (scratch / "prometheus.yml").write_text(CONFIG.format(targets=targets))
    command = [binary, f"--config.file={scratch / 'prometheus.yml'}", f"--storage.tsdb.path={scratch / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), port


def newest_scrape_s(port: int) -> float | None:
    """What the recorded series says now."""
    query = urllib.parse.urlencode({"query": RULE})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=1) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return None
    return float(found[0]["value"][1]) if found else None


def watch(port: int, until_s: float) -> list[float]:
    """Latencies from scrape to recorded sample, one for each scrape that the rule newly shows."""
    seen, latencies = 0.0, []
    while time.monotonic() < until_s:
        newest = newest_scrape_s(port)
        if newest is not None and newest > seen:
            if seen:
                latencies.append(time.time() - newest)
            seen = newest
        time.sleep(0.01)
    return latencies


def quantile(values: list[float], q: float) -> float | None:
    """The value at rank q of raw values."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else None


def main() -> None:
    """Run both for a minute and compare."""
    with tempfile.TemporaryDirectory(prefix="optiinfra-bench-") as name:
        scratch = Path(name)
        out, state = scratch / "report.json", scratch / "state"
        command = [sys.executable, "-m", "optiinfra", "up", "--headless", "--for", f"{RUN_S}s", "--json", str(out)]
        ours = subprocess.Popen(
            [*command, "--state", str(state), "--port", str(free_port())], stdout=subprocess.DEVNULL
        )
        peer = prometheus(scratch, state / "twin" / "targets.json")
        latencies: list[float] = []
        try:
            if peer is not None:
                latencies = watch(peer[1], time.monotonic() + RUN_S)
            code = ours.wait()
        finally:
            ours.terminate()
            ours.wait()
            if peer is not None:
                peer[0].terminate()
                peer[0].wait()
        if code != 0:
            raise RuntimeError(f"optiinfra up ended with code {code}")
        told = json.loads(out.read_text(encoding="utf-8"))
    if peer is None:
        print("prometheus is not installed (Debian: apt install prometheus): no peer in this run")
    rows: list[Row] = []
    for label, q in (("p50", 0.5), ("p99", 0.99)):
        mine, other = told["latency_s"][f"scrape_to_sli_{label}"], quantile(latencies, q)
        rows.append(
            {
                "name": f"scrape → SLI {label}, {told['scrapes']} scrapes, broker {told['broker']}",
                "value": mine,
                "unit": "s",
                "peer": "Prometheus, rule every second" if other is not None else None,
                "peer_value": other,
                "ratio": other / mine if other is not None and mine else None,
            }
        )
    report("latency", rows)


if __name__ == "__main__":
    main()
