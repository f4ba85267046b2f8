"""Apache Kafka's jars from Maven Central, fetched once and whole into a cache directory."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from contracts.errors import Unavailable

# Not 4.4.0: seen on 2026-11-21, its pom asks for kafka-tools-api 4.4.0, which is not on Maven Central.
KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"  # what kafka 4.3.1 asks for; its poms leave out the SLF4J binding, so we name it
RESOLVE_WITHIN_S = 600.0

_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>\n"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>optiinfra</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{}{}</dependencies></project>
""".format(
    _DEPENDENCY.format("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    _DEPENDENCY.format("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
)
_MAVEN_FIX = "Check that repo.maven.apache.org is reachable, or name a mirror in ~/.m2/settings.xml, and start again."


def default_cache_dir() -> Path:
    """Where the jars live when nobody says otherwise."""
    return Path.home() / ".cache" / "optiinfra" / f"kafka-{KAFKA_VERSION}"


def resolve(cache_dir: Path | None = None, mvn: str = "mvn") -> Path:
    """The directory with Kafka's jars; downloads them on the first call.

    The marker `complete.json` lists every jar and its size, and the directory appears by one rename: an interrupted
    download, or a cache that lost a file, is fetched again. Raises `Unavailable` without Maven or Maven Central.
    """
    final = cache_dir or default_cache_dir()
    if _is_complete(final):
        return final / "libs"
    if shutil.which(mvn) is None:
        raise Unavailable(
            f"Apache Kafka {KAFKA_VERSION} is not yet in {final}, and Maven ({mvn}) is not installed to fetch it",
            fix="Install it (apt-get install maven), or set OPTIINFRA_KAFKA to a running broker.",
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        (work / "pom.xml").write_text(_POM, encoding="utf-8")
        # -C: a wrong checksum is an error, not a warning. -U: try again what failed to resolve before.
        command = [mvn, "-q", "-B", "-C", "-U", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        code, said = run([*command, f"-DoutputDirectory={work / 'libs'}"], RESOLVE_WITHIN_S, cwd=work)
        if code != 0:
            first = next((line for line in said.splitlines() if "ERROR" in line), said)
            raise Unavailable(f"Maven could not fetch Kafka {KAFKA_VERSION}: {first[:500]}", fix=_MAVEN_FIX)
        jars = {jar.name: jar.stat().st_size for jar in sorted((work / "libs").glob("*.jar"))}
        (work / "complete.json").write_text(json.dumps(jars, indent=1), encoding="utf-8")
        if final.exists() and not _is_complete(final):
            shutil.rmtree(final)
        with contextlib.suppress(OSError):  # another process was first: its directory is as good as ours
            work.rename(final)
        if not _is_complete(final):
            raise Unavailable(f"the jar cache {final} could not be written", fix=f"Remove it: rm -r {final}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final / "libs"


def _is_complete(cache_dir: Path) -> bool:
    try:
        jars: dict[str, int] = json.loads((cache_dir / "complete.json").read_text(encoding="utf-8"))
        return bool(jars) and all((cache_dir / "libs" / name).stat().st_size == size for name, size in jars.items())
    except (OSError, ValueError):
        return False


def run(command: list[str], timeout_s: float, cwd: Path | None = None) -> tuple[int, str]:
    """Exit code and all output; a command that is too slow is killed and counts as failed."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, cwd=cwd, timeout=timeout_s, check=False, text=True, stdin=quiet, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return 124, f"ERROR: {command[0]} took longer than {timeout_s:.0f} s"
    return done.returncode, done.stdout + done.stderr
