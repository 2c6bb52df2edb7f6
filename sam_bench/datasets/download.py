"""Find, fetch and check the files of the data sets. Reads the YAMLs itself: importing this imports no torch."""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from sam_bench.errors import UsageError

# Where MoleculeNet's files are published; tried in this order.
MIRRORS = (
    "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/",
    "https://deepchemdata.s3.us-west-1.amazonaws.com/datasets/",
)
TIMEOUT_SECONDS = 30
LARGEST = 500_000_000  # bytes of a download; CIFAR's archives have 170 million
HERE = {"127.0.0.1", "::1", "localhost"}  # addresses on this machine need no https


@dataclass(frozen=True)
class File:
    """One published file of a data set: its place under the data folder, its checksum and its addresses.

    `chemprop` is the file's name in the layout of chemprop and GROVER, which has one column of SMILES. `unpacked` are
    the folders that the archive may have been unpacked to. Raises UsageError for a place outside the data folder.
    """

    name: str
    folder: str = "moleculenet"
    md5: str | None = None
    chemprop: str | None = None
    licence: str = "none stated"
    urls: Sequence[str] = ()
    unpacked: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key, place in (("name", self.name), ("folder", self.folder), ("chemprop", self.chemprop or ""),
                           *(("unpacked", folder) for folder in self.unpacked)):  # fmt: skip
            path = PurePath(place)
            if path.is_absolute() or ".." in path.parts or "\0" in place:
                raise UsageError(f"dataset.file.{key} is {place!r}: name a place inside the data folder.")
        if not self.name or len(PurePath(self.name).parts) != 1:
            raise UsageError(f"dataset.file.name is {self.name!r}: give the name of a file.")

    def folder_in(self, data_dir: Path) -> Path | None:
        """The unpacked folder that exists, if one does."""
        return next((data_dir / name for name in self.unpacked if (data_dir / name).is_dir()), None)

    def addresses(self) -> tuple[str, ...]:
        """The addresses to fetch it from, the preferred one first."""
        return tuple(self.urls) or tuple(mirror + self.name for mirror in MIRRORS)


@dataclass(frozen=True)
class Found:
    """A file on disk, and whether a checksum shows that it is the published one; if not, `note` says why."""

    path: Path
    layout: str  # official | chemprop
    verified: bool
    note: str = ""


def obtain(name: str, file: File, data_dir: Path, verify: bool = True) -> Found:
    """The file of data set `name`: the one in `data_dir` if there is one, else a download of the official file.

    Raises UsageError if a checksum is known and wrong (unless `verify` is off), or if nothing can be fetched.
    """
    found = locate(name, file, data_dir, verify)
    if found is None:
        download(file.addresses(), data_dir / file.folder / file.name, file.md5)
        found = locate(name, file, data_dir, verify)
    assert found is not None
    return found


def locate(name: str, file: File, data_dir: Path, verify: bool = True) -> Found | None:
    """The file of data set `name` in `data_dir`, first in the official layout, then in chemprop's; None if absent.

    An official file with a wrong checksum still comes before chemprop's, so that nothing is replaced silently.
    """
    for path in _official_places(file, data_dir):
        if path.is_file():
            return _checked(name, file, path, verify)
    for path in _chemprop_places(file, data_dir):
        if path.is_file():
            return Found(path, "chemprop", False, f"{path.name} is in chemprop's layout: no checksum is published")
    return None


def _official_places(file: File, data_dir: Path) -> Iterator[Path]:
    plain = file.name.removesuffix(".gz")
    packed_first = (file.name, plain) if file.name != plain else (plain, plain + ".gz")
    for folder in (data_dir / file.folder, data_dir):
        for name in packed_first:
            yield folder / name


def _chemprop_places(file: File, data_dir: Path) -> Iterator[Path]:
    if file.chemprop is not None:
        for folder in (data_dir / file.folder / "chemprop_format", data_dir / "chemprop_format"):
            yield folder / file.chemprop
            yield folder / (file.chemprop + ".gz")


def _checked(name: str, file: File, path: Path, verify: bool) -> Found:
    if file.md5 is None:
        return Found(path, "official", False, f"no checksum is published for {file.name}")
    if path.name != file.name:
        return Found(path, "official", False, f"a checksum is published for {file.name} only, not for {path.name}")
    if (actual := md5(path)) == file.md5:
        return Found(path, "official", True)
    if verify:
        raise UsageError(
            f"{path} is not the published file: its md5 is {actual}, not {file.md5}. Move it away and run "
            f"`sam-bench data fetch {name}`, or use it as it is with dataset.verify=false (the record will say so)."
        )
    return Found(path, "official", False, f"md5 of {path.name} is {actual}, the published one is {file.md5}")


def md5(path: Path) -> str:
    """MD5 of a file, in hexadecimal; UsageError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


def download(addresses: Sequence[str], destination: Path, known_md5: str | None) -> None:
    """Fetch `destination` from the first https address that delivers the right bytes, showing progress.

    The file is complete or absent: it is written under another name and then renamed. Raises UsageError if no address
    works, the disk is full or the folder is not writable.
    """
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    failures = []
    with writable(destination.parent), tempfile.TemporaryDirectory(dir=destination.parent, prefix=".part-") as part:
        for address in addresses:
            try:
                known = None if known_md5 is None else f"md5:{known_md5}"
                pooch.retrieve(address, known, fname=destination.name, path=part, downloader=_fetch)
            except Exception as error:  # requests, urllib3 and pooch each raise their own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                    raise
                failures.append(f"  {address}: {_reason(error)}")
                continue
            os.replace(Path(part) / destination.name, destination)
            return
    checksum = f", md5 {known_md5}" if known_md5 else ""
    raise UsageError(
        f"{destination.name} could not be fetched:\n" + "\n".join(failures) + "\n"
        f"Without a network, put the file there yourself: {destination}{checksum}."
    )


def _fetch(address: str, file: str, _: object) -> None:
    """Write the bytes from an address to `file`: https only, redirects included, and at most LARGEST bytes."""
    import requests
    from tqdm import tqdm

    _refuse_unless_https(address)
    with requests.get(address, stream=True, timeout=TIMEOUT_SECONDS) as response:
        for answer in (*response.history, response):
            _refuse_unless_https(answer.url)
        response.raise_for_status()
        total = int(response.headers.get("content-length", 0))
        with open(file, "wb") as stream, tqdm(total=total or None, unit="B", unit_scale=True) as bar:
            for chunk in response.iter_content(1 << 16):
                bar.update(stream.write(chunk))
                if max(total, bar.n) > LARGEST:
                    raise UsageError(f"it sends more than {LARGEST / 1e6:.0f} MB, more than any data set we know")


def _refuse_unless_https(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HERE):
        raise UsageError(f"{parts.scheme}://{parts.hostname} is not https: anybody on the way could change the bytes")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make `folder`; an error while writing into it becomes a UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free / 1e6
            raise UsageError(
                f"No space left for {folder} ({free:.0f} MB free). Make room, or set SAM_BENCH_DATA to another disk."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UsageError(
                f"{folder} cannot be written ({error.strerror}). Set SAM_BENCH_DATA to a folder of your own."
            ) from None
        raise


def _reason(error: BaseException) -> str:
    """Why an address failed, in a few words."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, ValueError) and "hash" in str(error):
        return "it sends other bytes than the published ones (md5 differs)"
    while inner := error.__cause__ or error.__context__:
        error = inner  # the innermost error names the cause, the others wrap it
    return f"{type(error).__name__}: {str(error)[:120]}"
