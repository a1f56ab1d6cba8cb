"""The page of an audit: what was found, for whom it is worst and how sure that is, from the record alone."""

from server.report.audit.page import render

__all__ = ["render"]
