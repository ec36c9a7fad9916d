import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnctl.data.buckets import bucket_sizes, nearest_size


@pytest.mark.parametrize(
    ("resolution", "factor", "step"), [(512, 8, 64), (768, 8, 64), (128, 4, 16)]
)
def test_sizes_are_of_one_area_and_a_grid(resolution: int, factor: int, step: int) -> None:
    sizes = bucket_sizes(resolution, factor=factor)
    assert (resolution, resolution) in sizes
    assert {size[::-1] for size in sizes} == set(sizes)
    assert max(max(size) for size in sizes) == 2 * resolution
    for height, width in sizes:
        assert height % step == width % step == 0
        # What rounding down costs is less than one step of the shorter side.
        assert resolution**2 - step * max(height, width) < height * width <= resolution**2


def test_the_sizes_of_512() -> None:
    wide = [(512, 512), (448, 576), (384, 640), (320, 704), (320, 768), (256, 832), (256, 896)]
    wide += [(256, 960), (256, 1024)]
    assert set(bucket_sizes(512, factor=8)) == {*wide, *(size[::-1] for size in wide)}


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_the_nearest_cuts_least(height: int, width: int) -> None:
    """Against what each size keeps of an image that is scaled to cover it."""
    sizes = bucket_sizes(512, factor=8)

    def kept(size: tuple[int, int]) -> float:
        scale = max(size[0] / height, size[1] / width)
        return size[0] * size[1] / (scale * height * scale * width)

    chosen = nearest_size((height, width), sizes)
    assert kept(chosen) == pytest.approx(max(kept(size) for size in sizes))
