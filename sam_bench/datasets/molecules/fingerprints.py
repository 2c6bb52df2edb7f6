"""Morgan fingerprints: which neighbourhoods a molecule has, and how often (Rogers and Hahn 2010)."""

from collections.abc import Sequence

import numpy as np
from rdkit import rdBase
from rdkit.Chem import rdFingerprintGenerator

from sam_bench.datasets.molecules.chemistry import parse


def morgan(smiles: Sequence[str], radius: int = 2, bits: int = 2048) -> np.ndarray:
    """Counts of the neighbourhoods up to `radius` bonds, folded into `bits` columns: (n, bits) float32.

    RDKit must be able to parse all SMILES.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    with rdBase.BlockLogs():  # RDKit's remarks were printed when the SMILES was featurised
        rows = [generator.GetCountFingerprintAsNumPy(parse(text, any_valence=True)) for text in smiles]
    return np.array(rows, dtype=np.float32).reshape(len(smiles), bits)
