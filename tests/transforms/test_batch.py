"""A draw is a value: applied to a batch it gives what its items get one by one, saved and read again it replays."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from monai.transforms import Compose, OneOf, RandFlipd, RandGaussianNoised, ScaleIntensity, ScaleIntensityd

import monai_cryo.transforms as T  # noqa: N812

VOXEL = 13.68


def states(count=4):
    return [np.random.RandomState(100 + i) for i in range(count)]


def images(count=4, channels=1):
    generator = torch.Generator().manual_seed(3)
    batch = torch.zeros(count, channels, 16, 16, 16)
    batch[..., 4:12, 5:12, 4:11] = torch.rand(count, channels, 8, 7, 7, generator=generator)
    return batch


def close(one, other):
    scale = float(other.abs().max())
    torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=1e-5)


class TestMetaTensors:
    """A collated batch of them is imaged along the axes and with the voxel size of its items."""

    def items(self, axes, size=10.0):
        affine = torch.zeros(4, 4)
        affine[[["x", "y", "z"].index(axis) for axis in axes], [0, 1, 2]] = size
        affine[3, 3] = 1
        return [{"i": MetaTensor(image, affine=affine)} for image in images(2)]

    @pytest.mark.parametrize(
        "transform",
        [
            T.MissingWedged("i", tilt_range_deg=(-40, 40)),
            T.CTFd("i", defocus_um=3.0),
            T.RandTiltSeriesd("i", snr=1e6, step_deg=20.0),
            T.FourierComposed("i", transforms=[T.MissingWedge((-40, 40)), T.CTF(3.0)]),
        ],
        ids=lambda transform: type(transform).__name__,
    )
    @pytest.mark.parametrize("axes", ["xyz", "zyx"])
    def test_as_one_by_one(self, transform, axes):
        pipeline = T.BatchCompose([transform])
        draws = [pipeline.draw(state) for state in states(2)]
        together = pipeline.apply(list_data_collate(self.items(axes)), draws)["i"]
        for n, item in enumerate(self.items(axes)):
            alone = pipeline.apply(list_data_collate([item]), draws[n : n + 1])["i"][0]
            close(together[n].as_tensor(), alone.as_tensor())
        turned = images(2).permute(0, 1, *(2 + axes.index(axis) for axis in "zyx")).contiguous()
        plain = [MetaTensor(image, affine=self.items("zyx")[0]["i"].affine) for image in turned]
        expected = pipeline.apply(list_data_collate([{"i": image} for image in plain]), draws)["i"].as_tensor()
        close(together.as_tensor(), expected.permute(0, 1, *(2 + "zyx".index(axis) for axis in axes)))

    def test_of_different_ones_it_is_refused(self):
        batch = list_data_collate([self.items("zyx")[0], self.items("zyx", 12.0)[0]])
        with pytest.raises(ValueError, match="a batch must be of one voxel size and orientation"):
            T.CTFd("i", defocus_um=3.0).apply(batch, [{"x": 1}] * 2)


class TestEveryTransform:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_a_batch_gets_what_its_items_get_one_by_one(self, drawing_kind, channels):
        transform, batch = drawing_kind.make(), images(channels=channels)
        together = transform.apply(batch, [transform.draw(s) for s in states()])
        for item, result, state in zip(batch, together, states(), strict=True):
            # the very state, not a seed that is drawn from it
            alone = drawing_kind.make()
            alone.R = state
            close(result, alone(item))

    def test_draws_are_plain_values_that_replay_bit_for_bit(self, drawing_kind):
        transform, batch = drawing_kind.make(), images()
        draws = [transform.draw(s) for s in states()]
        saved = json.loads(json.dumps(draws))
        assert saved == draws
        other = drawing_kind.make(9)
        torch.testing.assert_close(other.apply(batch, saved), transform.apply(batch, draws), rtol=0, atol=0)

    def test_apply_changes_neither_batch_nor_state_nor_draws(self, drawing_kind):
        transform, batch = drawing_kind.make(), images()
        draws = [transform.draw(s) for s in states()]
        before = json.dumps(draws), transform.R.get_state(), transform.parameters
        first, second = (transform.apply(batch, draws) for _ in range(2))
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert torch.equal(batch, images())
        assert json.dumps(draws) == before[0]
        assert transform.parameters is before[2]
        for now, then in zip(transform.R.get_state(), before[1], strict=True):
            np.testing.assert_array_equal(now, then)

    def test_draw_is_a_function_of_the_state_alone(self, drawing_kind):
        drawn = [drawing_kind.make(seed).draw(np.random.RandomState(5)) for seed in (0, 1)]
        assert drawn[0] == drawn[1]

    def test_items_without_a_draw_stay_bit_for_bit(self, random_kind):
        transform, batch = random_kind.make(), images()
        draws = [transform.draw(s) for s in states()]
        some = [draws[0], None, draws[2], None]
        result = transform.apply(batch, some)
        assert torch.equal(result[1::2], batch[1::2])
        close(result[::2], transform.apply(batch, draws)[::2])
        assert transform.apply(batch, [None] * 4) is batch

    def test_a_batch_that_does_not_fit_its_draws_is_refused(self, random_kind):
        transform = random_kind.make()
        draw = transform.draw(states()[0])
        for batch, count in ((images(), 3), (images()[0], 1)):
            with pytest.raises(
                ValueError, match=rf"{random_kind.name}.apply expects a batch \(B, C, D, H, W\) and B dr"
            ):
                transform.apply(batch, [draw] * count)

    def test_an_edited_draw_that_lacks_something_is_refused(self, drawing_kind):
        transform, batch = drawing_kind.make(), images(1)
        draw = transform.draw(states()[0])
        for name in draw:
            less = {k: v for k, v in draw.items() if k != name}
            with pytest.raises(ValueError, match=f"a draw lacks '{name}'|a draw for RandSNR"):
                transform.apply(batch, [less])
        for odd in (3, "draw", [draw]):
            with pytest.raises(ValueError, match=rf"^{drawing_kind.name}: a draw must be a dictionary"):
                transform.apply(batch, [odd])

    def test_an_item_does_not_depend_on_its_batch(self, drawing_kind):
        transform, batch = drawing_kind.make(), images()
        draws = [transform.draw(s) for s in states()]
        whole = transform.apply(batch, draws)
        close(transform.apply(batch[[3, 1]], [draws[3], draws[1]]), whole[[3, 1]])


@pytest.mark.parametrize(
    ("transform", "change", "message"),
    [
        (T.RandCTF(voxel_size=VOXEL), {"mode": "abs"}, "RandCTF's mode must be one of raw, flip.*'abs'"),
        (T.RandCTF(voxel_size=VOXEL), {"defocus_um": "3 um"}, "RandCTF: defocus_um must be numbers.*'3 um'"),
        (T.RandCTF(voxel_size=VOXEL), {"defocus_um": None}, "RandCTF: defocus_um must be numbers.*None"),
        (T.RandSNR(), {"stage": "later"}, "RandSNR's stage must be one of before, after, split, got 'later'"),
        (T.RandSNR(), {"stage": "split"}, "inside a FourierCompose only"),
        (T.RandPose(), {"shift_vox": [1.0, "a", 0.0]}, "RandPose: shift_vox must be numbers"),
        (T.RandNeighbours([torch.ones(3, 3, 3)], 1), {"template": [1]}, r"RandNeighbours has templates 0\.\.0, got 1"),
        (T.RandNeighbours([torch.ones(3, 3, 3)], 1), {"template": [-1]}, "got -1"),
        (T.RandNeighbours([torch.ones(3, 3, 3)], 1), {"template": [0, 0]}, "must be equally many"),
        (T.RandNeighbours([torch.ones(3, 3, 3)], 1), {"side": {"which": 1}}, None),
        (
            T.RandTiltSeries(voxel_size=VOXEL, step_deg=30.0),
            {"ctf": {"mode": "raw"}},
            "RandTiltSeries's ctf: a draw lacks 'defocus_um'; it has mode",
        ),
    ],
)
def test_edited_draws_that_cannot_be_are_refused_by_name_and_value(transform, change, message):
    draw = transform.draw(states()[0])
    if message is None:  # a compact particle divides nothing, so that the side is not looked at
        transform.apply(images(1), [draw | change])
        return
    with pytest.raises(ValueError, match=message):
        transform.apply(images(1), [draw | change])


def test_members_of_a_composed_draw_are_named():
    compose = T.FourierCompose([T.RandSNR(), T.MTF()])
    draw = compose.draw(states()[0])
    del draw["RandSNR"]["snr"]
    with pytest.raises(ValueError, match="FourierCompose's RandSNR: a draw lacks 'snr'; it has stage"):
        compose.apply(images(1), [draw])


def test_noise_split_in_two_outside_a_compose_is_refused_in_every_way():
    for noise in (T.RandSNR(stage="split"), T.AddNoise(stage="split")):
        with pytest.raises(ValueError, match="inside a FourierCompose only"):
            noise.apply(images(1), [noise.draw(states()[0])])


def pipeline():
    return T.BatchCompose(
        [
            T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"], prob=0.7),
            T.FourierComposed(
                "image",
                transforms=[T.RandSNR(region="mask"), T.RandMissingWedge(prob=0.5), T.RandCTF(voxel_size=VOXEL)],
                mask_key="mask",
            ),
            T.RandIntensityd("image"),
            T.RandIntensityd("image", prob=0.5),
            T.Standardized("image"),
        ]
    )


class TestBatchCompose:
    def data(self):
        return {"image": images(), "mask": (images() > 0.2).float(), "class": [0, 1, 2, 3]}

    def test_equals_its_items_one_by_one(self):
        compose, data = pipeline(), self.data()
        draws = [compose.draw(s) for s in states()]
        result = compose.apply(data, draws)
        assert result["class"] == [0, 1, 2, 3]
        assert torch.equal(data["image"], images())
        for i, state in enumerate(states()):
            # as Compose, the same members draw from one state in the same order
            for member in (compose := pipeline()).transforms:
                if hasattr(member, "transform") and hasattr(member.transform, "R"):
                    member.transform.R = state
            alone = compose({"image": data["image"][i], "mask": data["mask"][i]})
            close(result["image"][i], alone["image"])
            assert torch.equal(result["mask"][i], alone["mask"])

    def test_saved_draws_replay_bit_for_bit(self):
        compose, data = pipeline(), self.data()
        draws = [compose.draw(s) for s in states()]
        names = ["RandPosed", "FourierComposed", "RandIntensityd", "RandIntensityd_1", "Standardized"]
        assert list(draws[0]) == names
        saved = json.loads(json.dumps(draws))
        first, again = compose.apply(data, draws), pipeline().apply(data, saved)
        torch.testing.assert_close(first["image"], again["image"], rtol=0, atol=0)

    def test_an_edited_draw_says_what_happens(self):
        compose, data = pipeline(), self.data()
        draws = [compose.draw(s) for s in states()]
        draws[2]["RandPosed"] = None
        assert torch.equal(compose.apply(data, draws)["mask"][2], data["mask"][2])

    def test_draws_of_another_pipeline_are_refused(self):
        draws = [T.BatchCompose([T.RandIntensityd("image")]).draw(s) for s in states()]
        with pytest.raises(
            ValueError, match=r"a draw for RandPosed, FourierComposed, .* was expected, got one for RandI"
        ):
            pipeline().apply(self.data(), draws)

    @pytest.mark.parametrize(
        "foreign",
        [
            lambda: RandGaussianNoised("image", prob=1.0, std=0.5),
            lambda: RandFlipd("image", prob=0.5, spatial_axis=0),
            lambda: OneOf([T.RandIntensityd("image", contrast=(2.0, 3.0)), T.RandIntensityd("image", brightness=5.0)]),
            lambda: Compose([RandGaussianNoised("image", prob=1.0), T.RandIntensityd("image")]),
        ],
    )
    def test_monais_transforms_run_per_item_and_reproducibly(self, foreign):
        compose = T.BatchCompose([foreign(), T.RandIntensityd("image"), ScaleIntensityd("image")])
        data = {"image": images(8)}
        seeds = list(range(8))
        draws = [compose.draw(np.random.RandomState(s)) for s in seeds]
        assert json.loads(json.dumps(draws)) == draws
        whole = compose.apply(data, draws)["image"]
        again = T.BatchCompose([foreign(), T.RandIntensityd("image"), ScaleIntensityd("image")])
        torch.testing.assert_close(again.apply(data, draws)["image"], whole, rtol=0, atol=0)
        for i in (6, 1):
            part = compose.apply({"image": data["image"][i : i + 1]}, draws[i : i + 1])["image"]
            close(part[0], whole[i])
        same = torch.stack([images(1)[0]] * 8)
        assert len({float(v.std()) for v in compose.apply({"image": same}, draws)["image"]}) >= 2
        assert type(whole) is torch.Tensor

    def test_what_does_not_fit_its_draws_is_refused(self):
        compose = pipeline()
        draws = [compose.draw(s) for s in states()]
        with pytest.raises(ValueError, match=r"BatchCompose.apply got 3 draws for 4 items of 'image'"):
            compose.apply(self.data(), draws[:3])
        with pytest.raises(ValueError, match=r"BatchCompose.apply got 4 draws for 2 items of 'class'"):
            compose.apply(self.data() | {"class": [0, 1]}, draws)
        with pytest.raises(ValueError, match=r"a draw for RandPosed, .* was expected, got one for None"):
            compose.apply(self.data(), [*draws[:3], None])
        foreign = T.BatchCompose([RandFlipd("image", prob=1.0)])
        with pytest.raises(ValueError, match="got 5 draws for 4 items"):
            foreign.apply({"image": images()}, [foreign.draw(states()[0])] * 5)

    @pytest.mark.parametrize("odd", [T.MTF(), ScaleIntensity(), OneOf([T.MTF(), T.CTF()]), Compose([T.MTF()]), abs])
    def test_array_transforms_are_refused_at_once(self, odd):
        with pytest.raises(ValueError, match="BatchCompose takes dictionary transforms, got"):
            T.BatchCompose([T.RandIntensityd("image"), odd])

    def test_on_one_item_it_is_a_compose(self):
        item = {"image": MetaTensor(images()[0]), "mask": (images()[0] > 0.2).float()}
        first, again = (pipeline().set_random_state(1)(item)["image"] for _ in range(2))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert isinstance(first, MetaTensor)
        assert not torch.equal(first, pipeline().set_random_state(2)(item)["image"])
