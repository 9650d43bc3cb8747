"""Pages of HTML that need nothing but themselves: what the comparison of tokenizers and the look at a folder share.

file                what it holds
frame.py, page.css  the page around its sections, tables, the figures as JSON; light or dark as the reader likes it
charts.py           bars, dots, columns and lines as SVG text
"""

from tersely.corpus.page.charts import WIDTH as WIDTH
from tersely.corpus.page.charts import Line as Line
from tersely.corpus.page.charts import bar_chart as bar_chart
from tersely.corpus.page.charts import column_chart as column_chart
from tersely.corpus.page.charts import dot_chart as dot_chart
from tersely.corpus.page.charts import escape as escape
from tersely.corpus.page.charts import legend_mark as legend_mark
from tersely.corpus.page.charts import line_chart as line_chart
from tersely.corpus.page.charts import stacked_chart as stacked_chart
from tersely.corpus.page.frame import bullets as bullets
from tersely.corpus.page.frame import cell as cell
from tersely.corpus.page.frame import html_page as html_page
from tersely.corpus.page.frame import scroll as scroll
from tersely.corpus.page.frame import style as style
from tersely.corpus.page.frame import table as table
