"""The HTML report: read a record, compute figures, render a page."""
