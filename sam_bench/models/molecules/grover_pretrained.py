"""Published GROVER weights in our model: which of their tensors belongs to which of ours."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.errors import UsageError

SOURCE = "https://github.com/tencent-ailab/grover (Pretrained Model Download: grover_base.tar.gz, grover_large.tar.gz)"
# Our option and its name in the file, for options that no shape of a tensor shows.
OPTIONS = {"depth": "depth", "heads": "num_attn_head", "blocks": "num_mt_block", "hidden": "hidden_size"}
ACTIVATIONS = {name: name.lower() for name in ("ReLU", "PReLU", "tanh", "SELU", "ELU")} | {"LeakyReLU": "leaky_relu"}
_BRANCHES = {"atom_branch": ("node_blocks", "atom_from_atom"), "bond_branch": ("edge_blocks", "atom_from_bond")}
_KINDS = "qkv"


def load_pretrained(model: nn.Module, path: str | Path, options: dict[str, Any]) -> None:
    """Overwrite the two branches of a Grover with the published weights; the prediction heads stay as they are.

    options are the model's depth, heads, blocks, hidden and activation. Only tensors and an argparse.Namespace are read
    from the file. Raises UsageError if it is missing, is not such a file, or describes another architecture.
    """
    theirs, arguments = _read(Path(str(path)).expanduser())
    _compare(arguments, options, path)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name.split(".")[0] in _BRANCHES}
    found = {}
    for name, tensor in wanted.items():
        named = sources(name, tensor, options["heads"])
        if missing := [source for source in named if source not in theirs]:
            raise UsageError(f"{path} has no tensor {missing[0]}: it is no GROVER checkpoint of this architecture.")
        parts = [theirs[source] for source in named]
        value = parts[0] if len(parts) == 1 else torch.cat([part.reshape(1) for part in parts])
        if value.shape != tensor.shape:
            raise UsageError(
                f"{path}: {named[0]} is {tuple(value.shape)}, the model's {name} "
                f"is {tuple(tensor.shape)}. The file needs features=grover and its own hidden size and heads."
            )
        found[name] = value
    model.load_state_dict(found, strict=False)


def sources(name: str, tensor: Tensor, heads: int) -> list[str]:
    """The published names of one of our tensors; several for the slopes, which we store in one tensor."""
    branch, *rest = name.split(".")
    blocks, output = _BRANCHES[branch]
    encoders = "grover.encoders."
    match rest:
        case ["embed"]:
            return [f"{encoders}{blocks}.0.W_i.weight"]
        case ["embed_norm", kind]:
            return [f"{encoders}{blocks}.0.layernorm.{kind}"]
        case ["embed_activation", "slope"]:
            return [f"{encoders}{blocks}.0.act_func.weight"]
        case ["wide" | "narrow" as layer, kind]:
            return [f"{encoders}ffn_{output}.{'W_1' if layer == 'wide' else 'W_2'}.{kind}"]
        case ["wide_activation", "slope"]:
            return [f"{encoders}ffn_{output}.act_func.weight"]
        case ["norm", kind]:
            return [f"{encoders}{output}_sublayer.norm.{kind}"]
        case ["blocks", number, *inner]:
            return [f"{encoders}{blocks}.{number}.{end}" for end in _in_block(inner, tensor, heads)]
    raise KeyError(name)


def _in_block(name: list[str], tensor: Tensor, heads: int) -> list[str]:
    match name:
        case ["hop", number]:
            kind, head = divmod(int(number), heads)
            return [f"heads.{head}.mpn_{_KINDS[kind]}.W_h.weight"]
        case ["hop_activation", "slope"]:
            return [f"heads.{i % heads}.mpn_{_KINDS[i // heads]}.act_func.weight" for i in range(len(tensor))]
        case ["project", number, kind]:
            return [f"attn.linear_layers.{number}.{kind}"]
        case ["mix"]:
            return ["attn.output_linear.weight"]
        case ["out"]:
            return ["W_o.weight"]
        case ["norm", kind]:
            return [f"sublayer.norm.{kind}"]
    raise KeyError(".".join(name))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        state, arguments = content["state_dict"], vars(content["args"])
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise TypeError("its state_dict holds something else than tensors")
        sizes = {name: int(arguments[name]) for name in OPTIONS.values() if name in arguments}
        return state, arguments | sizes
    except FileNotFoundError:
        raise UsageError(
            f"model.pretrained={path}: there is no such file. Its authors publish the weights at {SOURCE}; "
            "unpack the archive and give the path of the .pt file."
        ) from None
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        raise UsageError(
            f"model.pretrained={path}: not a GROVER checkpoint of tensors and arguments "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]}). See {SOURCE}."
        ) from error


def _compare(arguments: dict[str, Any], options: dict[str, Any], path: str | Path) -> None:
    theirs = {ours: arguments[name] for ours, name in OPTIONS.items() if name in arguments}
    if "activation" in arguments:
        theirs["activation"] = ACTIVATIONS.get(arguments["activation"], arguments["activation"])
    if different := {name: value for name, value in theirs.items() if value != options[name]}:
        wanted = " ".join(f"model.{name}={value}" for name, value in different.items())
        raise UsageError(f"{path} was trained with other sizes than the model has: add {wanted}")
    if arguments.get("bias") or arguments.get("dense") or arguments.get("undirected"):
        raise UsageError(f"{path} was trained with bias, dense or undirected, which this GROVER does not have.")
