"""The evaluation results that these tests share."""

from tests.evaluation_results import make_result, write

__all__ = ["make_result", "write"]
