"""Bad input gets one clear message and exit status 2, and leaves nothing behind."""

import glob
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from sam_bench.cli import main
from sam_bench.commands.words import GPU_FILES

CASES = {
    "unknown dataset": (["dataset=bbbq"], "Did you mean 'bbbp'"),
    "unknown model": (["model=grovr"], "Did you mean 'grover'"),
    "unknown optimizer": (["optimizer=look_sam"], "Did you mean 'looksam'"),
    "unknown key": (["train.epoch=3"], "Did you mean 'train.epochs'"),
    "unknown key of an optimizer": (["optimizer=sam", "optimizer.rhoo=0.1"], "Did you mean 'optimizer.rho'"),
    "unknown group": (["optimiser=sam"], "Did you mean 'optimizer'"),
    "no override": (["bbbp"], "key=value"),
    "a pair that does not fit": (["dataset=digits", "model=grover"], "Models that fit:.*resnet18"),
    "the other pair": (["dataset=bbbp", "model=resnet18"], "Models that fit:.*grover"),
    "epochs": (["train.epochs=0"], "train.epochs=0 is not usable: it must be an integer >= 1"),
    "a word for a number": (["train.batch_size=big"], "train.batch_size=big is not usable"),
    "a negative radius": (["optimizer=sam", "optimizer.rho=-1"], "optimizer.rho=-1"),
    "precision": (["precision=fp8"], "one of fp32, bf16, fp16"),
    "device": (["device=gpu"], "auto, cpu, cuda"),
    "seconds without a number": (["train.budget=seconds"], "belong together"),
    **{
        f"dataset.{option}": (["dataset=cifar100", "model=resnet18", f"dataset.{option}"], rf"dataset\.{wanted}")
        for option, wanted in {
            "augment.pad=-1": "augment.pad=-1 .* integer >= 0",
            "augment.pad=1.5": "augment.pad=1.5 .* integer >= 0",
            "augment.cutout=null": "augment.cutout=None .* integer >= 0",
            "augment.cutout_probability=2": r"augment.cutout_probability=2 .*\[0, 1\]",
            "augment.flip=maybe": "augment.flip=maybe .* True, False",
            "augment.randaugment=3": "augment.randaugment=3 .*operations:2",
            "augment.randaugment={operations:2.5}": "augment.randaugment.operations=2.5 .* integer >= 1",
            "augment.randaugment={magnitude:31}": r"augment.randaugment.magnitude=31 .*\[0, 30\]",
            "augment=null": "augment=None",
            "label_noise=1.5": r"label_noise=1.5 .*\[0, 1\]",
            "subset=0": "subset=0 .* integer >= 10, or null",
            "valid_fraction=1": "valid_fraction=1 .* greater than 0 and less than 1",
            "verify=maybe": "verify=maybe",
            "std=[0,0,0]": "std=.* number > 0",
        }.items()
    },
    "fractions": (["dataset=esol", "dataset.fractions=[0.8,0.2]"], "three positive numbers"),
    "a key that the optimizer does not take": (["+optimizer.roh=1"], "Did you mean 'optimizer.rho'"),
    "a key that training does not take": (["+train.epoch=1"], "Did you mean 'train.epochs'"),
    "a split": (["dataset=esol", "dataset.split=scafold"], "dataset.split=scafold .* Did you mean 'scaffold'"),
    "k": (["optimizer=looksam", "optimizer.k=0"], "optimizer.k=0 is not usable: it must be an integer >= 1"),
    "a size": (["model.hidden=0"], "model.hidden=0 is not usable: it must be an integer >= 1"),
    "no experiment": (["experiment=null"], "experiment=null names no file.* quickstart,.* left out"),
    "no optimizer": (["optimizer=null"], "optimizer=null names no file.* sam,"),
    "AdaSAM without AMSGrad": (["optimizer=adasam", "base=adam"], "base=adam is not AMSGrad: add base=amsgrad"),
    "wrong in one of a list": (["-m", "optimizer=sam,sma"], "unknown optimizer 'sma'"),
}


@pytest.mark.parametrize("name", CASES)
def test_run_refuses(name, capsys, results_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides, wanted = CASES[name]
    assert main(["run", *overrides]) == 2
    output = capsys.readouterr()
    assert re.search(wanted, output.err), output.err
    assert "Traceback" not in output.err
    assert not results_dir.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_check_needs_no_torch(results_dir, tmp_path):
    """Nothing heavy is imported before the configuration is known to be right."""
    program = (
        "import sys; from sam_bench.cli import main; status = main(['run', 'dataset=digits', 'model=grover']);"
        "heavy = {'torch', 'torch_geometric', 'rdkit', 'pandas', 'wandb'} & set(sys.modules);"
        "sys.exit(f'{status} {heavy}' if heavy or status != 2 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_data_set_that_is_not_there(capsys, results_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert main(["run", "dataset=bbbp", "optimizer=erm"]) == 2
    message = capsys.readouterr().err
    assert "BBBP.csv" in message
    assert "66286cb9e6b148bd75d80c870df580fb" in message
    assert not results_dir.exists()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/dev/full"), reason="root may write everywhere")
def test_a_results_folder_that_cannot_be_made(capsys, tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(blocker / "results"))
    small = ["dataset=digits", "model=fastnet_tiny", "optimizer=erm", "train.max_steps=1"]
    assert main(["run", *small]) == 2
    assert "SAM_BENCH_RESULTS" in capsys.readouterr().err


def test_an_unknown_experiment(capsys, results_dir):
    assert main(["sweep", "quickstrat"]) == 2
    assert "Did you mean 'quickstart'" in capsys.readouterr().err


def test_no_experiment_is_no_experiment(capsys, results_dir):
    assert main(["sweep", "null"]) == 2
    assert "experiment=null names no file" in capsys.readouterr().err


def test_adasam_around_amsgrad_is_accepted():
    from sam_bench.config.compose import compose_specs

    for base in (["base=amsgrad"], ["base=adam", "+base.amsgrad=true"]):
        assert compose_specs(["optimizer=adasam", *base])[0].labels["optimizer"] == "adasam"


def test_a_table_of_nothing(capsys, results_dir):
    assert main(["table", "quickstart"]) == 2
    assert "sam-bench sweep quickstart" in capsys.readouterr().err


def test_the_traceback_is_there_for_who_asks(capsys, results_dir):
    assert main(["--traceback", "run", "dataset=bbbq"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "wanted"), [
    (["optimizer.rho=0.1,0.2"], "these are 2 runs. `sam-bench run -m`"),
    (["-m", "experiment=quickstart"], "names a tuning study, which Hydra cannot read. Use: sam-bench sweep quickstart"),
    (["--dataset", "bbbp"], "unknown option --dataset. .*key=value, for instance dataset=bbbp"),
    (["optimizer.rho=interval(0,1)"], r"optimizer.rho=interval\(0,1\): .* List them: optimizer.rho=a,b,c"),
    (["dataset=digits", "model=fastnet_tiny", "threads=0"], "threads=0 .* integer >= 1"),
])  # fmt: skip
def test_run_says_what_to_write_instead(words, wanted, capsys, results_dir):
    assert main(["run", *words]) == 2
    assert re.search(wanted, capsys.readouterr().err)
    assert not results_dir.exists()


def outcome_of(tmp_path, *words, **environment):
    """Exit status, output, and which heavy modules were imported, of a command in a process of its own."""
    program = (
        "import sys; from sam_bench.cli import main; status = main(sys.argv[1:]);"
        "print(sorted({'torch', 'torch_geometric', 'rdkit', 'pandas', 'wandb'} & set(sys.modules)), file=sys.stderr);"
        "sys.exit(status)"
    )
    environment = {**os.environ, "SAM_BENCH_RESULTS": str(tmp_path / "results"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", [("run", "dataset=digits", "model=fastnet_tiny"), ("sweep", "digits")])
def test_a_gpu_that_is_not_there_is_refused_before_torch_is_imported(command, tmp_path):
    if any(glob.glob(name) for name in GPU_FILES):
        pytest.skip("this machine has the driver of a GPU")
    status, output, errors = outcome_of(tmp_path, *command, "device=cuda")
    assert (status, output) == (2, "")
    assert "device=cuda: there is no GPU driver on this machine. Try device=cpu" in errors
    assert errors.endswith("[]\n")


def test_a_finished_run_is_told_without_torch(tmp_path):
    from sam_bench.config.compose import compose_specs
    from sam_bench.training.life import execute

    words = ("dataset=digits", "model=fastnet_tiny", "optimizer=erm", "train.max_steps=1")
    (cell,) = compose_specs(words)
    record = execute(cell, tmp_path / "results")
    status, output, errors = outcome_of(tmp_path, "run", *words)
    assert (status, errors) == (0, "[]\n")
    assert output.startswith("already finished; move ")
    assert f"grad_evals           {record['grad_evals']}" in output
    assert f"record               {tmp_path / 'results' / 'runs' / cell.run_id}" in output


def test_a_results_folder_in_a_place_that_takes_none(tmp_path):
    words = ("run", "dataset=digits", "model=fastnet_tiny", "optimizer=erm", "train.max_steps=1")
    status, _, errors = outcome_of(tmp_path, *words, SAM_BENCH_RESULTS="/proc/nowhere/results")
    assert status == 2
    assert "SAM_BENCH_RESULTS" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_ctrl_c_while_python_imports_gives_no_traceback(seconds, tmp_path):
    command = [sys.executable, "-c", "import sys; print(flush=True); from sam_bench.__main__ import start; start()"]
    process = subprocess.Popen([*command, "sweep", "quickstart", "--dry-run"], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


def test_a_terminal_that_has_ascii_only(tmp_path):
    from sam_bench.config.compose import compose_specs
    from sam_bench.training.life import execute

    words = ("optimizer=erm,sam", "seed=0", "train.max_steps=1")
    for cell in compose_specs(("experiment=digits", *words)):
        execute(cell, tmp_path / "results")
    commands = [["table", "digits", *words, "--format", form] for form in ("terminal", "markdown", "html", "latex")]
    commands += [[name, "digits", *words] for name in ("status", "verify", "sweep")]
    program = (
        "import sys; from sam_bench.cli import main\nfor line in sys.stdin.read().splitlines(): main(line.split())"
    )
    environment = {**os.environ, "SAM_BENCH_RESULTS": str(tmp_path / "results"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], input="\n".join(" ".join(c) for c in commands), text=True,
                          capture_output=True, cwd=tmp_path, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "mean +- sample standard deviation" in done.stdout
    assert "records: " in done.stdout
