"""Workloads as they are told beforehand: one model behind one router, its engines and its load."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.twin.load import CODE_IN, CODE_OUT, Gaps, LoadSpec
from connectors.twin.profiles import LLAMA_70B_4XH100
from connectors.twin.spec import EngineSpec


@dataclass(frozen=True)
class WorkloadSpec:
    """One model behind one router, with its load."""

    name: str
    model: str
    replicas: int
    load: LoadSpec
    engine: EngineSpec = field(default_factory=EngineSpec)
    route: str = "/v1/chat/completions"
    startup_s: float = LLAMA_70B_4XH100.startup_s()


def default_workloads(day_s: float = 86_400.0) -> tuple[WorkloadSpec, ...]:
    """Chat on three replicas and code on two, both of the 70B shape that the coefficients were measured on.

    Rates are set so that most of a day meets TTFT 0.5 s and inter-token 0.1 s, and the peak and bursts queue.
    """
    code = LoadSpec(2.0, CODE_IN, CODE_OUT, Gaps.WEIBULL, 2.2, day_s, 0.35, shared_ratio=0.95, prefixes=16)
    return (
        WorkloadSpec("chat", "meta-llama/Llama-3.1-70B-Instruct", 3, LoadSpec(4.5, day_s=day_s, phase=0.42)),
        WorkloadSpec("code", "meta-llama/Llama-3.3-70B-Instruct", 2, code, route="/v1/completions"),
    )
