"""Molecules that are too large: left out, counted, and never worked on for long."""

import time

import numpy as np
import pytest
import yaml
from rdkit import Chem
from rdkit.Chem import Descriptors

from sam_bench.config import compose, files
from sam_bench.datasets.molecules import chemistry
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.datasets.molecules.scaffold import murcko
from sam_bench.errors import UsageError
from sam_bench.store import identity

MOLECULE_SETS = [
    path
    for path in sorted((files.config_dir() / "dataset").glob("*.yaml"))
    if yaml.safe_load(path.read_text())["modality"] == "molecule"
]
LARGE = {
    "a chain": "C" * 16_000,
    "one atom too many": "C" * (MAX_ATOMS + 1),
    "a text too long to parse": "[13CH4]" * 100_000,
    "a peptide": "NC(Cc1ccccc1)C(=O)" * 60,
    "many salts": ".".join(["[Na+]"] * (MAX_ATOMS + 1)),
}


def read(*smiles, features="compt", **options):
    return featurize(smiles, cache_dir=None, progress=False, features=features, **options)


@pytest.mark.parametrize("case", LARGE)
def test_a_large_molecule_is_left_out_in_no_time(case):
    before = time.process_time()
    packed = read("CCO", LARGE[case], "nonsense", descriptors=True)
    assert time.process_time() - before < 5  # 16,000 atoms took minutes; the bound has room for a busy machine
    assert (packed.keep.tolist(), packed.too_large, packed.unparsable) == ([0], [1], [2])


def test_what_is_allowed_is_read_and_hydrogen_does_not_count():
    octane = "[H]C([H])([H])" + "C([H])([H])" * 6 + "C([H])([H])[H]"
    assert read(octane, "C" * 9, max_atoms=8).keep.tolist() == [0]
    assert read("C" * 9, max_atoms=9).too_large == []


def test_only_large_molecules_are_a_message_with_the_option():
    with pytest.raises(UsageError, match=r"1 of the 2 SMILES .*dataset\.max_atoms=600"):
        read("C" * 601, "x")


def test_the_limit_is_part_of_the_cache(tmp_path):
    for limit, kept in ((3, [0]), (4, [0, 1]), (3, [0])):
        packed = featurize(["CC", "CCCC"], cache_dir=tmp_path, progress=False, max_atoms=limit)
        assert packed.keep.tolist() == kept
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("smiles", ["C" * MAX_ATOMS, "NC(Cc1ccccc1)C(=O)" * (MAX_ATOMS // 11)])
def test_the_largest_that_is_allowed_takes_seconds_at_most(smiles):
    before = time.process_time()
    assert read(smiles, descriptors=True).keep.tolist() == [0]
    murcko([smiles], chirality=True)
    assert time.process_time() - before < 30  # about 2 s alone on a core; without the eigenvalues of _functions 40 s


def test_the_polynomial_of_a_large_molecule_is_that_of_rdkit_where_rdkits_recursion_holds(monkeypatch):
    names = [name for name, _ in Descriptors.descList]
    mol = Chem.MolFromSmiles("CC(C)Cc1ccc(cc1)C(C)C(=O)O")
    usual = dict(zip(names, chemistry._descriptors(mol), strict=True))
    monkeypatch.setattr(chemistry, "RECURSION_HOLDS", 0)
    other = dict(zip(names, chemistry._descriptors(mol), strict=True))
    assert {name for name in names if usual[name] != pytest.approx(other[name], rel=1e-6)} == set()
    assert list(usual.values()) == pytest.approx(
        list(np.arcsinh(list(Descriptors.CalcMolDescriptors(mol, missingVal=0.0).values()))), rel=1e-6
    )


@pytest.mark.parametrize("path", MOLECULE_SETS, ids=lambda path: path.stem)
def test_every_set_has_the_limit_and_at_its_default_the_run_id_of_before(path):
    config = yaml.safe_load(path.read_text())
    assert config["max_atoms"] == MAX_ATOMS == identity.LATER["dataset.max_atoms"]
    without = {key: value for key, value in config.items() if key != "max_atoms"}
    assert identity.important({"dataset": config}) == identity.important({"dataset": without})


def test_another_limit_is_another_run_and_an_impossible_one_is_refused():
    def cell(*words):
        return compose.compose_specs(["dataset=bbbp", *words])[0].run_id

    assert cell() == cell("dataset.max_atoms=600") != cell("dataset.max_atoms=601")
    with pytest.raises(UsageError, match="an integer >= 1"):
        cell("dataset.max_atoms=0")


@pytest.mark.data
def test_no_molecule_of_the_sets_at_hand_is_left_out(data_dir):
    """sider has the largest; the text limits are tried on it, the atoms of the others are fewer."""
    from sam_bench.datasets.molecules.table import read_csv_table

    table = read_csv_table(data_dir / "moleculenet" / "sider.csv.gz", "smiles", None, "binary")
    sizes = {text: Chem.MolFromSmiles(text).GetNumAtoms() for text in table.smiles if len(text) > 400}
    assert max(sizes.values()) == 492
    assert not any(chemistry.too_large(text, MAX_ATOMS) for text in table.smiles)
