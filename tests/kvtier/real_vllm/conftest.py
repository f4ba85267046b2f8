"""One small model for all checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kvtier.real_vllm import server


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers."""
    return server.made(tmp_path_factory.mktemp("model"))
