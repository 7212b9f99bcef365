"""Resizing, sampling, boxes and signals."""

import itertools

from .case import row
from .fill import between, fixed

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def resizing():
    x = (1, 2, 4, 5)
    for scales in ([1, 1, 2, 3], [1, 1, 1.5, 2.7]):
        yield row("Upsample", x, fixed(scales), versions=(9, 9))
        yield row("Upsample", x, scales=[float(s) for s in scales], versions=(7, 8))
        yield row("Upsample", x, fixed(scales), mode="linear", versions=(9, 9))
        yield row("Upsample", x, scales=[float(s) for s in scales], mode="linear", versions=(7, 8))
    for scales in ([1, 1, 2, 3], [1, 1, 0.6, 0.5], [1, 1, 1.5, 2.7]):
        yield row("Resize", x, scales, versions=(10, 10))
        yield row("Resize", x, scales, mode="linear", versions=(10, 10))
        for coordinates in COORDINATES:
            for mode in NEAREST:
                yield row(
                    "Resize",
                    x,
                    None,
                    scales,
                    coordinate_transformation_mode=coordinates,
                    nearest_mode=mode,
                    versions=(11, 99),
                )
            for mode in ("linear", "cubic"):
                yield row(
                    "Resize", x, None, scales, coordinate_transformation_mode=coordinates, mode=mode, versions=(11, 99)
                )
    yield row("Upsample", x, width_scale=2.0, height_scale=3.0, mode="nearest")
    yield row("Upsample", x, width_scale=2.0, height_scale=1.5, mode="bilinear")
    for sizes, coordinates in itertools.product(([1, 2, 3, 9], [1, 2, 8, 3]), COORDINATES):
        for mode in ("nearest", "linear", "cubic"):
            yield row(
                "Resize", x, None, None, sizes, mode=mode, coordinate_transformation_mode=coordinates, versions=(13, 99)
            )
    for attrs in (
        {"antialias": 1},
        {"exclude_outside": 1},
        {"cubic_coeff_a": -0.5},
        {"antialias": 1, "exclude_outside": 1},
    ):
        for mode in ("linear", "cubic"):
            yield row("Resize", (1, 1, 6, 7), None, [1, 1, 0.6, 0.4], mode=mode, versions=(11, 99), **attrs)
            yield row("Resize", (1, 1, 6, 7), None, [1, 1, 1.6, 0.4], mode=mode, versions=(11, 99), **attrs)
    for policy in ("stretch", "not_larger", "not_smaller"):
        yield row("Resize", x, None, None, [7, 8], axes=[2, 3], keep_aspect_ratio_policy=policy)
        yield row("Resize", x, None, None, [7, 8], axes=[-1, 2], keep_aspect_ratio_policy=policy, mode="linear")
    yield row("Resize", x, None, [2.5, 0.7], axes=[3, 2])
    for mode, coordinates in itertools.product(("nearest", "linear", "cubic"), COORDINATES[2:]):
        attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "versions": (11, 11)}
        yield row("Resize", x, [], [1, 1, 1.5, 0.6], **attrs)
        yield row("Resize", x, [], [], [1, 2, 3, 9], **attrs)
    roi = [0, 0, 0.2, 0.3, 1, 1, 0.8, 0.9]
    for mode in ("nearest", "linear", "cubic"):
        crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": mode, "extrapolation_value": 9.0}
        yield row("Resize", x, roi, None, [1, 2, 3, 3], versions=(13, 99), **crop)
        yield row("Resize", x, [0.4, -0.1, 1.3, 0.7], None, [3, 3], axes=[2, 3], **crop)
    yield row("Resize", (5,), None, [2.0], mode="linear", versions=(11, 99))
    yield row("Resize", (1, 1, 3, 2, 4), None, [1, 1, 2, 2, 1.5], mode="linear", versions=(11, 99))
    yield row("Resize", (2, 3), None, [1.5, 2.0], mode="cubic", versions=(11, 99))


def sampling():
    for align, padding, mode in itertools.product(
        (0, 1), ("zeros", "border", "reflection"), ("nearest", "linear", "bilinear", "cubic", "bicubic")
    ):
        versions = (16, 16) if mode.startswith("bi") else (20, 99)
        yield row(
            "GridSample",
            (1, 2, 4, 5),
            between((1, 3, 3, 2), -1.4, 1.4),
            align_corners=align,
            padding_mode=padding,
            mode=mode,
            versions=versions,
        )
        if mode in ("nearest", "linear"):
            yield row(
                "GridSample",
                (1, 2, 3, 4, 3),
                between((1, 2, 3, 2, 3), -1.4, 1.4),
                align_corners=align,
                padding_mode=padding,
                mode=mode,
                versions=versions,
            )
    for align in (0, 1):
        yield row("AffineGrid", (2, 2, 3), [2, 3, 4, 5], align_corners=align)
        yield row("AffineGrid", (1, 3, 4), [1, 2, 3, 2, 4], align_corners=align)
    yield row("AffineGrid", (1, 2, 3), [1, 1, 1, 3])
    boxes = [[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [1, 101, 0, 100]]]
    scores = [[[0.9, 0.75, 0.6, 0.95, 0.5, 0.3]]]
    yield row("NonMaxSuppression", boxes, scores)
    yield row("NonMaxSuppression", boxes, scores, [3])
    yield row("NonMaxSuppression", boxes, scores, [3], [0.5], [0.0])
    yield row("NonMaxSuppression", boxes, scores, [3], [0.5], [0.4], center_point_box=1)
    yield row("NonMaxSuppression", boxes, [scores[0] * 2], fixed(2), fixed(0.5))
    yield row("NonMaxSuppression", boxes, scores, [30], None, [0.55])


def signals():
    for attrs in ({}, {"inverse": 1}, {"onesided": 1}):
        yield (
            row("DFT", (2, 6, 1), versions=(20, 99), **attrs)
            if not attrs.get("inverse")
            else row("DFT", (2, 6, 2), versions=(20, 99), **attrs)
        )
        yield row(
            "DFT", (2, 6, 2) if "onesided" not in attrs else (2, 6, 1), fixed(4), axis=1, versions=(17, 17), **attrs
        )
        yield row(
            "DFT", (2, 6, 2) if "onesided" not in attrs else (2, 6, 1), fixed(8), fixed(1), versions=(20, 99), **attrs
        )
        yield row(
            "DFT", (5, 6, 2) if "onesided" not in attrs else (5, 6, 1), None, fixed(0), versions=(20, 99), **attrs
        )
    yield row("DFT", (2, 3, 5, 1), None, fixed(-2), versions=(20, 99))
    yield row("DFT", (1, 4, 2), None, fixed(1), inverse=1, onesided=1, versions=(20, 99))
    yield row("STFT", (2, 16, 1), fixed(4), None, fixed(8))
    yield row("STFT", (2, 16, 1), fixed(4), None, fixed(8), onesided=0)
    yield row("STFT", (2, 16, 1), fixed(3), (8,), fixed(8))
    yield row("STFT", (2, 16, 1), fixed(3), (8,))
    yield row("STFT", (2, 16, 2), fixed(4), (8,), fixed(8), onesided=0)


def rows():
    for part in (resizing, sampling, signals):
        yield from part()
