"""The report of a verdict or a comparison: one HTML file with charts, tables and sample sessions."""

from endcap.report.facts import ReportFacts
from endcap.report.page import render
from endcap.report.publish import (
    REPORT_FILE,
    find_comparison_report,
    find_report,
    gather_facts,
    locate_report,
    publish_comparison_report,
    publish_report,
)

__all__ = [
    "REPORT_FILE",
    "ReportFacts",
    "find_comparison_report",
    "find_report",
    "gather_facts",
    "locate_report",
    "publish_comparison_report",
    "publish_report",
    "render",
]
