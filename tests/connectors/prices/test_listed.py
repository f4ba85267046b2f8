"""List prices of GPU instances: both layouts are read, and what cannot be is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.prices.listed import Listed, read_listed
from contracts.errors import ConfigError

AWS = """instance_type,region,gpu_name,gpu_count,on_demand_usd_h,spot_savings_pct
p5.48xlarge,us-east-1,h100,8,55.04,52
p5.4xlarge,us-east-1,h100,1,6.88,
"""
CLOUD = """cloud,instance_type,gpu,gpu_count,region,on_demand_usd_h,spot_usd_h
nebius,h200_8,H200,8,eu-north1,28.00,11.60
nebius,h200_8,H200,8,us-central1,30.00,
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "prices.csv"
    path.write_text(text)
    return path


def test_the_spot_price_of_aws_is_so_far_below_the_list_price(tmp_path: Path) -> None:
    found = read_listed(file(tmp_path, AWS), "p5.48xlarge")
    assert found.spot_usd_per_h == pytest.approx(55.04 * 0.48)
    assert found == Listed("p5.48xlarge", "us-east-1", "h100", 8, 55.04, found.spot_usd_per_h, "prices.csv")
    assert read_listed(file(tmp_path, AWS), "p5.4xlarge").spot_usd_per_h is None


def test_other_clouds_list_it_themselves_and_by_region(tmp_path: Path) -> None:
    path = file(tmp_path, CLOUD)
    assert read_listed(path, "h200_8").spot_usd_per_h == 11.6
    assert read_listed(path, "h200_8", "us-central1") == Listed(
        "h200_8", "us-central1", "H200", 8, 30.0, None, "prices.csv"
    )


@pytest.mark.parametrize(
    ("text", "instance", "region", "words"),
    [
        (AWS, "p6", None, "no 'p6'.*It has p5.48xlarge, p5.4xlarge|no 'p6'"),
        (CLOUD, "h200_8", "mars", "no 'h200_8' in mars"),
        (AWS.replace("55.04", "dear"), "p5.48xlarge", None, "on_demand_usd_h is 'dear'"),
        (AWS.replace("52", "-1"), "p5.48xlarge", None, "spot_savings_pct is '-1'"),
        (AWS.replace("on_demand_usd_h", "price"), "p5.48xlarge", None, "no price"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, text: str, instance: str, region: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_listed(file(tmp_path, text), instance, region)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_listed(tmp_path / "none.csv", "p5.48xlarge")
