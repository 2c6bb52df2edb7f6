"""Records whose gains over erm are chosen, in units of erm's spread."""

import numpy as np

from support import fabricated

SEEDS = range(8)


def records(gain, datasets=("bbbp", "esol"), optimizers=("erm", "sam"), seeds=SEEDS):
    """erm spreads by 0.1 (bbbp, ROC-AUC) or 1.0 (esol, RMSE); `gain(optimizer, dataset, seed)` in erm's spreads."""
    found = []
    draw = np.random.default_rng(5)
    for dataset in datasets:
        name, higher, unit = ("rmse", False, 1.0) if dataset == "esol" else ("roc_auc", True, 0.1)
        levels = draw.normal(0.0, 1.0, len(seeds))
        levels = (levels - levels.mean()) / levels.std(ddof=1) * unit  # a sample standard deviation of exactly `unit`
        for optimizer in optimizers:
            for seed, level in zip(seeds, levels, strict=True):
                better = 0.0 if optimizer == "erm" else gain(optimizer, dataset, seed) * unit
                value = 5.0 + level + (better if higher else -better)
                record = fabricated.make_record(optimizer, seed, dataset)
                record["metric"] = {"name": name, "higher_is_better": higher}
                record["metrics"] = {f"{split}/{name}": value for split in ("valid", "test")}
                found.append(record)
    return found
