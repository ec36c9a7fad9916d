"""The files of one transformer family's ControlNets, as a value. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.models.factors import MARK
from cnctl.tensorfiles.header import Shape

Config = dict[str, Any]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True, kw_only=True)
class Form:
    """Names of a file's tensors, and how they become diffusers'.

    name: as `cnctl convert --to` takes it. label: as `cnctl info` prints it. holds: whether a
    file's names are of this form. diffusers_names: of one tensor, whose equal parts along the first
    side are so many of diffusers'. own_name: the reverse, of one of diffusers'. refuses: why this
    form cannot hold an architecture, as half a sentence; "" where it can. one_file: whether it is
    never a folder.
    """

    name: str
    label: str
    holds: Callable[[Iterable[str]], bool]
    diffusers_names: Callable[[str], list[str]] = lambda name: [name]
    own_name: Callable[[str], str] = lambda name: name
    refuses: Callable[[Any], str] = lambda architecture: ""
    one_file: bool = True

    def diffusers_shapes(self, shapes: Shapes) -> dict[str, Shape]:
        """Shapes by diffusers' names."""
        return {
            new: (shape[0] // len(news), *shape[1:]) if len(news) > 1 and shape else shape
            for name, shape in shapes.items()
            for news in [self.diffusers_names(name)]
            for new in news
        }


LOW_RANK = Form(name="control-lora", label="Control-LoRA", holds=lambda names: MARK in set(names))
"""Complete only together with the base: see `cnctl.models.transformer.low_rank`."""
DIFFUSERS = Form(name="diffusers", label="diffusers", holds=lambda names: True, one_file=False)


@dataclass(frozen=True, kw_only=True)
class ControlNetFormat:
    """What a family says of its ControlNets' files.

    An architecture is a value of any type: two of equal architecture have tensors of the same
    names and shapes.
    """

    family: str
    """For messages: "Stable Diffusion 3"."""
    own_form: Form = DIFFUSERS
    """The form whose names the network itself has."""
    forms: tuple[Form, ...]
    """Forms besides this one, tried in this order before it."""
    read_architecture: Callable[[Shapes], Any]
    """read_architecture(shapes): from diffusers' names; CnctlError where a tensor is missing."""
    expected_shapes: Callable[[Any], Shapes]
    """expected_shapes(architecture): every tensor, by diffusers' name."""
    config_from_shapes: Callable[[Any], Config]
    """config_from_shapes(architecture): a complete config; UndeterminedError where shapes leave
    some of it open."""
    complete_config: Callable[[Mapping[str, Any], Any], Config]
    """complete_config(config, architecture): what the network is built from; CnctlError where the
    config is another network's."""
    name_family: Callable[[Config], str]
    """name_family(config): the family of the bases that it fits."""
    check_same_shape: Callable[[Mapping[str, Any], Mapping[str, Any]], None]
    """check_same_shape(config, denoiser): CnctlError where it does not fit a base's config."""
    check_hints: Callable[..., None] = lambda source, **asked: None
    """check_hints(source, condition=, masked=, control_type=): CnctlError where it does not read
    such hints."""
    list_assumptions: Callable[[Config, Mapping[str, Any]], tuple[str, ...]] = lambda *_: ()
    """list_assumptions(config, denoiser): what is assumed where the two do not say it, a sentence
    each."""
    check_tensors: Callable[[Any, Mapping[str, Any]], None] = lambda source, tensors: None
    """check_tensors(source, tensors): CnctlError where their values show what no shape does."""
    load_class: Callable[[], type]
    """The network's class; it imports torch."""
    respond: Callable[..., Any]
    """respond(network, random): its residuals for random input; random: a torch generator."""
    computed: frozenset[str] = frozenset()
    """Tensors that are computed, not trained; a Control-LoRA leaves them to its base."""
    computed_shapes: Callable[[Config], Shapes] = lambda config: {}
    """Their shapes, from a config that may lack any field."""

    copied: bool = True
    """Whether the network is a copy of its base's blocks, which only such a base completes; what
    follows is asked of copies alone."""
    base_name: Callable[[Config, str], str] = lambda config, name: name
    """base_name(config, name): what the base calls a tensor that is copied from it; some name that
    it does not have for others."""
    load_files: Callable[[], Any]
    """The `BaseFiles` of its bases; it imports torch."""
    load_builder: Callable[[], Callable[..., Any]]
    """What builds a fresh network, build(transformer, layers=, hint_start=, seed=); it imports
    torch."""
    hint_layer: str
    """The layer of a fresh network that reads the hint, see `start_hint`."""

    condition_of: Callable[[Path], str]
    """The condition that a published file's name says; "" for other names."""
    known_quirk: Callable[[Path], str] = lambda path: ""
    """One sentence on the hints of a published ControlNet, or ""."""
    hint_bounds: Callable[[Path], tuple[float, float] | None] = lambda path: None
    """What black and white were in the training of a published one, where it is not -1 and 1."""
    residual_layers: tuple[str, ...] = ("controlnet_blocks",)
    """Lists of layers that give a residual each."""
    summarise: Callable[[Any], str]
    """What a `Source` consists of, for `cnctl info`: "12 layers that read text"."""
    list_oddities: Callable[[Any], list[str]] = lambda source: []
    """What is odd about it, a sentence each."""

    @property
    def known_forms(self) -> tuple[Form, ...]:
        """Forms besides the network's own, in the order in which they are tried."""
        return (LOW_RANK, *self.forms) if self.copied else self.forms

    def form_of(self, names: Iterable[str]) -> Form:
        """The form of a file with tensors of these names."""
        names = list(names)
        return next((form for form in self.known_forms if form.holds(names)), self.own_form)

    def find_form(self, name: str) -> Form | None:
        """The form of this name."""
        known = (self.own_form, *self.known_forms)
        return next((form for form in known if form.name == name), None)
