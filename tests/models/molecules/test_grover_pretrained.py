"""Published GROVER weights: a made checkpoint of their layout goes where it belongs, anything else is refused."""

from argparse import Namespace

import pytest
import torch

from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.errors import UsageError
from sam_bench.models.molecules.grover import Grover

INPUTS = {"atom_features": 151, "bond_features": 14, "descriptors": 0}
HIDDEN, HEADS = 8, 2
OPTIONS = {"hidden": HIDDEN, "heads": HEADS, "depth": 6, "activation": "prelu", "head_hidden": 4}


def published():
    """Names and shapes of grover_base.pt and grover_large.pt at another width: PReLU, no bias, one block."""
    h, wide = HIDDEN, 4 * HIDDEN
    shapes = {}
    for blocks, inputs in (("edge_blocks", 165), ("node_blocks", 151)):
        block = f"grover.encoders.{blocks}.0"
        for head in range(HEADS):
            for kind in "qkv":
                shapes[f"{block}.heads.{head}.mpn_{kind}.act_func.weight"] = (1,)
                shapes[f"{block}.heads.{head}.mpn_{kind}.W_h.weight"] = (h, h)
        shapes |= {f"{block}.act_func.weight": (1,), f"{block}.W_i.weight": (h, inputs)}
        shapes |= {
            f"{block}.{norm}.{end}": (h,) for norm in ("layernorm", "sublayer.norm") for end in ("weight", "bias")
        }
        for i in range(3):
            shapes |= {f"{block}.attn.linear_layers.{i}.weight": (h, h), f"{block}.attn.linear_layers.{i}.bias": (h,)}
        shapes |= {f"{block}.attn.output_linear.weight": (h, h), f"{block}.W_o.weight": (h, HEADS * h)}
    for target, inputs in (("atom", 151), ("bond", 165)):
        for source in ("atom", "bond"):
            name = f"grover.encoders.ffn_{target}_from_{source}"
            shapes |= {f"{name}.W_1.weight": (wide, inputs + h), f"{name}.W_1.bias": (wide,)}
            shapes |= {f"{name}.W_2.weight": (h, wide), f"{name}.W_2.bias": (h,), f"{name}.act_func.weight": (1,)}
            norm = f"grover.encoders.{target}_from_{source}_sublayer.norm"
            shapes |= {f"{norm}.weight": (h,), f"{norm}.bias": (h,)}
    shapes |= {f"grover.encoders.act_func_{kind}.weight": (1,) for kind in ("node", "edge")}
    shapes |= {"av_task_atom.linear.weight": (3, h), "av_task_atom.linear.bias": (3,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def arguments(**changes):
    given = {"hidden_size": HIDDEN, "depth": 6, "num_attn_head": HEADS, "num_mt_block": 1, "activation": "PReLU"}
    return Namespace(**given | {"bias": False, "dense": False, "undirected": False, "dropout": 0.1} | changes)


@pytest.fixture
def checkpoint(tmp_path):
    def write(name="grover_base.pt", state=None, args=None, **extra):
        content = {"args": args or arguments(), "state_dict": state or published(), "data_scaler": None, **extra}
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_every_tensor_of_the_branches_comes_from_its_place(checkpoint):
    theirs = published()
    model = Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint())
    ours = model.state_dict()
    for branch, blocks, output in (("atom", "node", "atom_from_atom"), ("bond", "edge", "atom_from_bond")):
        block = f"grover.encoders.{blocks}_blocks.0."
        ffn, norm = f"grover.encoders.ffn_{output}.", f"grover.encoders.{output}_sublayer.norm."
        pairs = {
            "embed": block + "W_i.weight",
            "embed_norm.weight": block + "layernorm.weight",
            "embed_norm.bias": block + "layernorm.bias",
            "embed_activation.slope": block + "act_func.weight",
            "blocks.0.hop.0": block + "heads.0.mpn_q.W_h.weight",
            "blocks.0.hop.1": block + "heads.1.mpn_q.W_h.weight",
            "blocks.0.hop.2": block + "heads.0.mpn_k.W_h.weight",
            "blocks.0.hop.3": block + "heads.1.mpn_k.W_h.weight",
            "blocks.0.hop.4": block + "heads.0.mpn_v.W_h.weight",
            "blocks.0.hop.5": block + "heads.1.mpn_v.W_h.weight",
            "blocks.0.project.0.weight": block + "attn.linear_layers.0.weight",
            "blocks.0.project.1.bias": block + "attn.linear_layers.1.bias",
            "blocks.0.project.2.weight": block + "attn.linear_layers.2.weight",
            "blocks.0.mix": block + "attn.output_linear.weight",
            "blocks.0.out": block + "W_o.weight",
            "blocks.0.norm.weight": block + "sublayer.norm.weight",
            "blocks.0.norm.bias": block + "sublayer.norm.bias",
            "wide.weight": ffn + "W_1.weight",
            "wide.bias": ffn + "W_1.bias",
            "wide_activation.slope": ffn + "act_func.weight",
            "narrow.weight": ffn + "W_2.weight",
            "narrow.bias": ffn + "W_2.bias",
            "norm.weight": norm + "weight",
            "norm.bias": norm + "bias",
        }
        for name, source in pairs.items():
            assert torch.equal(ours[f"{branch}_branch.{name}"], theirs[source]), name
        slopes = [theirs[f"{block}heads.{head}.mpn_{kind}.act_func.weight"] for kind in "qkv" for head in range(HEADS)]
        assert torch.equal(ours[f"{branch}_branch.blocks.0.hop_activation.slope"], torch.cat(slopes))


def test_only_what_pretraining_alone_needs_is_left_over(checkpoint):
    """Change one published tensor after the other: ours must change, except for outputs into bonds and task heads."""
    first = Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint()).state_dict()
    unused = []
    for name, tensor in published().items():
        state = published() | {name: tensor + 1}
        model = Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(state=state))
        same = all(torch.equal(v, first[k]) for k, v in model.state_dict().items() if not k.startswith("heads"))
        unused += [name] if same else []
    assert all("ffn_bond_" in n or "bond_from_" in n or "encoders.act_func_" in n or "av_task" in n for n in unused)
    assert len(unused) == 2 * 5 + 2 * 2 + 2 + 2


def test_a_model_with_loaded_weights_predicts(checkpoint):
    from sam_bench.datasets.molecules.featurize import featurize

    packed = featurize(["CCO", "c1ccccc1"], cache_dir=None, progress=False)
    model = Grover(2, packed.inputs, **OPTIONS, pretrained=checkpoint())
    assert model(MoleculeBatch(packed, torch.tensor([0, 1]))).isfinite().all()


def test_an_absent_file_says_where_the_weights_are(tmp_path):
    with pytest.raises(UsageError, match=r"no such file.*github\.com/tencent-ailab/grover"):
        Grover(1, INPUTS, **OPTIONS, pretrained=str(tmp_path / "none.pt"))


def test_other_sizes_are_named(checkpoint):
    with pytest.raises(UsageError, match=r"add model\.depth=3 model\.activation=relu$"):
        Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(args=arguments(depth=3, activation="ReLU")))
    with pytest.raises(UsageError, match=r"W_i\.weight is"):
        Grover(1, INPUTS | {"atom_features": 9}, **OPTIONS, pretrained=checkpoint())
    with pytest.raises(UsageError, match="does not have"):
        Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(args=arguments(bias=True)))


class Surprise:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_nothing_but_tensors_and_arguments_is_read(checkpoint, tmp_path, capsys):
    with pytest.raises(UsageError, match="not a GROVER checkpoint"):
        Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(surprise=Surprise()))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UsageError, match="not a GROVER checkpoint"):
        Grover(1, INPUTS, **OPTIONS, pretrained=str(tmp_path / "text.pt"))
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match="not a GROVER checkpoint"):
        Grover(1, INPUTS, **OPTIONS, pretrained=str(tmp_path / "other.pt"))
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UsageError, match="not a GROVER checkpoint"):
        Grover(1, INPUTS, **OPTIONS, pretrained=str(tmp_path / "empty.pt"))
    for broken in ({"state": [1, 2]}, {"state": {"a": 3}}, {"args": arguments(depth="deep")}):
        with pytest.raises(UsageError, match="not a GROVER checkpoint"):
            Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(**broken))
    missing = published()
    del missing["grover.encoders.node_blocks.0.W_o.weight"]
    with pytest.raises(UsageError, match=r"has no tensor grover\.encoders\.node_blocks\.0\.W_o\.weight"):
        Grover(1, INPUTS, **OPTIONS, pretrained=checkpoint(state=missing))
    assert "must not run" not in capsys.readouterr().out
