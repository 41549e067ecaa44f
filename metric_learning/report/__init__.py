"""HTML pages from files: a study, a search, and an embedding explorer.

Each page is one HTML file that opens from disk and needs no network.
"""

from metric_learning.report.explorer import write_explorer
from metric_learning.report.study_page import write_report
from metric_learning.report.tensorboard import write_pictures

__all__ = ["write_explorer", "write_pictures", "write_report"]
