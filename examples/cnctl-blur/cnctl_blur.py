"""Blur as a condition: the network gets the colours and must find the detail."""

from cnctl.plugin import Condition, Option


def load_detector(device):
    import cv2

    def detect(image, *, radius):
        size = 2 * radius + 1
        return cv2.GaussianBlur(image, (size, size), 0)

    return detect


def random_radius(rng):
    return {"radius": int(rng.integers(2, 17))}


blur = Condition(
    name="blur",
    summary="Colours without detail",
    load_detector=load_detector,
    options={"radius": Option(8, "of the blur, in pixels", minimum=1, maximum=64)},
    training_options=random_radius,
    metric="ssim",
    licence="Apache-2.0",
)
