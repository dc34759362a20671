"""What a student looks at: tables, maps, timelines. Each shows itself as HTML in a notebook and as text elsewhere."""

from minivmm.notebook.maps import heat_map, memory_map
from minivmm.notebook.table import Table, hexdump, table
from minivmm.notebook.timeline import timeline

__all__ = ["Table", "heat_map", "hexdump", "memory_map", "table", "timeline"]
