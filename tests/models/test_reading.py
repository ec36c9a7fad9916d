"""Each part of a base is announced before it is read, with its share of the bytes."""

from pathlib import Path

from cnctl.commands.shared.events import Loading, loadings
from cnctl.models.families import load_base
from cnctl.models.reading import size_of


def test_the_parts_of_a_base_are_reported_in_turn(random_base: Path) -> None:
    events: list[Loading] = []
    with loadings(events.append):
        load_base(random_base)
    sizes = {e.what: (random_base / e.what / "diffusion_pytorch_model.safetensors") for e in events}
    sizes["text_encoder"] = random_base / "text_encoder/model.safetensors"
    done = 0
    for event in events:
        assert (event.done, event.total) == (done, sum(f.stat().st_size for f in sizes.values()))
        done += sizes[event.what].stat().st_size
    assert {event.what for event in events} == {"vae", "text_encoder", "unet"}
    assert events[0].percent == 0 < events[-1].percent < 100


def test_nothing_is_reported_where_no_weight_is_read(random_base: Path) -> None:
    events: list[Loading] = []
    with loadings(events.append):
        load_base(random_base, weights=False)
    assert events == []


def test_a_variant_beside_the_weights_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    (tmp_path / "model.fp16.safetensors").write_bytes(bytes(4))
    assert size_of(tmp_path) == size_of(tmp_path / "model.safetensors") == 8
