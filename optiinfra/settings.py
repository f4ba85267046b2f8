"""Settings: read once from flags, environment and one YAML file, checked as a whole, frozen, passed down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contracts.events import Mode, Severity
from contracts.laws.gateway_limits import LEAST_CONTEXT_TOKENS
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
    trace: Path | None = Field(
        default=None, description="recorded requests, round and round: Azure, Mooncake, BurstGPT"
    )
    trace_model: str | None = Field(default=None, description="which model of a BurstGPT trace; without it all")
    speed: float = Field(default=1.0, gt=0, le=1000, description="seconds of the trace in an event second")

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if self.trace is not None and self.requests_per_s is not None:
            raise ValueError("trace and requests_per_s exclude each other; a trace is made denser by speed")
        if self.trace is None and (self.speed != 1.0 or self.trace_model is not None):
            raise ValueError("speed and trace_model speak of a trace, and there is none")
        return self


class TwinSettings(_Part):
    """The simulated fleet, used when no targets are given. A short day shows its rise and fall within minutes."""

    seed: int = Field(default=1, ge=0)
    day_s: float = Field(default=3600.0, ge=1, description="event seconds of one simulated day")
    workloads: Annotated[dict[str, TwinWorkloadSettings], Field(max_length=32)] = {}


class LimitSettings(_Part):
    """How far the platform may go with one workload; seconds are event time. Cooldowns and the step down are those of
    the requirements (60 s up, 300 s down, 20 %)."""

    min_replicas: int | None = Field(default=None, ge=1, le=10_000, description="never fewer; needed to act alone")
    max_replicas: int | None = Field(default=None, ge=1, le=10_000, description="never more; needed to act alone")
    max_step_down_ratio: float = Field(default=0.2, gt=0, le=1, description="of the replicas at once, one at least")
    max_step_up_ratio: float = Field(
        default=2.0, gt=0, le=10, description="of the replicas, by all orders that are under way together; two at least"
    )
    up_cooldown_s: float = Field(default=60.0, ge=0, le=86_400)
    down_cooldown_s: float = Field(default=300.0, ge=0, le=86_400)
    turns_a_day: float = Field(
        default=36.0, gt=0, le=300, description="from growing to falling or back; the more, the cheaper (scaler)"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas and self.max_replicas and self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


class EngineSettings(_Part):
    """The flags of vLLM with which the replicas of a workload were started; metrics do not tell them."""

    max_num_seqs: int = Field(ge=1, le=100_000)
    max_num_batched_tokens: int = Field(ge=1, le=10_000_000)
    tensor_parallel: int = Field(default=1, ge=1, le=1024, description="GPUs of one replica")
    kv_offloading_size: int = Field(default=0, ge=0, le=65_536, description="GiB of host memory for KV blocks")
    kv_disk_gb: int = Field(default=0, ge=0, le=10_000_000, description="GB of disk behind that")
    max_model_len: int | None = Field(
        default=None, ge=1, le=100_000_000, description="longest prompt and output together, tokens"
    )


class TierSettings(_Part):
    """The KV tiers that the replicas of a workload shall have, as `optiinfra kv plan` recommends them. Event seconds: a
    canary fills its caches for `warm_s`, and is compared with the rest for `watch_s` after that."""

    kv_offloading_size: int = Field(ge=0, le=65_536, description="GiB of host memory for KV blocks, 0 for no tiers")
    kv_disk_gb: int = Field(default=0, ge=0, le=10_000_000, description="GB of disk behind that")
    warm_s: float = Field(default=900.0, ge=60, le=86_400)
    watch_s: float = Field(default=1800.0, ge=300, le=86_400)

    @model_validator(mode="after")
    def _through_host(self) -> Self:
        if self.kv_disk_gb and not self.kv_offloading_size:
            raise ValueError("kv_disk_gb without kv_offloading_size: a disk tier is loaded through host memory")
        return self


class GatewaySettings(_Part):
    """The proxy or router before the replicas of a workload; what it must answer stands in `docs/gateway.md`. Requests
    of up to `least_context_tokens` tokens, prompt and answer, are never refused for their length."""

    url: str = Field(repr=False, description="http://host:port, below which /limits/{workload} is asked")
    timeout_s: float = Field(default=5.0, gt=0, le=20, description="wall seconds a request")
    least_context_tokens: int = Field(default=LEAST_CONTEXT_TOKENS, ge=256, le=100_000_000)


class FleetSettings(_Part):
    """How much may be done to the whole fleet at once."""

    actions_in_flight: int = Field(default=4, ge=1, le=1000)
    actions_per_hour: int = Field(default=60, ge=1, le=100_000, description="begun in an hour of wall time")


class ReviewSettings(_Part):
    """Who judges what rules propose. `auto` is the LLM where a key or a base URL is given, else deterministic."""

    reviewer: Literal["auto", "deterministic", "llm"] = "auto"
    model: str = Field(default="gpt-5-mini", min_length=1, max_length=200)
    base_url: str | None = Field(default=None, description="an OpenAI-compatible server; also OPENAI_BASE_URL")
    api_key: str | None = Field(default=None, repr=False, description="also OPENAI_API_KEY")
    timeout_s: float = Field(
        default=10.0, gt=0, le=60, description="wall seconds a call; a review has three times that"
    )
    usd_per_million_in: float = Field(default=0.0, ge=0, description="price of input tokens, for the record of costs")
    usd_per_million_out: float = Field(default=0.0, ge=0)

    @property
    def wants_llm(self) -> bool:
        """Whether a model shall judge."""
        told = self.api_key is not None or self.base_url is not None
        return self.reviewer == "llm" or (self.reviewer == "auto" and told)


class AlertSettings(_Part):
    """Where alerts go beside the screen and the log."""

    webhook: str | None = Field(default=None, repr=False, description="URL that gets each alert by POST")
    secret: str | None = Field(default=None, repr=False, description="signs webhooks: whsec_ and base64")
    min_severity: Severity = Severity.WARNING


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
    mode: Mode | None = Field(
        default=None, description="who acts; without it autonomous on the twin, advisory with targets of your own"
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="of every workload that has none of its own")
    workload_limits: Annotated[
        dict[str, LimitSettings], Field(max_length=1000, description="by workload; what one leaves out is as in limits")
    ] = {}
    fleet: FleetSettings = FleetSettings()
    engines: Annotated[dict[str, EngineSettings], Field(max_length=1000)] = Field(
        default={}, description="by workload, how its replicas were started; without it no setting is tried on them"
    )
    tiers: Annotated[dict[str, TierSettings], Field(max_length=1000)] = Field(
        default={}, description="by workload, the KV tiers that its replicas shall have; tried on one of them first"
    )
    gateways: Annotated[dict[str, GatewaySettings], Field(max_length=1000)] = Field(
        default={}, description="by workload, what stands before its replicas; without it the rules only recommend"
    )
    rules: tuple[Path, ...] = Field(default=(), description="rule packs; without any, those that come with it")
    rule_engine: Literal["auto", "durable", "python"] = Field(
        default="auto", description="auto: durable_rules where it is installed, else the reference evaluator"
    )
    review: ReviewSettings = ReviewSettings()
    alerts: AlertSettings = AlertSettings()
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

    @property
    def acting_mode(self) -> Mode:
        """The mode that holds where nobody has set another: the platform acts by itself on a simulated fleet alone."""
        return self.mode or (Mode.ADVISORY if self.targets else Mode.AUTONOMOUS)

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
