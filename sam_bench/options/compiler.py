"""The C++ compiler of this machine, which compile=true and model.kernels=native need on a CPU."""

import os
import shutil
import sys


def cpp_compiler() -> str:
    """Its name: the variable CXX, else clang++ on a Mac and g++ elsewhere."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def no_cpp_compiler() -> str:
    """What is missing, "" where nothing."""
    name = cpp_compiler()
    return "" if shutil.which(name) else f"there is no C++ compiler ({name}; the variable CXX may name another)"
