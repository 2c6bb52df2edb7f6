"""Where the YAML files lie."""

import os
from pathlib import Path


def config_dir() -> Path:
    """Folder of the YAML files: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def extra_config_dirs() -> list[Path]:
    """Folders with the user's own YAML files: $SAM_BENCH_CONFIGS, separated as PATH is."""
    named = os.environ.get("SAM_BENCH_CONFIGS", "")
    return [Path(folder).expanduser().absolute() for folder in named.split(os.pathsep) if folder]


def config_dirs() -> list[Path]:
    """All folders with YAML files, the user's own first."""
    return [*extra_config_dirs(), config_dir()]
