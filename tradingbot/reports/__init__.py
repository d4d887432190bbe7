"""HTML reports: read a record, compute statistics, render a page."""
