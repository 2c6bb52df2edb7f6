"""What the shell offers after Tab."""

import os
import subprocess
import sys

import pytest

from sam_bench.commands import completion


@pytest.mark.parametrize(("name", "typed", "offered", "not_offered"), [
    ("experiment", "quick", {"quickstart"}, {"digits"}),
    ("words", "dig", {"digits"}, {"quickstart"}),
    ("overrides", "opt", {"optimizer=", "optimizer."}, {"base="}),
    ("overrides", "optimizer=loo", {"optimizer=looksam"}, {"optimizer=sam"}),
    ("overrides", "optimizer=erm,vs", {"optimizer=erm,vsam"}, {"optimizer=vsam"}),
    ("overrides", "optimizer.rh", {"optimizer.rho="}, {"optimizer.k="}),
    ("overrides", "train.", {"train.epochs=", "train.batch_size="}, {"train._target_="}),
    ("launcher", "s", {"slurm"}, {"ray"}),
])  # fmt: skip
def test_words_are_offered(name, typed, offered, not_offered):
    found = set(completion._COMPLETERS["", name](typed))
    assert offered <= found
    assert not not_offered & found
    assert all(word.startswith(typed) for word in found)


def test_files_of_the_own_folder_are_offered_and_a_wrong_folder_breaks_nothing(tmp_path, monkeypatch):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "my_sam.yaml").write_text("defaults: [sam]\n")
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path))
    complete = completion._COMPLETERS["", "overrides"]
    assert complete("optimizer=my") == ["optimizer=my_sam"]
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "gone"))
    assert complete("optimizer=my") == []


@pytest.mark.parametrize(("line", "offered"), [
    ("sam-bench swe", "sweep"),
    ("sam-bench sweep quick", "quickstart"),
    ("sam-bench table quickstart --form", "--format"),
    ("sam-bench table quickstart model=grover_sm", "model=grover_small"),
    ("sam-bench run dataset=chem", "dataset=chembl2321810"),
    ("sam-bench data fetch bbb", "bbbp"),
])  # fmt: skip
def test_the_shell_is_answered(line, offered, tmp_path):
    """As the function that register-python-argcomplete writes asks: the answer comes on descriptor 8."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                   "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_COMP_WORDBREAKS": "", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
                   "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}  # fmt: skip
    subprocess.run([sys.executable, "-m", "sam_bench"], env=environment, check=True, timeout=60)
    assert offered in answer.read_text().split("\n")
