#!/usr/bin/env python3
"""Sweeps under fire: kills, stops, full disks, planted links, torn files; then a comparison with one left alone.

scripts/chaos/chaos.py --kills 200 --seed 0     (make chaos)

The seed decides what is drawn; when it hits is the machine's affair. Linux only. Exits with 1 if anything was lost,
doubled, corrupt or different.
"""

import argparse
import collections
import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from compare import differences, table_without_clocks
from links import Links

HERE = Path(__file__).resolve().parent
EXPERIMENT = """# @package _global_
defaults: [{override /dataset: digits}, {override /model: fastnet_tiny}, {override /logger: witness}]
model: {widths: [8, 16]}
train: {epochs: 6, batch_size: 64, checkpoint_seconds: 0.05}
hydra: {sweeper: {params: {optimizer: "erm,sam,looksam,graphsam", seed: "0,1"}}}
"""
FULL_MIB = 48  # size of the small disk: the runs need a tenth of it
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
PER_ROUND = 40  # kills between two comparisons, at most
HITS = {"worker": 14, "fork server": 2, "driver": 1, "everything": 1, "stopped": 3, "full disk": 2, "no permission": 2,
        "links": 2}  # fmt: skip


def obey_permissions() -> None:
    """Take from root what lets it write where it may not (before exec; nobody else has it)."""
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


class Storm:
    """Sweeps of one experiment in `results`, on a disk that can be filled; `hits` counts what was done to them."""

    def __init__(self, folder: Path, seed: int, drivers: int, every: float):
        self.folder, self.draw, self.drivers = folder, random.Random(seed), drivers
        self.disk = folder / "disk"
        self.mounted = False
        self.hits: collections.Counter[str] = collections.Counter()
        self.family: list[subprocess.Popen] = []
        undisturbed = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
        self.environment = {
            **undisturbed, "SAM_BENCH_CONFIGS": str(folder / "configs"), "SAM_BENCH_STALE_AFTER": "30",
            "PYTHONPATH": str(HERE), "CHAOS_WITNESS": str(folder), "CHAOS_LOG": str(folder / "deaths"),
            "CHAOS_SEED": str(seed),
        }  # fmt: skip
        self.links = Links(folder / "precious", self.draw)
        self.faults = {"CHAOS_FOLDER": str(self.disk), "CHAOS_EVERY": str(every)}
        (folder / "deaths").touch()
        for path, text in (("experiment/chaos", EXPERIMENT), ("logger/witness", "_target_: witness.Witness\n")):
            target = folder / "configs" / f"{path}.yaml"
            target.parent.mkdir(parents=True)
            target.write_text(text)

    def __enter__(self) -> "Storm":
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL_MIB}m", "tmpfs", str(self.disk)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self.family:
            self._kill_group(driver)
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=True)

    # -- sweeps --------------------------------------------------------------------------------------------------

    def command(self, results: Path, *words: str, **options) -> subprocess.CompletedProcess:
        """A sam-bench command that nothing disturbs."""
        environment = {**self.environment, "SAM_BENCH_RESULTS": str(results)}
        command = [sys.executable, "-m", "sam_bench", *words]
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=False, **options)

    def _launch(self, results: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "sam_bench", "sweep", "chaos", "--jobs", "2", "--retries", "1000"]
        threads = {"OMP_NUM_THREADS": self.draw.choice(("", "1", "2", "4")), "MKL_NUM_THREADS": self.draw.choice("12")}
        environment = {**self.environment, **self.faults, **threads, "SAM_BENCH_RESULTS": str(results)}
        with open(self.folder / "drivers.log", "a") as log:
            return subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=obey_permissions
            )

    def blow(self, results: Path, cells: int, kills: int) -> None:
        """Disturb sweeps until `cells` are finished, or so many processes were killed since the beginning."""
        while self.kills < kills and len(list(results.glob("runs/*[0-9a-f]/record.json"))) < cells:
            self.family = [driver for driver in self.family if driver.poll() is None]
            self.family += [self._launch(results) for _ in range(self.drivers - len(self.family))]
            workers = self._workers()
            if workers:  # nothing is hit while Python is importing
                time.sleep(self.draw.uniform(0.0, 0.6))
                self._hit(results)
            time.sleep(0.05)
        for driver in self.family:
            self._kill_group(driver)

    @property
    def kills(self) -> int:
        """Processes that were killed, by us or by themselves at a write boundary."""
        return self.hits["killed"] + len((self.folder / "deaths").read_text().splitlines())

    # -- what happens to them --------------------------------------------------------------------------------------

    def _hit(self, results: Path) -> None:
        what = self.draw.choices(list(HITS), list(HITS.values()))[0]
        driver = self.draw.choice(self.family)
        workers = self._workers()
        self.hits[what] += 1
        if what == "worker" and workers:
            self._kill(self.draw.choice(workers))
        elif what == "fork server":
            self._kill(*self._children(driver)[:1])
        elif what == "driver":
            self._kill(psutil.Process(driver.pid)) if driver.poll() is None else None
        elif what == "everything":
            for each in self.family:
                self._kill_group(each, count=True)
        elif what == "stopped":
            self._stop(self.draw.choice([*workers, *self._children(driver), psutil.Process(driver.pid)]))
        elif what == "links":
            self.links.plant(results, self.draw.uniform(0.2, 1.0))
        elif what == "full disk":
            self._fill(self.draw.uniform(0.2, 1.0))
        elif what == "no permission":
            self._revoke(results, self.draw.uniform(0.2, 1.0))

    def _children(self, driver: subprocess.Popen) -> list[psutil.Process]:
        """The fork server of a driver; multiprocessing's resource tracker is left alone."""
        try:
            children = psutil.Process(driver.pid).children()
            return [child for child in children if "forkserver" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def _workers(self) -> list[psutil.Process]:
        found = []
        for server in (server for driver in self.family for server in self._children(driver)):
            try:
                found += server.children()
            except psutil.Error:
                continue
        return found

    def _kill(self, *processes: psutil.Process) -> None:
        for process in processes:
            try:
                process.kill()
                self.hits["killed"] += 1
            except psutil.Error:
                continue

    def _stop(self, process: psutil.Process) -> None:
        """Hold a process for a while; then let it go on, or kill it."""
        try:
            process.suspend()
            time.sleep(self.draw.uniform(0.5, 3.0))
            process.resume() if self.draw.random() < 0.5 else self._kill(process)
        except psutil.Error:
            return

    def _kill_group(self, driver: subprocess.Popen, count: bool = False) -> None:
        """A driver and all that it started, as a power cut would."""
        try:
            os.killpg(driver.pid, signal.SIGKILL)
            self.hits["killed"] += count
        except ProcessLookupError:
            pass
        driver.wait()

    def _fill(self, seconds: float) -> None:
        """No byte more on the small disk; without one, no file of the workers may grow."""
        if not self.mounted:
            workers = [process.pid for process in self._workers()]
            self._limit(workers, self.draw.choice((0, 200, 4000)))
            time.sleep(seconds)
            return self._limit(workers, resource.RLIM_INFINITY)
        ballast = os.open(self.disk / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            for size in (2**20, 4096):
                while True:
                    os.write(ballast, b"\0" * size)
        except OSError:
            time.sleep(seconds)
        finally:
            os.close(ballast)
            (self.disk / "ballast").unlink()

    def _limit(self, pids: list[int], size: int) -> None:
        for pid in pids:
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            except OSError:
                continue

    def _revoke(self, results: Path, seconds: float) -> None:
        """Nothing may be made, renamed or removed in the folders of the runs."""
        for folder in self._folders(results):
            folder.chmod(0o555)
        time.sleep(seconds)
        for folder in self._folders(results):
            folder.chmod(0o755)

    def _folders(self, results: Path) -> list[Path]:
        runs = results / "runs"
        return [runs, *(path for path in runs.iterdir() if path.is_dir())] if runs.is_dir() else []


def main() -> int:
    """Rounds of disturbed sweeps, each in a new folder, each compared with the one that was left alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="end after so many killed processes (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--drivers", type=int, default=2, help="sweeps at once on the same records (default: 2)")
    parser.add_argument("--every", type=float, default=150, help="a death in so many write boundaries (default: 150)")
    arguments = parser.parse_args()
    begin, wrong, rounds = time.monotonic(), [], 0
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        Storm(Path(folder), arguments.seed, arguments.drivers, arguments.every) as storm,
    ):
        calm = Path(folder) / "calm"
        done = storm.command(calm, "sweep", "chaos", "--jobs", "2")
        if done.returncode:
            print(done.stdout, done.stderr)
            return 1
        table = table_without_clocks(storm.command(calm, "table", "chaos", "--format", "csv").stdout)
        storm.links.cells = sorted(path.name for path in (calm / "runs").iterdir())
        cells = len(storm.links.cells)
        while storm.kills < arguments.kills and not wrong:
            rounds += 1
            wrong = one_round(storm, calm, table, cells, min(arguments.kills, storm.kills + PER_ROUND), rounds)
            told = "; ".join(wrong) or "all as undisturbed"
            print(f"round {rounds}: {storm.kills} kills, {time.monotonic() - begin:.0f} s: {told}", flush=True)
        tell(storm, rounds, cells, time.monotonic() - begin)
        if wrong:
            print((Path(folder) / "drivers.log").read_text()[-4000:], file=sys.stderr)
    return int(bool(wrong))


def one_round(storm: Storm, calm: Path, table: bytes, cells: int, kills: int, number: int) -> list[str]:
    """Disturb, let a sweep finish in peace, compare."""
    results = storm.disk / f"round{number}"
    storm.blow(results, cells, kills)
    done = storm.command(results, "sweep", "chaos", "--jobs", "2")
    wrong = [] if done.returncode == 0 else [f"the last sweep ended with {done.returncode}: {done.stdout[-2000:]}"]
    wrong += differences(calm, results)
    if table_without_clocks(storm.command(results, "table", "chaos", "--format", "csv").stdout) != table:
        wrong.append("another table")
    if touched := storm.links.touched():
        wrong.append(f"written or removed through a link: {touched}")
    if (storm.folder / "doubled").exists():
        wrong.append("at work on one run at once: " + (storm.folder / "doubled").read_text())
    storm.hits["waste"] += sum(path.name.startswith(".") for path in (results / "runs").iterdir())
    shutil.rmtree(results)
    return wrong


def tell(storm: Storm, rounds: int, cells: int, seconds: float) -> None:
    """What was done to the sweeps."""
    deaths = (storm.folder / "deaths").read_text().splitlines()
    torn = sum(" cut " in line for line in deaths)
    disk = "a tmpfs" if storm.mounted else "RLIMIT_FSIZE"
    print(f"{storm.kills} processes killed in {rounds} rounds of {cells} cells, {seconds:.0f} s:")
    waste = storm.hits.pop("waste")
    print(f"  {storm.hits.pop('killed')} from outside: {dict(storm.hits)}")
    print(f"  {len(deaths)} at a write boundary, {torn} of them after cutting a file short; full disk by {disk}")
    print(f"  {waste} hidden folders of the dead were left in runs")


if __name__ == "__main__":
    sys.exit(main())
