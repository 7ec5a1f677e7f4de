"""Helpers for funcX on Temporal: progress of futures. Pipelines are in `funcx_temporal.pipeline`."""

from .progress import progress, wait

__all__ = ["progress", "wait"]
