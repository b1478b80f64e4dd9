"""The report of a run: one page of HTML that needs nothing beside it."""

from darkpy.report.facts import Facts
from darkpy.report.writing import report_run, write_report

__all__ = ["Facts", "report_run", "write_report"]
