"""Page tables: their formats, the walk through them, and a builder."""

from minivmm.x86.paging.access import Controls
from minivmm.x86.paging.faults import Fault, error_code_in_words
from minivmm.x86.paging.formats import (
    BITS_32,
    FIVE_LEVEL,
    FOUR_LEVEL,
    MODES,
    PAE,
    PAGE_1G,
    PAGE_2M,
    PAGE_4K,
    PAGE_4M,
    Level,
    PagingMode,
    entry_in_words,
)
from minivmm.x86.paging.tables import (
    AlreadyMappedError,
    MappingError,
    MisalignedError,
    OutOfRangeError,
    OutOfTablesError,
    PageTableBuilder,
)
from minivmm.x86.paging.walker import Step, Walk, translate, walk

__all__ = [
    "BITS_32",
    "FIVE_LEVEL",
    "FOUR_LEVEL",
    "MODES",
    "PAE",
    "PAGE_1G",
    "PAGE_2M",
    "PAGE_4K",
    "PAGE_4M",
    "AlreadyMappedError",
    "Controls",
    "Fault",
    "Level",
    "MappingError",
    "MisalignedError",
    "OutOfRangeError",
    "OutOfTablesError",
    "PageTableBuilder",
    "PagingMode",
    "Step",
    "Walk",
    "entry_in_words",
    "error_code_in_words",
    "translate",
    "walk",
]
