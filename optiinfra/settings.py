"""Settings: read once from flags, environment and one YAML file, checked as a whole, frozen, passed down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contracts.objectives import Objectives

ENV_PREFIX = "OPTIINFRA_"
DEFAULT_FILE = Path("optiinfra.yaml")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScrapeSettings(_Part):
    """How targets are scraped. A 10 s window must span two scrapes, hence the bound on the interval."""

    interval_s: float = Field(default=2.0, gt=0, le=5, description="event seconds between scrapes of one target")
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="wall seconds until a page that hangs is given up")
    max_page_bytes: int = Field(default=5_000_000, ge=10_000, description="larger pages are refused as `up=0`")


class TwinWorkloadSettings(_Part):
    """One simulated workload; what is left out keeps the twin's own default."""

    replicas: int | None = Field(default=None, ge=1, le=64)
    requests_per_s: float | None = Field(default=None, gt=0, le=10_000, description="mean over a day, event time")


class TwinSettings(_Part):
    """The simulated fleet, used when no targets are given. A short day shows its rise and fall within minutes."""

    seed: int = Field(default=1, ge=0)
    day_s: float = Field(default=1200.0, ge=1, description="event seconds of one simulated day")
    workloads: Annotated[dict[str, TwinWorkloadSettings], Field(max_length=32)] = {}


class Settings(BaseSettings):
    """Every setting. Precedence: flag, then environment (`OPTIINFRA_KAFKA`, `OPTIINFRA_SCRAPE__INTERVAL_S`), then
    `optiinfra.yaml`, then the default; `optiinfra.settings_load.load` merges them and remembers who won."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__", hide_input_in_errors=True
    )

    kafka: str | None = Field(default=None, description="bootstrap servers; without it an embedded broker in memory")
    clickhouse: str | None = Field(
        default=None, repr=False, description="DSN of a ClickHouse server; without it chDB, embedded, if installed"
    )
    redis: str | None = Field(default=None, repr=False, description="URL; without it a redis-server of our own, if any")
    state: Path = Field(default=Path(".optiinfra"), description="the one state directory")
    targets: tuple[Path, ...] = Field(
        default=(), description="file_sd files of your own servers; without any, the twin"
    )
    speed: float = Field(default=1.0, gt=0, le=100, description="event seconds a wall second (simulated fleet only)")
    health_port: int = Field(default=8686, ge=1, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    scrape: ScrapeSettings = ScrapeSettings()
    twin: TwinSettings = TwinSettings()
    objectives: Objectives = Field(default=Objectives(), description="what every workload promises unless it says more")
    workloads: dict[str, Objectives] = Field(default={}, description="objectives by workload name")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed over: a child process must not read the environment a second time."""
        return (init_settings,)

    @classmethod
    def from_blob(cls, blob: Mapping[str, Any]) -> Settings:
        """The settings that the supervisor handed to a child process."""
        return cls(**blob)


def masked(value: object) -> object:
    """An address fit for people's eyes: whatever stands before its last `@`, and secrets among its parameters, become
    `***`; so does all of it when it cannot be read as a URL. What is mistyped can hold a password as well.

    >>> masked("redis://app:s3cret@cache:6379/0"), masked("app:s3cret@cache:6379")
    ('redis://***@cache:6379/0', '***@cache:6379')
    """
    if not isinstance(value, str):
        return value
    _, at, place = value.rpartition("@")
    scheme = re.match(r"[a-z]+://", value, re.IGNORECASE)
    shown = f"{scheme[0] if scheme else ''}***@{place}" if at else value
    try:
        _ = urlsplit(shown).port
    except ValueError:
        return "***"
    return _PARAMETER.sub(r"\1***", shown)


_PARAMETER = re.compile(r"([?&][^=&#]*(?:pass|token|secret|key)[^=&#]*=)[^&#]*", re.IGNORECASE)
