"""Provides the fixtures that make and write evaluation results."""

from tests.evaluation_results import make_result, write

__all__ = ["make_result", "write"]
