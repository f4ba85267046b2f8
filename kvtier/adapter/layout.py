"""What the bytes of a block depend on."""

from __future__ import annotations

import json
from typing import Any

import vllm
from vllm.v1.kv_offload.file_mapper import FileMapper

from kvtier.serving.weights import weights_of


def layout_of(root_dir: str, spec: Any) -> str:
    """Servers for which all of this is the same can use one another's blocks."""
    fields = FileMapper.from_offloading_spec(
        root_dir, spec, spec.blocks_per_chunk, parallel_agnostic=True
    ).get_run_config()
    fields["kv_cache_layout"] = getattr(spec.config, "kv_cache_layout", None)
    fields["model_revision"] = getattr(spec.config.model, "revision", None)
    fields["vllm_version"] = getattr(vllm, "__version__", None)
    if weights := weights_of(str(spec.config.model.name)):
        fields["model_files"] = weights
    return json.dumps(fields, sort_keys=True, default=str)
