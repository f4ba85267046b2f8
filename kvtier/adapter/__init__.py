"""vLLM's face of the disk tier: a secondary tier of `TieringOffloadingSpec`, named in `--kv-transfer-config` alone.

    {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": "/mnt/nvme/kv", "cap_gb": 500}

Written for and run on the API of vLLM 0.32 (`SecondaryTierManager` with `LookupResult`, `TransferJob`, `chunk_ids`); it
refuses others by name. The scheduler calls it, so nothing here waits for the disk. A tier that cannot be opened, or
whose disk fails, is one that never has a block: the server lives.
"""

from kvtier.adapter.tier import OptiInfraDiskTier

__all__ = ["OptiInfraDiskTier"]
