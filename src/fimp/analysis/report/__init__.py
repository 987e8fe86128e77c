"""The report of a run: one HTML file with everything that there is to see."""

from fimp.analysis.report.found import FoundRun, find_run
from fimp.analysis.report.write import write_report

__all__ = ["FoundRun", "find_run", "write_report"]
