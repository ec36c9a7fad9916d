"""COCO-Stuff's 182 classes and the colours that stand for them: palette `voc-182`, version 1.

Class i has PASCAL VOC's colour i, and what nobody labelled is black, VOC's colour 0, so that every
colour is another. (mmsegmentation's list gives eight of its colours to several classes each.) A
change of colours would be another version, under another name: ControlNets learn them.
"""

from __future__ import annotations

NAME = "voc-182, version 1"

NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
elephant, bear, zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie,
suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted
plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush, hair brush, banner, blanket, branch, bridge,
building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth,
clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble,
floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit,
furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal,
mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic,
platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel,
wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
"""
UNUSED = frozenset(
    {"street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door"}
    | {"blender", "hair brush"}
)
"""Numbered, but in no map: the other 171 are what networks distinguish."""
UNLABELLED = "unlabelled"


def voc_colour(number: int) -> tuple[int, int, int]:
    """PASCAL VOC's colour: bits 0, 3, 6 of the number are red, highest first, and so on."""
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3))
        for channel in range(3)
    )
    return red, green, blue


CLASSES = tuple(" ".join(name.split()) for name in NAMES.split(","))
"""Names in the order of the data set's own numbers, from 1."""
PALETTE = {
    UNLABELLED: voc_colour(0),
    **{name: voc_colour(number) for number, name in enumerate(CLASSES, start=1)},
}
