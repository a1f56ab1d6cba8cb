"""The report of a run: one offline page that anybody can open, read, print and send.

::

    folder.py     read a run folder: missing parts are left out, damaged ones are errors
    wording.py    numbers and sentences; no sentence claims more than its interval
    systems.py    the systems of a run: names, colours, figures
    charts.py     curves as SVG in the page's own colours
    headline.py, views.py, curves.py, groups.py, steering.py, sites.py     what each section shows
    page.py       write_report: folder -> report.html
    templates/    the page itself; every text is escaped
"""

from server.report.page import write_report

__all__ = ["write_report"]
