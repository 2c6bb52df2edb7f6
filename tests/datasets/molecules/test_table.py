"""Reading a csv: both layouts, and a clear message for every broken file."""

import gzip
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_bench.datasets import bounded
from sam_bench.datasets.molecules import table
from sam_bench.errors import UsageError


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "my.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_columns_by_name_and_missing_labels(write):
    path = write('id,y2,SMILES,y1\n7,,CCO,1.5\n8,NaN,"C[C@H](O)C, x",-2e3\n\n9,4,c1ccccc1,0\n')
    found = table.read_csv_table(path, "SMILES", ["y1", "y2"], "regression")
    assert found.smiles == ["CCO", "C[C@H](O)C, x", "c1ccccc1"]
    assert found.target_names == ("y1", "y2")
    assert np.array_equal(found.targets[:, 0], [1.5, -2000, 0])
    assert np.array_equal(found.targets[:, 1], [np.nan, np.nan, 4], equal_nan=True)
    assert found.lines.tolist() == [2, 3, 5]


def test_layout_of_chemprop_is_first_column_and_the_rest(write):
    found = table.read_csv_table(write("mol,a,b\nCCO,1,0\n"), None, None, "binary")
    assert (found.smiles, found.target_names) == (["CCO"], ("a", "b"))


def test_the_checksum_is_of_the_data_not_of_the_layout(write):
    one = table.read_csv_table(write("id,y,smiles\n1,2.50,CCO \n2,,C\n"), "smiles", ["y"], "regression")
    packed = gzip.compress(b"\xef\xbb\xbfsmiles,z\r\nCCO,2.5\r\nC,nan\r\n")
    other = table.read_csv_table(write(packed, "b.csv.gz"), None, None, "regression")
    assert one.sha256() == other.sha256()
    assert one.sha256() != table.read_csv_table(write("smiles,y\nCCO,2.5\nC,0\n"), None, None, "regression").sha256()


def test_a_file_without_a_header_is_not_one_molecule_short(write):
    path = write("C,1.5\nCC,2\n")
    with pytest.raises(
        UsageError, match=r"seems to have no header: its first line is 'C,1\.5'.*'dataset\.targets=\[1\.5\]'"
    ):
        table.read_csv_table(path, None, None, "regression")
    assert table.read_csv_table(path, None, ["1.5"], "regression").smiles == ["CC"]


def test_a_column_that_is_there_twice_with_the_same_content_is_one(write):
    found = table.read_csv_table(write("s,E1,E1\nC,1,1\nN,2,2\n"), "s", ["E1"], "regression")
    assert found.targets.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_read(mark, write):
    path = write(f"SMILES{mark}y{mark}z\nCC(C)C{mark}1.5{mark}\nO{mark}2{mark}3\n")
    found = table.read_csv_table(path, "SMILES", ["z", "y"], "regression")
    assert found.smiles == ["CC(C)C", "O"]
    assert np.array_equal(found.targets, [[np.nan, 1.5], [3, 2]], equal_nan=True)
    assert (
        found.sha256()
        == table.read_csv_table(write("a,z,y\nCC(C)C,,1.5\nO,3,2\n", "b.csv"), None, None, "regression").sha256()
    )


def test_a_hundred_thousand_columns_are_read_in_linear_time(write):
    """In a second; where each name was looked for among all others it took minutes."""
    names = [f"y{i}" for i in range(100_000)]
    path = write(",".join(["s", *names]) + "\n" + ",".join(["C", *("1" for _ in names)]))
    before = time.process_time()
    assert table.read_csv_table(path, None, names, "binary").targets.shape == (1, 100_000)
    with pytest.raises(UsageError, match=r"no column 'z'\. It has 100001 columns"):
        table.read_csv_table(path, "z", None, "binary")
    assert time.process_time() - before < 30


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(write, monkeypatch):
    monkeypatch.setattr(bounded, "SMALLEST_LIMIT", 100_000)
    path = write(gzip.compress(b"SMILES,y\n" + b"C,1\n" * 1_000_000), "bomb.csv.gz")
    with pytest.raises(UsageError, match="expands to more than"):
        table.read_csv_table(path, None, None, "regression")
    harmless = write(gzip.compress(b"SMILES,y\n" + b"C,1\n" * 20_000), "long.csv.gz")
    assert len(table.read_csv_table(harmless, None, None, "regression").smiles) == 20_000


BROKEN = {
    "empty": ("", "is empty"),
    "only a header": ("SMILES,y\n", "no row"),
    "missing column": ("smiles,y\nC,1\n", "no column 'SMILES'.*'smiles'"),
    "missing target": ("SMILES,activity\nC,1\n", "no column 'y'"),
    "not a number": ("SMILES,y\nC,1\nCC,high\n", "line 3: 'high' in column 'y' is not a number"),
    "decimal comma": ('SMILES,y\nC,"1,5"\n', "line 2: '1,5'.*Write decimals with a point"),
    "decimal comma between semicolons": ("SMILES;y\nC;1,5\n", "line 2: '1,5'.*Write decimals with a point"),
    "infinite": ("SMILES,y\nC,inf\n", "line 2: .*infinite"),
    "short row": ("SMILES,y\nC,1\nCC\n", "line 3: 1 fields where the header has 2"),
    "long row": ("SMILES,y\nC,1,5\n", "line 2: 3 fields"),
    "beyond float32": ("SMILES,y\nC,1\nCC,1e300\n", "line 3: 1e\\+300 in column 'y' .* float32"),
    "no label": ("SMILES,y\nC,\nCC,nan\n", "no label at all in column 'y'"),
    "two columns of SMILES": ("SMILES,SMILES,y\nC,N,1\n", "2 different columns 'SMILES'"),
    "UTF-16": ("SMILES,y\nC,1\n".encode("utf-16"), "not UTF-8.*iconv -f UTF-16"),
    "UTF-16 without its mark": ("SMILES,y\nC,1\n".encode("utf-16-le"), "not UTF-8.*iconv -f UTF-16"),
    "twice": ("SMILES,y,y\nC,1,2\n", "2 different columns 'y'"),
    "not UTF-8": (b"SMILES,y\nC,1 \xb0\n", "not UTF-8.*0xb0"),
    "open quote": ('SMILES,y\n"C,1\n', "not a csv file"),
    "binary file": (b"PK\x03\x04\xff\xfe\x00\x00", "not UTF-8"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_trouble(case, write):
    content, message = BROKEN[case]
    path = write(content)
    with pytest.raises(UsageError, match=message) as raised:
        table.read_csv_table(path, "SMILES", ["y"], "regression")
    assert str(path) in str(raised.value)


def test_classes_must_be_0_and_1(write):
    path = write("SMILES,y\nC,1\nCC,0\nCCC,2\n")
    with pytest.raises(UsageError, match=r"line 4: 2 in column 'y' is neither 0 nor 1.*regression"):
        table.read_csv_table(path, "SMILES", ["y"], "binary")
    table.read_csv_table(path, "SMILES", ["y"], "regression")


def test_a_broken_gzip_file(write):
    whole = gzip.compress(b"SMILES,y\n" + b"CCCO,1\n" * 1000)
    for content in (whole[:-20], b"SMILES,y\nC,1\n"):
        with pytest.raises(UsageError, match="broken gzip"):
            table.read_csv_table(write(content, "my.csv.gz"), "SMILES", ["y"], "regression")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        table.read_csv_table(tmp_path / "none.csv", None, None, "regression")
    with pytest.raises(UsageError, match="is a folder"):
        table.read_csv_table(tmp_path, None, None, "regression")


def test_labels_without_a_column(write):
    with pytest.raises(UsageError, match="no column of labels"):
        table.read_csv_table(write("smiles\nC\n"), None, None, "regression")


CELLS = st.one_of(
    st.sampled_from(
        ["C", "CCO", "1", "0", "nan", "", "1e999", "-1", "1,5", "y", "SMILES", "=1+1", "\x1b[31m", "\0", "é"]
    ),
    st.text(max_size=5),
)
TABLES = st.builds(
    lambda rows, comma, end: end.join(comma.join(row) for row in rows).encode("utf-8", "surrogatepass"),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5),
    st.sampled_from([",", ";", "\t", ",,", '"']),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


@settings(deadline=None)  # another test may have the machine
@given(
    content=st.one_of(st.binary(max_size=60), TABLES, TABLES.map(gzip.compress)),
    suffix=st.sampled_from(["csv", "csv.gz"]),
    targets=st.sampled_from([None, ["y"], ["1"]]),
    kind=st.sampled_from(["regression", "binary"]),
)
def test_any_bytes_are_a_table_or_a_message(content, suffix, targets, kind, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{suffix}"
    path.write_bytes(content)
    try:
        found, said = table.read_csv_table(path, None, targets, kind), ""
    except UsageError as error:
        found, said = None, str(error)
    assert "\n" not in said
    assert "\x1b" not in said
    if found is None:
        assert str(path) in said
    else:
        assert found.smiles
        assert found.targets.shape == (len(found.smiles), len(found.target_names))
        assert len(found.lines) == len(found.smiles)
        assert not np.isinf(found.targets).any()
