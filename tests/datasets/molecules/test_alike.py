"""Canonical SMILES: two spellings are one molecule, several processes give what one gives."""

from sam_bench.datasets.molecules import alike, chunks


def test_two_spellings_are_one_molecule_and_what_is_none_stays():
    assert alike.canonical(["OCC", "C(O)C", "not a molecule"]) == ["CCO", "CCO", "not a molecule"]


def test_several_processes_give_what_one_gives(monkeypatch):
    smiles = ["OCC", "C1=CC=CC=C1", "N#CC", "not a molecule", "C(=O)O"]
    alone = alike.canonical(smiles, jobs=1)
    monkeypatch.setattr(chunks, "PARALLEL_FROM", 2)
    monkeypatch.setattr(chunks, "CHUNK", 2)
    assert alike.canonical(smiles, jobs=2) == alone
