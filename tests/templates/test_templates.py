from __future__ import annotations

import json
import math
import pickle
import re

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_cryo.io.mrc import write_mrc
from monai_cryo.templates import (
    BackgroundTemplate,
    MembraneTemplate,
    Template,
    TemplateLibrary,
    describe_sources,
    load_templates,
    random_complexes,
    save_templates,
)
from monai_cryo.templates.complexes import SYMMETRIES, _beads
from monai_cryo.templates.masking import CUBIC_A_PER_DALTON

CLASSES = ["ribosome", "proteasome", "tric", "membrane"]


def ball(radius, size=None):
    n = size or 2 * radius + 3
    axis = np.arange(n) - n // 2
    return (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float32)


def template(name, class_name="a", radius=3, voxel_size=10.0):
    density = torch.from_numpy(ball(radius))
    return Template.scaled(name, class_name, density * 5, density > 0, voxel_size)


@pytest.fixture
def folder(tmp_path):
    for radius in (3, 4, 5):
        write_mrc(tmp_path / f"ball{radius}.mrc", 2.0 * ball(radius), 10.0)
    bar = np.zeros((9, 21, 9), np.float32)
    bar[2:7, 2:19, 2:7] = 1
    write_mrc(tmp_path / "bar.mrc.gz", bar, 20.0)
    return tmp_path


def write(folder, content, name="lib.yaml"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_embedded_library():
    library = load_templates()
    assert library.classes == CLASSES
    assert (library.voxel_size, library.box) == (13.68, 40)
    counts = "{ribosome: 1, proteasome: 1, tric: 1, membrane: 1}"
    assert repr(library) == f"TemplateLibrary({counts}, voxel_size=13.68, box=40)"
    R = np.random.RandomState(0)
    for index, (low, high) in enumerate([(0.03, 0.05), (0.015, 0.03), (0.01, 0.02), (0.03, 0.2)]):
        item = library.draw(index, R)
        image, mask = item["image"], item["mask"]
        assert image.shape == mask.shape == (1, 40, 40, 40)
        assert (image.dtype, mask.dtype) == (torch.float32, torch.bool)
        assert image.min() >= 0
        assert image[mask].mean() == pytest.approx(1, abs=1e-5)
        assert low < mask.float().mean() < high
        assert image[mask].min() > 0.1
        if index < 3:
            centre = (mask[0] * image[0]).nonzero().float().mean(0)
            assert (centre - 20).abs().max() < 1.5
            reach = (image[0].nonzero() - 20).float().norm(dim=1).max()
            assert item["radius_vox"] - 1 < reach <= item["radius_vox"] < 20
        else:
            assert item["radius_vox"] == 0


def test_draw_is_repeatable_and_hands_out_copies():
    library = load_templates()
    for index in range(4):
        first = library.draw(index, np.random.RandomState(5))
        expected = first["image"].clone()
        first["image"] *= 0
        first["mask"] |= True
        again = library.draw(index, np.random.RandomState(5))
        assert torch.equal(again["image"], expected)
        assert not again["mask"].all()


def test_membranes_stay_within_their_ranges_and_point_everywhere():
    member = MembraneTemplate("m", "m", (30, 45), (150, math.inf), (-40, 40))
    R = np.random.RandomState(1)
    seen = set()
    for _ in range(12):
        density, mask = member.draw(32, 10.0, R)
        assert density[mask].mean() == pytest.approx(1, abs=1e-5)
        # the outermost thickness is 45 + 2 * 7 Å: nothing of the mask's complement is dense, no sheet is thicker
        assert density[~mask].max() < density[mask].max()
        seen.add(int(mask.sum()))
    assert len(seen) == 12
    flat = MembraneTemplate("m", "m", (40, 40), (math.inf, math.inf), (0, 0))
    middles = []
    for _ in range(50):
        _, mask = flat.draw(16, 10.0, R)
        assert mask[8, 8, 8]
        points = (mask.nonzero() - 8).double()
        middles.append(np.abs(np.linalg.eigh((points.T @ points).numpy())[1][:, 0]))
    assert np.abs(np.mean(middles, axis=0) - 0.5).max() < 0.15  # mean |component| of a uniform direction is 1/2


def test_curvature_is_uniform(monkeypatch):
    radii = []

    def spy(shape, voxel_size, **options):
        radii.append(options["radius_a"])
        return torch.ones(shape), torch.ones(shape, dtype=torch.bool)

    monkeypatch.setattr("monai_cryo.templates.procedural.bilayer", spy)
    R = np.random.RandomState(0)
    for _ in range(2000):
        MembraneTemplate("m", "m", radius_a=(150, math.inf)).draw(2, 10.0, R)
    curvature = np.sort(1 / np.array(radii)) * 150
    assert np.abs(curvature - np.linspace(0, 1, 2000)).max() < 0.05


def test_several_structures_are_all_drawn_and_split():
    members = {"a": [template("a1"), template("a2", radius=4), template("a3", radius=5)], "b": [template("b1", "b")]}
    library = TemplateLibrary(members, 10.0, 24)
    R = np.random.RandomState(0)
    drawn = [library.draw(0, R)["structure"] for _ in range(60)]
    assert {name: drawn.count(name) > 10 for name in set(drawn)} == {"a1": True, "a2": True, "a3": True}
    train, test = library.split(["a2"])
    assert train.structures == ["a1", "a3", "b1"]
    assert test.structures == ["a2", "b1"]
    assert train.classes == test.classes == ["a", "b"]
    assert library.split("a2")[1].structures == test.structures  # one name, not its letters
    for unknown in ("xa", ["xa"]):
        with pytest.raises(ValueError, match="unknown structure 'xa' to hold out; known: a1, a2, a3, b1"):
            library.split(unknown)
    with pytest.raises(ValueError, match="leaves class 'b' empty"):
        library.split(["b1"])


def test_a_library_can_be_sent_to_workers():
    library = load_templates()
    copy = pickle.loads(pickle.dumps(library))
    for index in range(4):
        a, b = (x.draw(index, np.random.RandomState(2))["image"] for x in (library, copy))
        assert torch.equal(a, b)


@pytest.mark.parametrize("box", [11, 12, 30, 31])
def test_padding_keeps_the_centre(box):
    image = TemplateLibrary({"a": [template("t", radius=4)]}, 10.0, box).draw(0, np.random.RandomState(0))["image"][0]
    where = image.nonzero()
    assert image.shape == (box,) * 3
    assert where.double().mean(0).tolist() == [box // 2] * 3
    assert len(where) == ball(4).sum()


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({}, "needs at least one class"),
        ({"a": []}, "class 'a' has no structure"),
        ({"a": [template("x"), template("x")]}, "structure name 'x' is used twice"),
        ({"a": [template("x", voxel_size=5.0)]}, "'x' has a voxel size of 5 Å, the library 10 Å"),
        ({"a": [template("x", radius=9)]}, r"x: the particle needs a box of 19 voxels .*, got \[16, 16, 16\]"),
    ],
)
def test_library_refuses(templates, message):
    with pytest.raises(ValueError, match=message):
        TemplateLibrary(templates, 10.0, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thickness_a": (0, 40)}, "thickness_a must be > 0"),
        ({"thickness_a": (40, 30)}, "thickness_a must be > 0 and rise"),
        ({"radius_a": (20, 100)}, "radius_a must exceed the thickness"),
        ({"leaflet_sigma_a": (0, 0)}, "leaflet_sigma_a must be > 0"),
        ({"offset_a": (0, math.inf)}, "offset_a must be finite"),
    ],
)
def test_membrane_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        MembraneTemplate("m", "m", **options)


@pytest.mark.parametrize(
    ("options", "voxel_size", "message"),
    [
        ({"offset_a": (-200, 200)}, 10.0, r"offset_a must lie within \+-70 Å to meet it, got \(-200, 200\)"),
        ({"offset_a": (0, 71)}, 10.0, r"class 'm': in a box of 16 voxels of 10 Å, offset_a must lie within"),
        ({"thickness_a": (10, 45)}, 40.0, "a membrane must be thicker than a voxel, got 38 Å at its thinnest"),
    ],
)
def test_a_membrane_that_may_miss_the_box_is_refused(options, voxel_size, message):
    with pytest.raises(ValueError, match=message):
        TemplateLibrary({"m": [MembraneTemplate("m", "m", **options)]}, voxel_size, 16)


@pytest.mark.parametrize(("box", "voxel_size"), [(15, 10.0), (16, 10.0), (16, 25.0), (12, 43.0)])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("radius_a", [(math.inf, math.inf), (60.0, 60.0), (150.0, math.inf)])
def test_membranes_at_the_edge_of_what_is_allowed_are_never_empty(box, voxel_size, side, radius_a):
    margin = 0 if voxel_size < 25 else 1
    offset = side * ((box - 1) // 2 - margin) * voxel_size
    member = MembraneTemplate("m", "m", (30, 45), radius_a, (offset, offset))
    library = TemplateLibrary({"m": [member]}, voxel_size, box)
    R = np.random.RandomState(0)
    for _ in range(40):
        item = library.draw(0, R)
        assert item["mask"].any()
        assert item["image"].isfinite().all()


def test_a_membrane_outside_the_box_is_no_nan():
    with pytest.raises(ValueError, match="class 'm': a membrane passes the box of 16 voxels by"):
        MembraneTemplate("m", "m", offset_a=(900, 900)).draw(16, 10.0, np.random.RandomState(0))


def test_no_template_is_not_finite_or_empty():
    broken = template("x")
    broken.density[3, 3, 3] = math.nan
    empty = Template("y", "a", torch.ones(5, 5, 5), torch.zeros(5, 5, 5, dtype=torch.bool), 10.0)
    for member in (broken, empty):
        with pytest.raises(ValueError, match=f"structure '{member.name}' has an empty mask or values that are not"):
            TemplateLibrary({"a": [member]}, 10.0, 16)


def test_voxel_size_may_be_numpy():
    library = load_templates(voxel_size=np.float32(20), box=np.int64(24))
    assert (library.voxel_size, library.box) == (20.0, 24)


def test_one_file_lists_strings_lists_and_mappings(folder):
    path = write(
        folder,
        """
voxel_size: 10
box: 40
classes:
  small: ball3.mrc
  balls: [ball4.mrc, {source: ball5.mrc, name: five, threshold: "level:1.0"}]
  bar: {sources: [bar.mrc.gz], threshold: "mass:2700", contrast: bright}
  mem: {procedural: membrane, thickness_a: 37, radius_a: [200, .inf]}
""",
    )
    library = load_templates(path)
    assert library.classes == ["small", "balls", "bar", "mem"]
    assert library.structures == ["ball3", "ball4", "five", "bar", "mem"]
    assert library.templates["small"][0].mask.sum() == ball(3).sum()
    assert library.templates["balls"][1].mask.sum() == ball(5).sum()
    bar = library.templates["bar"][0].mask.nonzero()
    np.testing.assert_allclose((bar.amax(0) - bar.amin(0) + 1).numpy(), [10, 34, 10], atol=2.5)
    assert len(bar) == pytest.approx(2_700_000 * 1.21 / 1000, rel=0.02)
    member = library.templates["mem"][0]
    assert (member.thickness_a, member.radius_a) == ((37.0, 37.0), (200.0, math.inf))
    assert member.name == "mem"


def test_yaml_may_repeat_by_aliases(folder):
    path = write(
        folder,
        """
classes:
  a: {sources: ball3.mrc, threshold: &level "level:1"}
  b: {sources: ball4.mrc, threshold: *level}
""",
    )
    assert load_templates(path).structures == ["ball3", "ball4"]


def test_json_says_the_same_as_yaml(folder):
    content = {"voxel_size": 10, "box": 20, "classes": {"a": ["ball3.mrc"], "b": {"procedural": "membrane"}}}
    library = load_templates(write(folder, content, "lib.json"))
    assert library.structures == ["ball3", "b"]
    same = load_templates(write(folder, "voxel_size: 10\nbox: 20\nclasses: {a: ball3.mrc, b: {procedural: membrane}}"))
    assert torch.equal(library.templates["a"][0].density, same.templates["a"][0].density)


def test_other_voxel_size_and_box_than_the_file_s():
    library = load_templates(voxel_size=20.0, box=24)
    assert (library.voxel_size, library.box) == (20.0, 24)
    original = load_templates()
    for name in CLASSES[:3]:
        volume = library.templates[name][0].mask.sum() * 20.0**3
        assert volume == pytest.approx(float(original.templates[name][0].mask.sum()) * 13.68**3, rel=0.2)


def test_embedded_maps_load_without_resampling(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("resampled")

    monkeypatch.setattr("monai_cryo.templates.maps.low_pass", refuse)
    monkeypatch.setattr("monai_cryo.templates.maps.evaluate", refuse)
    load_templates()
    with pytest.raises(AssertionError, match="resampled"):
        load_templates(voxel_size=20.0)


def test_saved_library_loads_as_it_was(folder):
    source = write(
        folder,
        """
voxel_size: 12
box: 40
classes:
  balls: [ball4.mrc, ball5.mrc]
  bar: {sources: [bar.mrc.gz], threshold: otsu}
  mem: {procedural: membrane, thickness_a: [31, 37]}
""",
    )
    library = load_templates(source)
    file = save_templates(library, folder / "out")
    again = load_templates(file)
    assert (again.classes, again.structures) == (library.classes, library.structures)
    assert (again.voxel_size, again.box) == (12.0, 40)
    for name in ("balls", "bar"):
        for old, new in zip(library.templates[name], again.templates[name], strict=True):
            assert torch.equal(old.mask, new.mask)
            torch.testing.assert_close(old.density, new.density, rtol=2e-3, atol=1e-3)
    assert again.templates["mem"] == library.templates["mem"]
    assert sorted(p.name for p in file.parent.iterdir()) == ["ball4.mrc", "ball5.mrc", "bar.mrc", "templates.yaml"]


def test_sources_are_described(folder):
    path = write(folder, 'classes: {a: {sources: [ball3.mrc], threshold: "level:1"}, m: {procedural: membrane}}')
    found = describe_sources(path)
    assert set(found) == {"ball3", "m"}
    assert found["ball3"]["source"] == "ball3.mrc"
    assert len(found["ball3"]["sha256"]) == 64
    assert found["ball3"]["options"] == {"threshold": "level:1"}


def test_structures_and_archive_entries(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_CRYO_CACHE", str(tmp_path))
    monkeypatch.setenv("MONAI_CRYO_ALLOW", str(shared_data))
    (tmp_path / "pdb").mkdir()
    data = (shared_data / "structures" / "1oel.pdb.gz").read_bytes()
    (tmp_path / "pdb" / "1oel.cif.gz").write_bytes(data)
    tric = shared_data / "structures" / "4v8r_h36.pdb.gz"
    path = write(
        tmp_path,
        f"""
classes:
  groel: "pdb:1OEL"
  tric: {{sources: ["{tric}"], chains: "A*"}}
""",
    )
    library = load_templates(path)
    assert library.structures == ["pdb_1oel", "4v8r_h36"]
    own = library.templates["tric"][0]
    embedded = load_templates().templates["tric"][0]
    assert int(own.mask.sum()) == pytest.approx(int(embedded.mask.sum()), rel=0.1)


BAD = {
    "classes: {}": "expected a mapping `classes:`",
    "[1, 2]": "expected a mapping `classes:`",
    "": "expected a mapping `classes:`",
    "classes: {a: ball3.mrc, a: ball4.mrc}": "key 'a' stands there twice",
    "classes: {a: []}": "class 'a': expected a source",
    "classes: {a: }": "class 'a': expected a source",
    "classes: {a: {sources: []}}": "class 'a': expected a source",
    "classes: {a: {sources: ball3.mrc, treshold: otsu}}": "unknown option 'treshold'; known: sources, amplitude",
    "classes: {a: {procedural: membrane, thickness: 3}}": "unknown option 'thickness'; known: procedural",
    "classes: {a: {procedural: actin}}": "procedural must be one of membrane, background, got 'actin'",
    "classes: {a: ball3.mrc}\nvoxelsize: 3": "unknown option 'voxelsize'; known: voxel_size, box, classes",
    "classes: {a: ball3.mrc}\nvoxel_size: -3": "voxel_size must be > 0, got -3",
    "classes: {a: ball3.mrc}\nbox: big": "box must be > 0, got 'big'",
    "classes: {a: ball3.mrc}\nbox: 40.5": "box must be a whole number from 1 to 512, got 40.5",
    "classes: {a: [3]}": "a source is a file, pdb:ID, emdb:ID",
    "classes: {1: ball3.mrc}": "class name 1 is read as int; put it in quotes",
    "classes: {a: notes.txt}": "notes.txt: not a map or structure; expected one of",
    "classes: {a: {sources: ball3.mrc, threshold: half}}": "threshold must be one of",
    "classes: {a: {sources: ball3.mrc, chains: A}}": "ball3.mrc: a map takes no option 'chains'",
    "classes: {a: {sources: x.pdb, contrast: dark}}": "x.pdb: a structure takes no option 'contrast'",
    "classes: {a: {sources: ball3.mrc, resolution_a: high}}": "resolution_a must be > 0, got 'high'",
    "classes: {a: {procedural: membrane, thickness_a: [1, 2, 3]}}": "thickness_a must be a number or a pair",
    "classes: {a: ball3.mrc, b: ball3.mrc}": "structure name 'ball3' is used twice",
    "classes: {a: ball3.mrc, distractors: ball4.mrc}": "'distractors' cannot name a class",
    "classes: {a: ball3.mrc}\namplitude: 2": "unknown option 'amplitude'",
    "classes: {a: {sources: ball3.mrc, amplitude: -1}}": "amplitude of class 'a' must be > 0",
    "classes: {a: {sources: ball3.mrc, threshold: 'mass:1e6'}}": "voxels of 13.68 Å; the map has",
    "classes: {a: {procedural: membrane, offset_a: 9000}}": "offset_a must lie within",
    "classes: {a: [{source: ball3.mrc, name: ../x}]}": "'../x' cannot name a structure",
    "classes: {a: ball5.mrc}\nbox: 6": r"ball5: the particle needs a box of 7 voxels",
    "classes: {a: zeros.mrc}": r"zeros.mrc: constant map, every voxel is 0",
    "classes: {a: [ball3.mrc}": "while parsing",
    "classes: {[a, b]: ball3.mrc}": "unhashable",
    "classes: {a: {sources: x.pdb, chains: [1]}}": "x.pdb: chains must be text or a list of texts, got [1]",
}


@pytest.mark.parametrize("content", BAD)
def test_bad_files_are_refused_in_one_line(folder, content):
    write_mrc(folder / "zeros.mrc", np.zeros((8, 8, 8), np.float32), 13.68)
    (folder / "notes.txt").write_text("x")
    (folder / "x.pdb").write_text("x")
    path = write(folder, content)
    with pytest.raises(ValueError, match=re.escape(BAD[content])) as error:
        load_templates(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_missing_files_are_named(folder, monkeypatch):
    monkeypatch.setenv("MONAI_CRYO_CACHE", str(folder / "cache"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml: no such template library"):
        load_templates(folder / "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"class 'a': no such source .*gone.mrc"):
        load_templates(write(folder, "classes: {a: gone.mrc}"))
    with pytest.raises(FileNotFoundError, match="fetch it: python -m monai_cryo templates fetch pdb:4V5D"):
        load_templates(write(folder, 'classes: {a: "pdb:4V5D"}'))
    with pytest.raises(ValueError, match="key 'a' stands there twice"):
        load_templates(write(folder, '{"classes": {"a": "ball3.mrc", "a": "ball4.mrc"}}', "lib.json"))


def test_a_name_that_says_nothing_is_the_file_s(folder):
    assert load_templates(write(folder, "classes: {a: [{source: ball3.mrc, name: }]}")).structures == ["ball3"]


def test_a_library_is_the_same_with_any_number_of_threads(folder):
    z, y, x = np.mgrid[-32:32, -32:32, -32:32]
    values = np.where(z**2 + y**2 + x**2 < 900, 1 + np.random.RandomState(0).rand(64, 64, 64), 0)
    write_mrc(folder / "large.mrc", values.astype(np.float32), 13.68)
    path = write(folder, "classes: {a: {sources: large.mrc, threshold: 'level:0.5'}}\nbox: 96")
    threads, digests = torch.get_num_threads(), set()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            digests.add(load_templates(path).digest())
    finally:
        torch.set_num_threads(threads)
    assert len(digests) == 1


def names(library):
    return {member.name for group, _ in library.crowd() for member in group}


class TestStrangers:
    """Distractors in the place of a particle, labelled background."""

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_they_stand_there_as_often_as_asked(self, share):
        classes = {"a": [template("x")], "none": [BackgroundTemplate("none", "none", share)]}
        library = TemplateLibrary(classes, 10.0, 16, [template("s", "", 2), template("t", "", 4)], {"none": (2.0, 2.0)})
        R = np.random.RandomState(0)
        items = [library.draw(1, R) for _ in range(200)]
        held = [item for item in items if bool(item["image"].any())]
        assert len(held) / 200 == pytest.approx(share, abs=0.1)
        assert not any(bool(item["mask"].any()) for item in items)
        for item in held:
            expected = next(d for d in library.distractors if d.name == item["structure"])
            torch.testing.assert_close(item["image"][0], 2 * expected.padded(16)[0])
            assert item["posed"] is False
            assert item["radius_vox"] > 0
        assert {item["structure"] for item in held} == ({"s", "t"} if share else set())

    def test_without_one_draws_are_those_of_ever(self):
        """A library that has no strangers draws the same numbers as before there were any."""
        R, S = np.random.RandomState(3), np.random.RandomState(3)
        load_templates("unseen").draw(4, R)
        S.randint(1)
        assert R.rand() == S.rand()

    @pytest.mark.parametrize("share", ["1.5", "-0.1", "yes", "many", "[0, 1]"])
    def test_a_share_is_a_share(self, tmp_path, share):
        content = f"classes: {{none: {{procedural: background, strangers: {share}}}}}\n"
        with pytest.raises(ValueError, match=r"class 'none': strangers must be a share, 0..1, got"):
            load_templates(write(tmp_path, content))

    def test_they_need_distractors(self, tmp_path):
        content = "classes: {none: {procedural: background, strangers: 0.5}}\n"
        with pytest.raises(ValueError, match="strangers are distractors, and there are none"):
            load_templates(write(tmp_path, content))

    def test_the_digest_tells_them_apart(self):
        with_them, without = (
            TemplateLibrary({"none": [BackgroundTemplate("none", "none", share)]}, 10.0, 16, [template("s")])
            for share in (0.3, 0.0)
        )
        assert with_them.digest() != without.digest()


@pytest.mark.parametrize("option", ["amplitude", "abundance"])
def test_distractors_have_none_of_a_class_s_options(tmp_path, option):
    """It is drawn for what stands in the middle."""
    path = tmp_path / "own.yaml"
    path.write_text("classes: {m: {procedural: membrane}}\ndistractors: {sources: [a.mrc], " + option + ": 5}\n")
    with pytest.raises(ValueError, match=f"'distractors': unknown option '{option}'"):
        load_templates(path)


def test_a_built_structure_keeps_its_place(tmp_path):
    """The middle is that of what the mask holds, before it is saved as a map and after."""
    grid = np.argwhere(np.linalg.norm(np.indices((19, 19, 19)) - 9, axis=0) < 8) * 4.0 - 36
    tail = np.stack([np.arange(40, 240, 1.0), np.zeros(200), np.zeros(200)], axis=1)  # thin: outside of the mask
    row = "ATOM  {:5d}  CA  GLY A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C"
    atoms = np.concatenate([grid, tail])
    (tmp_path / "ball.pdb").write_text("\n".join(row.format(i + 1, i + 1, *xyz) for i, xyz in enumerate(atoms)))
    (tmp_path / "own.yaml").write_text("classes: {a: {sources: ball.pdb, threshold: 'fraction:0.5'}}\n")
    built = load_templates(tmp_path / "own.yaml", 13.68, 40)
    again = load_templates(save_templates(built, tmp_path / "built"))
    masks = [library.templates["a"][0].mask for library in (built, again)]
    assert torch.equal(*masks)
    middle = masks[0].nonzero().float().mean(dim=0) - torch.tensor(masks[0].shape) // 2
    assert float(middle.abs().max()) < 0.6


class TestComplexes:
    def made(self, number=6, mass=(300.0, 300.0), **options):
        options = {"voxel_size": 13.68, "box": 40, "class_name": "none"} | options
        return random_complexes(number, mass, **options)

    def test_the_same_seed_makes_the_same(self):
        first, again, other = self.made(), self.made(), self.made(seed=1)
        assert [m.name for m in first] == [f"complex_{i}" for i in range(6)]
        for a, b, c in zip(first, again, other, strict=True):
            assert torch.equal(a.density, b.density)
            assert a.density.shape != c.density.shape or not torch.equal(a.density, c.density)

    def test_they_are_as_large_as_their_mass(self):
        """Volume inside the mask: protein of 1.21 Å³ a Da, and the rim of what one voxel smears."""
        for low, high in ((200.0, 200.0), (2000.0, 2000.0)):
            bare = 1000 * low * CUBIC_A_PER_DALTON / 13.68**3
            sizes = [int(m.mask.sum()) for m in self.made(12, (low, high))]
            assert bare < np.mean(sizes) < 3 * bare

    @pytest.mark.parametrize("symmetry", sorted(set(SYMMETRIES)))
    def test_they_have_their_symmetry(self, symmetry):
        fold, order = int(symmetry[1:]), int(symmetry[1:]) * (2 if symmetry[0] == "D" else 1)
        beads = _beads(400.0, symmetry, np.random.RandomState(0))
        assert len(beads) == pytest.approx(400_000 / 110, rel=0.01)
        angle = 2 * math.pi / fold
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        tree = cKDTree(beads)
        assert tree.query(beads @ turn.T)[0].max() < 1e-9
        if symmetry[0] == "D":
            assert tree.query(beads * [1, -1, -1])[0].max() < 1e-9
        assert len(beads) % order == 0

    def test_they_fit_every_orientation(self):
        for member in self.made(30, (150.0, 3000.0), box=24):
            assert float((member.mask.nonzero() - torch.tensor(member.mask.shape) // 2).float().norm(dim=1).max()) < 12

    def test_at_fine_voxels_their_box_cuts_nothing(self):
        for member in self.made(2, (150.0, 300.0), voxel_size=2.0, box=150):
            for axis in range(3):  # a density ends two voxels from its mask, and one from its box
                assert not bool(member.mask.movedim(axis, 0)[[0, 1, 2, -3, -2, -1]].any())

    def test_at_fine_voxels_residues_do_not_stand_apart(self):
        bare = 1_000_000 * CUBIC_A_PER_DALTON / 5.0**3
        for member in self.made(3, (1000.0, 1000.0), voxel_size=5.0, box=100):
            assert float(member.mask.sum()) > bare
            assert ndimage.label(member.mask.numpy())[1] == 1

    def test_two_kinds_by_their_names(self, tmp_path):
        kinds = "[{procedural: complexes, number: 2}, {procedural: complexes, number: 1, name: small, mass_kda: 50}]"
        library = load_templates(write(tmp_path, f"classes: {{m: {{procedural: membrane}}}}\ndistractors: {kinds}\n"))
        assert [m.name for m in library.distractors] == ["complex_0", "complex_1", "small_0"]
        alone = "classes: {m: {procedural: membrane}}\ndistractors: {procedural: complexes, number: 1}\n"
        assert [m.name for m in load_templates(write(tmp_path, alone)).distractors] == ["complex_0"]

    def test_no_room(self):
        with pytest.raises(ValueError, match="complexes of 20000 to 20000 kDa do not fit a box of 16 voxels"):
            self.made(1, (20000.0, 20000.0), box=16)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("number: 0", "number must be a whole number from 1 to"),
            ("number: 2.5", "number must be a whole number from 1 to"),
            ("seed: -1", "seed must be a whole number from 0 to"),
            ("mass_kda: [1, 100]", "mass_kda must lie within 10..10000"),
            ("mass_kda: [200, 100]", "mass_kda must rise"),
            ("size: 3", "unknown option 'size'"),
            ("number: 1000", "number must be at most 65 in boxes of 80 voxels, all sources together, got 1000"),
            ("number: 1, mass_kda: 200}, {procedural: complexes, number: 65", "at most 65 in .*, got 66"),
            ("mass_kda: 10000, name: ../x", "cannot name a structure"),
        ],
    )
    def test_options_are_refused_in_one_line(self, tmp_path, option, message):
        content = "box: 80\nclasses: {m: {procedural: membrane}}\n"
        content += f"distractors: [{{procedural: complexes, {option}}}]\n"
        path = write(tmp_path, content)
        with pytest.raises(ValueError, match=message) as caught:
            load_templates(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_they_are_no_class(self, tmp_path):
        path = write(tmp_path, "classes: {m: [{procedural: complexes}]}\n")
        with pytest.raises(ValueError, match="class 'm'"):
            load_templates(path)


class TestRobustLibraries:
    def test_embedded_by_name(self):
        robust, unseen = load_templates("robust"), load_templates("unseen")
        assert robust.classes == unseen.classes == ["ribosome", "proteasome", "tric", "membrane", "background"]
        assert len(robust.templates["ribosome"]) == 3
        assert [d.name for d in robust.distractors[:6]] == ["1bxn", "1qvr", "1u6g", "2uv8", "3cf3", "3j9i"]
        assert [d.name for d in robust.distractors[6:]] == [f"complex_{i:02d}" for i in range(24)]
        assert not names(robust) & names(unseen)

    def test_distractors_are_of_no_class_but_crowd(self):
        library = load_templates("robust")
        assert not {d.name for d in library.distractors} & set(library.structures)
        (classes, first), (others, second) = library.crowd()
        assert [m.name for m in classes] == ["6qzp", "4v7r", "4v4r", "4cr2_3j9i", "4cr2_3j9i_double", "4v94", "3iyf"]
        assert others == library.distractors
        assert first == second
        assert [len(group) for group, _ in load_templates().crowd()] == [3]

    def test_amplitudes_are_drawn_and_applied(self):
        library = load_templates("robust")
        state = np.random.RandomState(0)
        drawn = [library.draw(0, state) for _ in range(20)]
        factors = [item["amplitude"] for item in drawn]
        assert 0.7 <= min(factors) < 0.85
        assert 1.0 < max(factors) <= 1.2
        for item in drawn:
            mean = float(item["image"][item["mask"]].mean())
            assert mean == pytest.approx(item["amplitude"], rel=1e-4)
        assert load_templates("unseen").draw(4, state)["amplitude"] == 1

    @pytest.mark.parametrize("abundance", ["-1", ".nan", ".inf", "few", "[0, 1]", "true", "0", "1" + "0" * 400])
    def test_bad_abundances(self, tmp_path, abundance):
        file = tmp_path / "own.yaml"
        file.write_text(f"classes: {{membrane: {{procedural: membrane, abundance: {abundance}}}}}\n")
        with pytest.raises(ValueError, match=r"own.yaml: abundance of"):
            load_templates(file)

    @pytest.mark.parametrize("amplitude", ["[0, 1]", "-1", "[2, 1]", "word"])
    def test_bad_amplitudes(self, tmp_path, amplitude):
        file = tmp_path / "own.yaml"
        file.write_text(f"classes: {{membrane: {{procedural: membrane, amplitude: {amplitude}}}}}\n")
        with pytest.raises(ValueError, match="amplitude"):
            load_templates(file)

    def test_procedural_distractors_are_refused(self, tmp_path):
        file = tmp_path / "own.yaml"
        membrane = "{procedural: membrane}"
        file.write_text(f"classes: {{membrane: {membrane}}}\ndistractors: {membrane}\n")
        with pytest.raises(ValueError, match="distractors must be structures or maps"):
            load_templates(file)

    def test_saved_and_loaded_again(self, tmp_path):
        library = load_templates("robust")
        again = load_templates(save_templates(library, tmp_path))
        assert again.amplitudes == library.amplitudes
        assert again.abundances == library.abundances == dict.fromkeys(("proteasome", "tric", "membrane"), 0.2)
        assert again.keep(["ribosome", "tric"]).abundances == {"tric": 0.2}
        assert again.split(["4v7r"])[1].abundances == again.abundances
        assert names(again) == names(library)
        assert again.templates["background"][0].strangers == library.templates["background"][0].strangers == 0.25


def test_a_distractor_has_a_name_of_its_own_and_fits():
    with pytest.raises(ValueError, match="structure name 'x' is used twice"):
        TemplateLibrary({"a": [template("x")]}, 10.0, 16, [template("x")])


def test_the_digest_tells_libraries_apart():
    one = TemplateLibrary({"a": [template("x")]}, 10.0, 16, [template("y")], {"a": (0.5, 1.0)})
    assert (
        one.digest() == TemplateLibrary({"a": [template("x")]}, 10.0, 16, [template("y")], {"a": (0.5, 1.0)}).digest()
    )
    other = template("x")
    other.density[0, 0, 0] += 1
    others = [
        TemplateLibrary({"a": [other]}, 10.0, 16, [template("y")], {"a": (0.5, 1.0)}),
        TemplateLibrary({"b": [template("x")]}, 10.0, 16, [template("y")]),
        TemplateLibrary({"a": [template("x")]}, 10.0, 16, [template("y")]),
        TemplateLibrary({"a": [template("x")]}, 10.0, 16, [], {"a": (0.5, 1.0)}),
        TemplateLibrary({"a": [MembraneTemplate("x", "a")]}, 10.0, 16, [template("y")]),
        TemplateLibrary({"a": [MembraneTemplate("x", "a", radius_a=(99, 200))]}, 10.0, 16, [template("y")]),
    ]
    assert len({library.digest() for library in (one, *others)}) == 1 + len(others)
