"""Data sets, in one room per kind of input."""

from sam_bench.rooms import modules_of

__getattr__ = modules_of(__name__, "molecules", "images")
