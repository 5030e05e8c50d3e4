"""Tables, MATLAB's files and weights that are damaged, hostile or something else: data, or one line that says why."""

import io
import os
import pickle
import time
import warnings
import zipfile

import numpy as np
import openpyxl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.io import savemat
from torch import nn

from fewshot_iqa.config import load_config, load_task
from fewshot_iqa.data import matlab, workbooks
from fewshot_iqa.data.matlab import read_mat
from fewshot_iqa.data.releases import READERS
from fewshot_iqa.data.tables import read_rows
from fewshot_iqa.data.xls import read_xls
from fewshot_iqa.errors import InputError, InputWarning, first_sentence
from fewshot_iqa.model.clip import load_clip
from fewshot_iqa.model.weights import read_weights
from fewshot_iqa.recipes.common import choose_device
from fewshot_iqa.recipes.sources import read_source
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import PARTS, SPLIT

CSV = "image;score\n" + "".join(f"p{i}.png;{i},5\n" for i in range(9))
damage = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)
cuts = st.none() | st.integers(0, 10**6)
FUZZED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def damaged(content: bytes, changes, cut) -> bytes:
    found = bytearray(content)
    for place, value in changes:
        found[place % len(found)] = value
    return bytes(found if cut is None else found[: cut % len(found)])


def read_or_refuse(read, path) -> None:
    """Fails where a file is neither read nor refused in a line."""
    started, said = time.monotonic(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            read(path)
    except InputError as error:
        said = str(error)
    assert len(said) < 500
    assert "weights_only" not in said
    assert time.monotonic() - started < 10


def rezipped(content: bytes, edit, **options) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(made, "w", **options) as target:
        for name in source.namelist():
            target.writestr(name, edit(name, source.read(name)))
    return made.getvalue()


@pytest.fixture(scope="module")
def book():
    sheet = openpyxl.Workbook()
    for row in (["image", "score"], ["p0.png", 1.5], ["p1.png", 2]):
        sheet.active.append(row)
    made = io.BytesIO()
    sheet.save(made)
    return made.getvalue()


def in_sheet(book, old, new, **options):
    return rezipped(book, lambda name, part: part.replace(old, new) if "sheet1" in name else part, **options)


STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5).half(), "n": torch.arange(3)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{kind: the content of a small file of weights}."""
    folder = tmp_path_factory.mktemp("saved")
    torch.save(STATE, folder / "zip")
    torch.save(STATE, folder / "old", _use_new_zipfile_serialization=False)
    save_file(STATE, folder / "safetensors")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", ["utf-8", "utf-16"])
def test_damaged_text(kind, tmp_path):
    @FUZZED
    @given(damage, cuts)
    def check(changes, cut):
        (tmp_path / "t.csv").write_bytes(damaged(CSV.encode(kind), changes, cut))
        read_or_refuse(read_rows, tmp_path / "t.csv")

    check()


@pytest.mark.parametrize("inside", [False, True])
def test_damaged_workbooks(inside, book, tmp_path):
    @FUZZED
    @given(damage, cuts, st.sampled_from(["sheet1.xml", "workbook.xml", "styles.xml"]))
    def check(changes, cut, part):
        def edit(name, content):
            return damaged(content, changes, None) if name.endswith(part) else content

        content = rezipped(book, edit) if inside else damaged(book, changes, cut)
        (tmp_path / "t.xlsx").write_bytes(content)
        read_or_refuse(read_rows, tmp_path / "t.xlsx")

    check()


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_of_matlab(compressed, tmp_path):
    path, names = tmp_path / "AllMOS_release.mat", np.empty((2, 1), object)
    names[:, 0] = ["a.bmp", "b.bmp"]
    for name, value in (("AllMOS", [[1.5, 2.5]]), ("AllImages", names), ("AllStdDev", [[1.0, 1.0]])):
        savemat(tmp_path / f"{name}_release.mat", {f"{name}_release": value}, do_compression=compressed)
    sound = [file.read_bytes() for file in (path, tmp_path / "AllImages_release.mat")]
    assert list(read_rows(path, READERS["livec"]).rows["image"]) == ["a.bmp", "b.bmp"]

    @FUZZED
    @given(damage, cuts, st.integers(0, 1))
    def check(changes, cut, which):
        for i, (file, content) in enumerate(zip((path, tmp_path / "AllImages_release.mat"), sound, strict=True)):
            file.write_bytes(damaged(content, changes, cut) if i == which else content)
        read_or_refuse(lambda file: read_rows(file, READERS["livec"]), path)

    check()


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_damaged_weights(kind, saved, tmp_path):
    @FUZZED
    @given(damage, cuts, st.booleans())
    def check(changes, cut, inside):
        def edit(name, content):
            return damaged(content, changes, None) if name.endswith("data.pkl") else content

        content = rezipped(saved[kind], edit) if inside and kind == "zip" else damaged(saved[kind], changes, cut)
        (tmp_path / "w").write_bytes(content)
        read_or_refuse(read_weights, tmp_path / "w")

    check()


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_weights_are_known_by_what_they_begin_with(kind, saved, tmp_path):
    (tmp_path / "w.bin").write_bytes(saved[kind])
    weights, quick_gelu = read_weights(tmp_path / "w.bin")
    assert quick_gelu is None
    for name, value in STATE.items():
        torch.testing.assert_close(weights[name], value.float())


def saving(value):
    def write(path):
        torch.save(value, path)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("<html>Please sign in</html>"), "it begins with '<html>.*': a page, not weights"),
        (
            lambda path: path.write_text("version https://git-lfs"),
            "it begins with 'version https://git-lfs': no weights",
        ),
        (lambda path: path.write_bytes(b""), "it is cut or empty"),
        (saving({1: torch.ones(2)}), "no state dict of tensors: 1 is Tensor"),
        (saving({"epoch": 3, "model": {}}), "no state dict of tensors: 'epoch' is int"),
        (saving(None), "it holds no state dict"),
        (saving({}), "it holds no state dict"),
        (saving(nn.Linear(2, 2)), r"torch\.nn\.modules\.linear\.Linear.*: save the state_dict\(\) of a model"),
        (saving({"a": torch.ones(1).expand(10**12)}), "a tensor claims more values than are stored"),
        (lambda path: path.write_bytes(pickle.dumps(os.system)), "it holds more than tensors, or is damaged"),
        (lambda path: path.write_bytes((2**40).to_bytes(8, "little") + b"{"), "header"),
    ],
)
def test_what_is_no_weights(write, message, tmp_path):
    write(tmp_path / "w.pt")
    with pytest.raises(InputError, match=message) as refused:
        read_weights(tmp_path / "w.pt")
    assert "weights_only" not in str(refused.value)


def test_storages_are_no_larger_than_their_entries(saved, tmp_path):
    short = rezipped(saved["zip"], lambda name, part: part[:8] if "/data/" in name else part)
    bomb = rezipped(
        saved["zip"],
        lambda name, part: bytes(50_000_000) if name.endswith("/data/0") else part,
        compression=zipfile.ZIP_DEFLATED,
    )
    for content, message in ((short, "more bytes than are stored"), (bomb, "many times its size")):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_weights(tmp_path / "w.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_rows, read_weights, lambda path: load_clip(f"ViT-B-32:{path}")):
        with pytest.raises(InputError, match="pipe: not a regular file"):
            read(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: not a regular file, not a table"):
        read_source(None, labels=tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.yaml")
    for load in (load_config, load_task):
        with pytest.raises(InputError, match=r"pipe\.yaml: not a regular file$"):
            load(str(tmp_path / "pipe.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as an architecture"),
        ("[1]", "not an architecture of open_clip"),
        ('{"embed_dim": 8, "vision_cfg": 3, "text_cfg": {}}', "not an architecture of open_clip"),
    ],
)
def test_architectures_that_are_none(content, message, miniature, tmp_path):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_clip(f"{tmp_path / 'broken.json'}:{miniature.rpartition(':')[2]}")
    assert load_clip(miniature).image_size == 32  # open_clip has not kept it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b'r="B3"', b'r="B99999999999"'), "its last cell is in row 99999999999 and column 2: delete it"),
        ((b'<c r="B3"', b'<c r="ZZZ3"'), "its last cell is in row 3 and column 18278: delete it"),
        ((b"<worksheet", b'<!DOCTYPE a [<!ENTITY b "c">]><worksheet'), "it declares a document type"),
        ((b"</sheetData>", b""), r"its XML is broken, mismatched tag.*: save it as \.xlsx or \.csv"),
    ],
)
def test_sheets_that_are_refused(change, message, book, tmp_path):
    (tmp_path / "t.xlsx").write_bytes(in_sheet(book, *change))
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "t.xlsx")


def test_a_styled_cell_far_away_holds_nothing(book, tmp_path):
    content = in_sheet(book, b"</sheetData>", b'<row r="1048576"><c r="XFD1048576" s="0"/></row></sheetData>')
    (tmp_path / "t.xlsx").write_bytes(content)
    assert list(read_rows(tmp_path / "t.xlsx").rows["score"]) == ["1.5", "2"]


def test_sizes_are_compared_before_anything_is_unpacked(book, tmp_path, monkeypatch):
    spaces = in_sheet(book, b"</sheetData>", b"</sheetData>" + b" " * 2_000_000, compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "t.xlsx").write_bytes(spaces)
    monkeypatch.setattr(workbooks, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(InputError, match="it unpacks to more than 1,000,000 bytes"):
        read_rows(tmp_path / "t.xlsx")


@pytest.fixture
def shared():
    """A workbook whose texts are in a part of their own: change a part by its place in PARTS, and write it."""
    parts = seeds("xlsx")[-1].split(SPLIT)

    def write(path, **changes):
        made = dict(zip(PARTS, parts, strict=True))
        for name, change in changes.items():
            (part,) = [part for part in PARTS if name in part and "rels" not in part]
            assert change[0] in made[part]
            made[part] = made[part].replace(*change)
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in made.items():
                archive.writestr(part, content)
        return path

    return write


def test_no_more_texts_are_expected_than_a_workbook_holds(shared, tmp_path):
    """Memory for so many would be asked for, and the process end."""
    path = shared(tmp_path / "t.xlsx", sharedStrings=(b'uniqueCount="3"', b'uniqueCount="99999999999"'))
    with pytest.raises(InputError, match="it claims more texts than it holds"):
        read_rows(path)


def test_a_long_text_is_not_repeated_without_end(shared, tmp_path, monkeypatch):
    rows = b'<row><c t="s"><v>2</v></c><c><v>3</v></c></row>' * 50
    path = shared(tmp_path / "t.xlsx", sheet1=(b"</sheetData>", rows + b"</sheetData>"))
    assert len(read_rows(path).rows) == 52
    texts = (b"p0.png", b"p" * 1000)
    path = shared(path, sheet1=(b"</sheetData>", rows + b"</sheetData>"), sharedStrings=texts)
    monkeypatch.setattr(workbooks, "MOST_BYTES", 20_000)
    with pytest.raises(InputError, match="its cells hold more than 20,000 characters"):
        read_rows(path)


def test_sheets_that_are_one_part_are_not_read_without_end(shared, tmp_path, monkeypatch):
    again = b"".join(b'<sheet name="s%d" sheetId="%d" r:id="rId1"/>' % (i, i) for i in range(9))
    path = shared(tmp_path / "t.xlsx", workbook=(b"</sheets>", again + b"</sheets>"))
    assert len(read_rows(path).rows) == 2
    monkeypatch.setattr(workbooks, "SPARE_CELLS", 20)
    with pytest.raises(InputError, match="its sheets hold more than its parts"):
        read_rows(path)


def test_formulas_without_a_value_are_said(book, tmp_path):
    (tmp_path / "t.xlsx").write_bytes(in_sheet(book, b"<v>2</v>", b"<f>1+1</f><v></v>"))
    with pytest.warns(InputWarning, match="formulas without a value: 1; a spreadsheet program"):
        read_rows(tmp_path / "t.xlsx")
    (tmp_path / "t.xlsx").write_bytes(in_sheet(book, b"<v>2</v>", b"<f>1+1</f><v>2</v>"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(read_rows(tmp_path / "t.xlsx").rows["score"]) == ["1.5", "2"]


def test_hidden_rows_are_said(book, tmp_path):
    (tmp_path / "t.xlsx").write_bytes(in_sheet(book, b'<row r="2"', b'<row r="2" hidden="1"'))
    with pytest.warns(InputWarning, match="hidden rows, which are read as the others: 1"):
        assert list(read_rows(tmp_path / "t.xlsx").rows["score"]) == ["1.5", "2"]


def test_the_process_beside_reads_no_module_of_the_working_folder(book, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert read_xls(book) == {"Sheet": [["image", "score"], ["p0.png", "1.5"], ["p1.png", "2"]]}


def test_files_under_the_name_of_another(book, tmp_path):
    (tmp_path / "t.csv").write_bytes(book)
    assert list(read_rows(tmp_path / "t.csv").rows["score"]) == ["1.5", "2"]
    (tmp_path / "t.xls").write_text("image\tscore\na.png\t1,5\n")
    assert list(read_rows(tmp_path / "t.xls").rows["score"]) == ["1.5"]
    sheet = io.BytesIO()
    with zipfile.ZipFile(sheet, "w") as archive:
        archive.writestr("content.xml", "<a/>")
    (tmp_path / "t.xlsx").write_bytes(sheet.getvalue())
    with pytest.raises(InputError, match=r"it is an OpenDocument sheet: save it as \.xlsx or \.csv"):
        read_rows(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,score\n" + "a" * 1_100_000, "a line has more than 1,000,000 characters"),
        ("image,score" + "," * 1_100_000, "a line has more than 1,000,000 characters"),
        (",".join(f"c{i}" for i in range(1001)), "it has 1,001 columns"),
        ('image,score\n"' + "a,1\n" * 40_000, "field larger than field limit"),
        ("image,score,score\na.png,1,2\n", "two columns are named 'score': rename one"),
    ],
)
def test_text_that_is_no_table_of_ratings(content, message, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "t.csv")


def test_many_columns_are_not_all_listed(photographs, tmp_path):
    (tmp_path / "t.csv").write_text(",".join(f"c{i}" for i in range(300)) + "\n" + ",".join("1" * 300))
    with pytest.raises(InputError, match="c18, c19 and 280 more; name that of the pictures"):
        read_source(None, labels=tmp_path / "t.csv", root=photographs)


def test_files_of_other_versions_of_matlab(tmp_path):
    path = tmp_path / "m.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"m\.mat is of MATLAB 7\.3: save it there with -v7"):
        read_mat(path)
    savemat(path, {"a": [1.0]}, format="4")
    with pytest.raises(ValueError, match="not one that it saves with -v7"):
        read_mat(path)


def test_arrays_of_matlab(tmp_path, monkeypatch):
    texts = np.empty((2, 2), object)
    texts[:] = [["a", "Tür"], ["日本", ""]]
    savemat(tmp_path / "m.mat", {"x": np.arange(6).reshape(2, 3), "t": texts, "s": {"a": 1}}, do_compression=True)
    found = read_mat(tmp_path / "m.mat")
    assert found["x"].tolist() == list(range(6))
    assert found["t"].tolist() == ["a", "Tür", "日本", ""]
    assert "s" not in found
    savemat(tmp_path / "m.mat", {"x": np.zeros(100_000)}, do_compression=True)
    monkeypatch.setattr(matlab, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match="claims more bytes than are there"):
        read_mat(tmp_path / "m.mat")


def test_what_another_library_says_is_cut():
    advice = RuntimeError("Loading failed. In version 2.6 we changed\n much. Re-run it with the guard off")
    assert first_sentence(advice) == "Loading failed"
    assert first_sentence(ValueError("no such v1.5 file")) == "no such v1.5 file"
    assert first_sentence(EOFError()) == "EOFError"
    assert len(first_sentence(ValueError("a" * 999))) == 200


@pytest.mark.parametrize(
    ("name", "rest"), [("mps", ""), ("gpu", "; give cpu, cuda, cuda:1 or mps"), ("meta", "; give")]
)
def test_a_device_that_is_not_here(name, rest, monkeypatch):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is here")
    with pytest.raises(InputError, match=f"^--device {name}: not available here{rest}") as refused:
        choose_device(name)
    assert len(str(refused.value)) < 80


@pytest.mark.parametrize(
    ("scores", "note"),
    [
        (["1,200", "950", "1,350"], "'1,200' in the column 'score' is read as 1.2, beside 950; for thousands"),
        (["3,457", "4", "2,118"], None),
        (["1,2", "50", "1,350"], None),
    ],
)
def test_a_comma_that_may_part_thousands(scores, note, tmp_path):
    (tmp_path / "t.tsv").write_text("image\tscore\n" + "".join(f"p{i}.png\t{s}\n" for i, s in enumerate(scores)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = read_rows(tmp_path / "t.tsv")
    assert list(table.rows["score"]) == [text.replace(",", ".") for text in scores]
    assert (note in str(said[0].message)) if note else not said


def test_thousands_that_leave_the_range(photographs, tmp_path):
    (tmp_path / "t.csv").write_text("image;score\nphoto0.png;1,200\nphoto1.png;1,350\n")
    with pytest.raises(InputError, match="outside of the range 800 to 2000: write 1,200 as 1200"):
        read_source(None, labels=tmp_path / "t.csv", root=photographs, range="800,2000")
    (tmp_path / "t.csv").write_text('image,score\nphoto0.png,"1,200"\nphoto1.png,950\n')
    with pytest.raises(InputError, match=r"'1,200', not a number; write numbers as 1200 or 1\.5"):
        read_source(None, labels=tmp_path / "t.csv", root=photographs)


def test_percent_of_several_raters(photographs, tmp_path):
    (tmp_path / "t.csv").write_text("image,anna,ben\nphoto0.png,80%,90 %\nphoto1.png,20%,\n")
    rated = read_source(None, labels=tmp_path / "t.csv", root=photographs, score_column="anna,ben")
    assert [record.rating for record in rated.records] == [85, 20]
    (tmp_path / "t.csv").write_text("image,anna,ben\nphoto0.png,80%,4\nphoto1.png,20%,1\n")
    with pytest.raises(InputError, match="row 2: 'anna' is '80%', not a number"):
        read_source(None, labels=tmp_path / "t.csv", root=photographs, score_column="anna,ben")
