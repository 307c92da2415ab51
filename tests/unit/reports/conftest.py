"""The evaluations that these tests share."""

from tests.report_facts import make_facts, write

__all__ = ["make_facts", "write"]
