"""Weights that were changed in their folder are other weights; a copy that kept its times is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kvtier.serving.weights import weights_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "README.md"):
        (folder / name).write_text(name)
    return folder


def test_a_model_of_a_hub_has_no_files(tmp_path: Path) -> None:
    assert weights_of("meta-llama/Llama-3.1-8B") == weights_of(str(tmp_path)) == []


def test_weights_that_are_replaced_are_others_and_what_stands_beside_them_does_not_count(model: Path) -> None:
    before = weights_of(str(model))
    assert [name for name, *_ in before] == ["config.json", "model-1.safetensors", "model-2.safetensors"]
    (model / "README.md").write_text("read this")
    assert weights_of(str(model)) == before
    for change in ("same bytes, later", "longer", "one more"):
        if change == "longer":
            (model / "config.json").write_text("{}" * 99)
        elif change == "one more":
            (model / "model-3.safetensors").write_text("")
        else:
            os.utime(model / "model-2.safetensors", ns=(1, 1))
        assert weights_of(str(model)) != before, change
        before = weights_of(str(model))


def test_links_count_as_what_they_lead_to_and_a_copy_with_its_times_is_the_same(model: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for path in model.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    shutil.copytree(model, tmp_path / "copy")
    assert weights_of(str(model)) == weights_of(str(tmp_path / "links")) == weights_of(str(tmp_path / "copy"))
