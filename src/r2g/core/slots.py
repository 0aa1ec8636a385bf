"""The slots of the platform: which package holds the choices of which group."""

from typing import Any

from r2g.core.registry import Registry

ENCODERS: Registry[Any] = Registry("encoder", "encoders")
PROJECTORS: Registry[Any] = Registry("projector", "projectors")
LLMS: Registry[Any] = Registry("llm", "llms")
ADAPTERS: Registry[Any] = Registry("adapter", "adapters")
DATASETS: Registry[Any] = Registry("dataset", "datasets")
METRICS: Registry[Any] = Registry("metric", "metrics")
TRACKERS: Registry[Any] = Registry("tracker", "trackers")

ALL = (ENCODERS, PROJECTORS, LLMS, ADAPTERS, DATASETS, METRICS, TRACKERS)
