"""The report of a judged run: one HTML file with its charts, tables and sample sessions."""

from endcap.report.facts import Facts
from endcap.report.page import render
from endcap.report.publish import (
    FILE,
    find_comparison,
    find_report,
    gather,
    publish_comparison,
    publish_report,
    report_file,
)

__all__ = [
    "FILE",
    "Facts",
    "find_comparison",
    "find_report",
    "gather",
    "publish_comparison",
    "publish_report",
    "render",
    "report_file",
]
