"""Handwriting in the format of IAM-OnDB: steps added up by hand, lists, scales and their nats, and harmful XML."""

import json
import re
import tomllib

import numpy as np
import pytest
from damage import refused
from fuzz.hostile import DECLARATIONS, HOSTILE

from tinyvrnn import cli
from tinyvrnn.data import baselines, load_data, read_sequences
from tinyvrnn.errors import DataError

LINE = """<?xml version="1.0" encoding="ISO-8859-1"?>
<WhiteboardCaptureSession>
  <WhiteboardDescription>
    <SensorLocation corner="top_left"/>
    <DiagonallyOppositeCoords x="6512" y="1376"/>
  </WhiteboardDescription>
  <StrokeSet>{}</StrokeSet>
</WhiteboardCaptureSession>
"""
FORMS = ["a01-000u", "a01-000x", "a01-001w", "b02-013", "b02-013z", "c03-007"]


def xml(strokes):
    def stroke(points):
        inside = "".join(f'<Point x="{x}" y="{y}" time="1.25"/>' for x, y in points)
        return f'<Stroke colour="black" start_time="0.1" end_time="0.2">{inside}</Stroke>'

    return LINE.format("".join(stroke(points) for points in strokes))


def walk(rng, n=12):
    """Strokes of a line to the right, with larger steps in x than in y."""
    points = np.cumsum(np.rint(rng.normal((20, 2), (60, 25), (n, 2))).astype(int), axis=0) + 1000
    return [points[: n // 2].tolist(), points[n // 2 :].tolist()]


@pytest.fixture
def folder(tmp_path):
    """Two lines of each form."""
    rng = np.random.default_rng(0)
    for form in FORMS:
        for line in ("01", "02"):
            path = tmp_path / "iam" / "lineStrokes" / form[:3] / form[:7] / f"{form}-{line}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(xml(walk(rng)), encoding="latin1")
    return tmp_path / "iam"


def lists(folder, **ids):
    for name, forms in ids.items():
        (folder / f"{name}.txt").write_text("".join(f" {form}\n" for form in forms))
    return folder


def one(folder, text):
    """The folder with `text` in the file of its first line."""
    path = folder / "lineStrokes" / "a01" / "a01-000" / "a01-000u-01.xml"
    path.write_text(text, encoding="latin1")
    return path


# ---- what is read


def test_steps_lead_from_point_to_point_and_the_pen_is_lifted_at_the_end_of_a_stroke(folder):
    one(folder, xml([[(100, 200), (103, 196)], [], [(110, 200)], [(111, 201), (111, 202)]]))
    first = read_sequences(folder)[0]
    assert first.tolist() == [[3, -4, 1], [7, 4, 1], [1, 1, 0], [0, 1, 1]]


def test_without_lists_it_is_split_by_form(folder):
    data, again = load_data(folder, standardise=False), load_data(folder, standardise=False)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [8, 2, 2]
    np.testing.assert_array_equal(data.test.values, again.test.values)
    assert data.kind == "pen" and data.medium == {"name": "ink"} and data.name == "iam" and data.scale == "authors"
    assert "12 lines in the form of IAM-OnDB" in data.source and "whiteboard" in data.units


def test_the_lists_that_come_with_the_set(folder):
    lists(
        folder, trainset=["a01-000u", "b02-013"], testset_v=["a01-001w"], testset_t=["c03-007"], testset_f=["a01-000x"]
    )
    data, whole = load_data(folder, standardise=False), read_sequences(folder)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [4, 4, 2], "b02-013z is in no list"
    assert len(whole) == 10 and "10 lines" in data.source
    np.testing.assert_array_equal(data.train[0], whole[0])
    np.testing.assert_array_equal(data.test[0], whole[2])


def test_lists_without_a_test_list_report_validation(folder):
    lists(folder, trainset=["a01-000u", "b02-013"], testset_v=["a01-001w"], testset_t=["c03-007"], other_split=["x"])
    data = load_data(folder, standardise=False)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [4, 4, 4]
    np.testing.assert_array_equal(data.test.values, data.valid.values)
    assert any("there is no test split" in note for note in data.notes)
    assert any("other_split.txt is not used" in note for note in data.notes)


def test_a_list_without_the_letters_of_forms(folder):
    lists(folder, trainset=["a01-000", "b02-013"], testset_v=["a01-001"], testset_f=["c03-007"])
    data = load_data(folder, standardise=False)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [6, 2, 2], "b02-013 is a form, b02-013z another"


# ---- scales


def test_the_scale_of_the_authors_is_theirs(folder):
    """The authors' global_normalize: sums over both axes, divided by the number of steps, with y upwards."""
    raw = load_data(folder, standardise=False).train.values[:, :2] * [1.0, -1.0]
    mean = raw.sum() / len(raw)
    scale = np.sqrt((raw**2).sum() / len(raw) - mean**2)
    data = load_data(folder)
    np.testing.assert_allclose(data.std, [scale, scale, 1], rtol=1e-12)
    assert not data.mean.any() and data.scale == "authors"


def test_one_scale_and_axes(folder):
    raw = load_data(folder, standardise=False).train.values[:, :2].astype(float)
    rms = np.sqrt((raw**2).mean())
    np.testing.assert_allclose(load_data(folder, scale="one").std, [rms, rms, 1], rtol=1e-12)
    np.testing.assert_allclose(load_data(folder, scale="axes").std[:2], np.sqrt((raw**2).mean(axis=0)), rtol=1e-12)


@pytest.mark.parametrize("scale", ["one", "authors", "axes"])
def test_the_nats_that_a_scale_moves_are_those_that_its_units_state(folder, scale):
    raw, data = load_data(folder, standardise=False), load_data(folder, scale=scale)
    steps = data.test.steps / len(data.test)
    stated = float(data.units.partition(" = ")[2].split()[0])
    for name, value in baselines(raw).items():
        assert baselines(data)[name] - value == pytest.approx(steps * stated, rel=1e-3)


def test_a_run_records_its_scale(folder, tmp_path, capsys):
    options = ["--hidden", "8", "--latent", "2", "--epochs", "1", "--components", "2", "--scale", "axes"]
    run = tmp_path / "run"
    assert cli.main(["train", str(folder), *options, "--out", str(run)]) == 0
    out = capsys.readouterr().out
    assert "dx divided by" in out and "AR(1), Markov" in out and "a step more than of raw data" in out
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["data"]["scale"] == "axes" and config["model"]["likelihood"] == "pen"
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    assert "dx divided by" in json.loads(capsys.readouterr().out)["units"]
    assert cli.main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "x.gif")]) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["vowels", "--scale", "axes"], "but vowels is not read as a pen's steps .*omit --scale"),
        (["digits8", "--scale", "axes"], "takes data as they are: leave it out"),
        (["strokes", "--scale", "axis"], 'did you mean "axes"'),
    ],
)
def test_a_scale_is_for_a_pen(arguments, message, capsys):
    try:
        code = cli.main(["train", *arguments, "--epochs", "1"])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1
    assert re.search(message, err)


def test_an_unknown_scale(folder):
    with pytest.raises(DataError, match='Unknown scale "author": did you mean "authors"'):
        load_data(folder, scale="author")


# ---- what is refused

HARMFUL = {name: make() for name, (form, make) in HOSTILE.items() if name in DECLARATIONS}
HARMFUL["no entity"] = b"<!DOCTYPE a><a/>"


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
@pytest.mark.timeout(20)
def test_harmful_xml_is_refused(folder, text):
    one(folder, text.decode())
    refused(folder, "a01-000u-01.xml declares a document type or an entity, which could do harm")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a01-000u-01.xml is not a valid .xml file and may be damaged or truncated"),
        ("no xml", "is not a valid .xml file"),
        ('<?xml version="1.0" encoding="none"?><a/>', "is not a valid .xml file"),
        ("<a>" * 10_000, "is not a valid .xml file"),
        ("<a/>", "holds 0 points, but a line needs at least two"),
        (xml([[(1, 2)]]), "holds 1 points"),
        (xml([[(1, 2), (3, "")]]), r"a point at \('3', ''\), but whole numbers"),
        (xml([[(1, 2), (3, "nan")]]), r"a point at \('3', 'nan'\)"),
        (xml([[(1, 2), (3, "1e3")]]), r"a point at \('3', '1e3'\)"),
        (xml([[(1, 2), (3, "9" * 5000)]]), r"a point at \('3', '9999"),
        (xml([[(1, 2), (3, -1000001)]]), "-1000001"),
        (LINE.format("<Stroke><Point x='1'/></Stroke>"), r"a point at \('1', None\)"),
    ],
)
def test_a_line_that_is_none(folder, text, message):
    one(folder, text)
    refused(folder, f"lineStrokes.a01.*{message}")


@pytest.mark.parametrize(
    "ids, message",
    [
        ({"trainset": ["a01-000u"]}, "has trainset.txt but no testset_v.txt"),
        ({"trainset": ["a01-000u"], "testset_v": [], "testset_f": ["b02-013"]}, "the valid split is empty"),
        (
            {"trainset": ["a01-000u"], "testset_v": ["a01-000u"], "testset_f": ["b02-013"]},
            "the form a01-000u is in lists of more than one split",
        ),
        ({"trainset": ["a01-000u", "../../etc"]}, "trainset.txt holds '../../etc', but forms such as a01-000u"),
        ({"trainset": ["z99-999"], "testset_v": ["z99-999"], "testset_f": ["z99-998"]}, "empty list"),
    ],
)
def test_lists_that_make_no_splits(folder, ids, message):
    refused(lists(folder, **ids), message)


def test_a_folder_without_lines(tmp_path):
    (tmp_path / "lineStrokes").mkdir()
    refused(tmp_path, "has no .xml in lineStrokes")


def test_too_few_forms(folder):
    for path in folder.rglob("*.xml"):
        if not path.name.startswith("a01-000"):
            path.unlink()
    refused(folder, "iam holds 2 forms and no split, but at least three are needed")
