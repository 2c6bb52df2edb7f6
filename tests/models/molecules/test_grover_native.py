"""GROVER's block in C++ (model.kernels=native): values, gradients and bits, where there is a compiler."""

import subprocess
import sys

import pytest
import torch
from support.runs import assert_same_run, run_to_the_end

from sam_bench.cli import main
from sam_bench.config.compose import compose_specs
from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.errors import UsageError
from sam_bench.models import native
from sam_bench.models.molecules import grover_native
from sam_bench.models.molecules.grover import Grover
from sam_bench.optim import create_optimizer
from sam_bench.options.compiler import no_cpp_compiler
from sam_bench.training.precision import choose

MIXED = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1", "CC(=O)Oc1ccccc1C(=O)O"]
BATCHES = {"mixed": MIXED, "one atom": ["C"], "no bonds": ["C", "O", "[Na+].[Cl-]"], "large": MIXED * 30}
SIZES = {
    "grover": {"hidden": 100, "heads": 4},
    "grover_small": {"hidden": 32, "heads": 2},
    "odd": {"hidden": 21, "heads": 3, "blocks": 2, "depth": 5},
    "wide": {"hidden": 150, "heads": 2, "depth": 1},
}
pytestmark = pytest.mark.skipif(bool(no_cpp_compiler()), reason="needs a C++ compiler")


def batch_of(smiles):
    return MoleculeBatch(featurize(smiles, cache_dir=None, progress=False), torch.arange(len(smiles)))


def build(batch, kernels, **options):
    torch.manual_seed(0)
    return Grover(3, batch.packed.inputs, kernels=kernels, **options)


def results(batch, kernels, dtype=torch.float32, seed=1, **options):
    """Outputs and gradient of one training pass."""
    model = build(batch, kernels, **options).to(dtype)
    torch.manual_seed(seed)
    out = model(batch)
    out.square().mean().backward()
    gradient = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]  # None: no bonds
    return out.detach(), torch.cat([g.flatten() for g in gradient])


def near(found, expected, within=1e-5):
    return (found - expected).norm() <= within * expected.norm()


@pytest.mark.parametrize("smiles", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_values_and_gradient_are_those_of_torch(smiles, size):
    batch = batch_of(smiles)
    for found, expected in zip(results(batch, "native", **size), results(batch, "torch", **size), strict=True):
        assert near(found, expected)
        assert found.norm() > 0


def test_it_is_as_near_to_float64_as_torch_is():
    plain, batch, exact = batch_of(MIXED), batch_of(MIXED), batch_of(MIXED)
    for name in ("x", "edge_attr"):
        setattr(exact, name, getattr(exact, name).double())
    size = SIZES["grover"]
    _, truth = results(exact, "native", torch.float64, **size)  # the C++ is for float32: torch computes this
    errors = [(results(b, kernels, **size)[1] - truth).norm() for b, kernels in ((plain, "torch"), (batch, "native"))]
    assert errors[1] <= 3 * errors[0]


def test_the_same_seed_gives_the_same_bits_on_one_thread_and_on_two():
    batch, threads = batch_of(BATCHES["large"]), torch.get_num_threads()
    relation, d = batch.line_bags, 100
    torch.manual_seed(0)
    x, weight, bias = torch.randn(batch.num_edges, d), torch.randn(3, d, d) / 10, torch.randn(3, d)
    matrices = [torch.randn(d, d) / 10 for _ in range(12)]
    found = []
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            given = [t.clone().requires_grad_() for t in (x, weight, bias, *matrices)]
            out = grover_native.attended(given[0], given[3:], *given[1:3], relation, [2, 0, 3, 1] * 3, lambda *a: a[0])
            found.append([out.detach(), *torch.autograd.grad(out.square().sum(), given)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("method", ["erm", "sam"])
@pytest.mark.parametrize("size", ["grover", "grover_small"])
def test_steps_of_training_stay_with_those_of_torch(size, method):
    batch, ends = batch_of(MIXED), []
    for kernels in ("torch", "native"):
        model = build(batch, kernels, **SIZES[size])
        optimizer = create_optimizer(method, "sgd", model, base_options={"lr": 0.05}, total_steps=5, steps_per_epoch=5)
        begun = torch.cat([p.detach().flatten() for p in model.parameters()])
        for number in range(5):

            def closure(number=number, model=model):
                torch.manual_seed(number)
                losses = model(batch).square().mean((0, 2))
                losses.mean().backward()
                return losses.detach()

            optimizer.step(closure)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - begun)
    assert near(ends[1], ends[0], within=0.1)  # rounding moves a few activations across the corner of ReLU


def test_passes_that_overlap_do_not_share_values():
    batch = batch_of(MIXED)
    _, expected = results(batch, "native", **SIZES["grover"])
    model = build(batch, "native", **SIZES["grover"])
    torch.manual_seed(1)
    first = model(batch).square().mean()
    with torch.no_grad():
        model(batch)
    model(batch).sum()  # a graph that nobody goes back through
    second = model(batch).sum()
    torch.autograd.grad(second, list(model.parameters()))
    first.backward()
    assert torch.equal(torch.cat([p.grad.flatten() for p in model.parameters()]), expected)


def test_second_derivatives_are_those_of_torch():
    batch, found = batch_of(MIXED), []
    for kernels in ("torch", "native"):
        model = build(batch, kernels, **SIZES["grover_small"]).eval()
        weights = list(model.parameters())
        slopes = torch.autograd.grad(model(batch).square().mean(), weights, create_graph=True)
        along = torch.cat([s.flatten() for s in slopes]).square().sum()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(along, weights)]))
    assert near(found[1], found[0], within=1e-4)


def test_a_second_backward_pass_is_refused():
    batch = batch_of(MIXED)
    model = build(batch, "native", **SIZES["grover_small"])
    loss = model(batch).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up by its first backward"):
        loss.backward()


def test_nan_is_not_hidden():
    batch = batch_of(MIXED)
    batch.x[0, 0] = torch.nan
    out, gradient = results(batch, "native", **SIZES["grover"])
    assert out.isnan().any()
    assert gradient.isnan().any()


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("molecules") / "some.csv"
    path.write_text("\n".join(["smiles,y", *(f"{smiles},{i}" for i, smiles in enumerate(MIXED * 6))]) + "\n")
    return ["dataset=csv", f"dataset.path={path}", "dataset.split=random", "model=grover_small", "train.epochs=2",
            "train.batch_size=8"]  # fmt: skip


def cell(words, *more):
    (only,) = compose_specs([*words, *more])
    return only


def test_native_is_another_run_and_torch_is_the_same_run_as_before():
    words = ("dataset=bbbp", "model=grover", "base=adam", "optimizer=erm")
    names = [cell(words, *more).run_id for more in ((), ("model.kernels=torch",), ("model.kernels=native",))]
    assert names[0] == names[1] == "bbbp-grover-adam-erm-seed0-6cb4688a"  # from before there was this option
    assert names[2] != names[0]


@pytest.mark.parametrize("method", ["erm", "sam"])
def test_stopped_and_resumed_equals_uninterrupted(words, method, tmp_path):
    this = cell(words, f"optimizer={method}", "model.kernels=native", "device=cpu", "precision=auto")
    record, _ = run_to_the_end(this, tmp_path / "a", ())
    _, stops = run_to_the_end(this, tmp_path / "b", (2, 5))
    assert stops == 2
    assert_same_run(tmp_path / "a", tmp_path / "b", this)
    assert record["config"]["model"]["kernels"] == "native"
    assert record["provenance"]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("more", "told"),
    [("precision=bf16", "computes in fp32, not in bf16"), ("device=cuda", "is for the CPU, not for cuda")],
)
def test_what_it_cannot_do_is_said_before_anything_is_built(words, more, told, capsys, results_dir):
    assert main(["run", *words, "model.kernels=native", more]) == 2
    assert told in capsys.readouterr().err
    assert not results_dir.exists()


def test_another_device_that_auto_finds_is_refused(words):
    config = cell(words, "model.kernels=native", "device=auto").config
    with pytest.raises(UsageError, match="is for the CPU"):
        choose(config, torch.device("cuda"))


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"activation": "prelu"}, {"hidden": 64, "heads": 32}])
def test_a_model_that_it_has_no_code_for_is_refused(options):
    with pytest.raises(UsageError, match=r"has code for.*Run with model\.kernels=torch"):
        build(batch_of(["CC"]), "native", **options)


# -- the compiler --------------------------------------------------------------------------------------------------


def test_no_compiler_is_said_before_anything_is_built(words, capsys, results_dir, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["run", *words, "model.kernels=native"]) == 2
    assert "no C++ compiler (no-such-compiler" in capsys.readouterr().err
    assert not results_dir.exists()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    yield native.cache_dir()
    native.library.cache_clear()


ADDS = 'extern "C" int add(int a, int b) { return a + b; }'


def test_processes_that_ask_at_the_same_time_all_get_it(empty_cache, tmp_path):
    source = tmp_path / "adds.cpp"
    source.write_text(ADDS)
    ask = f"from pathlib import Path; from sam_bench.models import native; print(native.library(Path({str(source)!r}))"
    running = [
        subprocess.Popen([sys.executable, "-c", f"{ask}.add(2, 3))"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in running] == ["5\n"] * 3
    (only,) = empty_cache.iterdir()  # no draft is left
    assert only.name.startswith("adds-")


def test_another_source_or_header_is_another_library(empty_cache, tmp_path):
    source, header = tmp_path / "adds.cpp", tmp_path / "more.h"
    header.write_text("constexpr int more = 0;")
    source.write_text('#include "more.h"\nextern "C" int add(int a, int b) { return a + b + more; }')
    assert native.library(source).add(2, 3) == 5
    native.library.cache_clear()
    header.write_text("constexpr int more = 1;")
    assert native.library(source).add(2, 3) == 6
    assert len(list(empty_cache.iterdir())) == 2


def test_what_the_compiler_complains_about_is_said(empty_cache, tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int main( {")
    with pytest.raises(UsageError, match=r"(?s)failed: .*wrong\.cpp:1.*model\.kernels=torch"):
        native.library(source)
    assert list(empty_cache.iterdir()) == []
