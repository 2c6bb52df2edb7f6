"""The grid of an experiment's YAML, `hydra.sweeper.params`."""

from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from sam_bench.config import files, own_file
from sam_bench.config.composer import ERRORS, Compose, explain, parse
from sam_bench.errors import UsageError, did_you_mean


def file_of(experiment: str) -> Path:
    """The YAML of an experiment; raises UsageError if its first line would misplace its keys."""
    known = files.yaml_files("experiment")
    if experiment not in known:
        raise UsageError(f"unknown experiment {experiment!r}. {did_you_mean(experiment, known)}")
    if not files.has_package_header(path := known[experiment]):
        raise UsageError(
            f"{path}: the first line of an experiment must be `# @package _global_`, also above comments. Without it "
            "Hydra would put its keys under `experiment`, where nothing reads them."
        )
    return path


def place(experiment: str) -> str:
    """How messages name the grid of an experiment."""
    return f"{file_of(experiment)}, its grid (hydra.sweeper.params)"


def grid(compose: Compose, experiment: str) -> dict[str, Override]:
    """The axes of an experiment's grid by key; raises UsageError for a grid that cannot be read."""
    where = place(experiment)
    try:
        params = compose([f"experiment={experiment}"]).hydra.sweeper.params
        axes = {} if params is None else OmegaConf.to_container(params, resolve=True)
    except ERRORS as error:
        raise explain(compose, [f"experiment={experiment}"], error) from None
    if not isinstance(axes, dict):
        raise UsageError(f"{where}: write one line for each axis, for instance `optimizer: erm,sam`.")
    return {axis.get_key_element(): axis for key, values in axes.items() if (axis := _axis(where, str(key), values))}


def _axis(where: str, key: str, values: object) -> Override:
    if isinstance(values, list | dict):
        raise UsageError(
            f"{where}: separate the values of {key} with commas, without brackets: `{key}: "
            f"{','.join(map(str, values))}`."
        )
    try:
        (axis,) = parse([f"{key}={values}"])
        if key != own_file.KEY or axis.value() is None:
            return axis
        paths = axis.sweep_string_iterator() if axis.is_sweep_override() else [axis.value()]
        folder = Path(where.partition(", its grid")[0]).parent
        return parse([f"{key}={','.join(own_file.from_folder(map(str, paths), folder))}"])[0]
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
