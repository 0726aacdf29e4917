"""The page of a document: one HTML file with the graph, the reasons and the boundaries.

`web/` holds its sources and how they are built, `bundle/` what is built from them and shipped.
"""

from ampgraph.inspection.page.html import page_html, write_page

__all__ = ["page_html", "write_page"]
