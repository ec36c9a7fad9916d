"""Section 3 of the paper, equations 2 to 8, on small networks; its true sizes on no memory."""

import copy
import math

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

from cnctl.errors import CnctlError
from cnctl.models.base import Base, lock
from cnctl.models.prompts import encode_prompts
from cnctl.models.residuals import Residuals
from cnctl.models.unet.branch import predict_noise
from cnctl.models.unet.controlnet import (
    SILU_GAIN,
    ControlledBlock,
    build_controlnet,
    released_widths,
    start_gaussian,
    use_paper_hint_encoder,
    zero_conv,
)
from cnctl.training.loss import noise_prediction_loss

# stable-diffusion-v1-5/unet/config.json and stable-diffusion-2-1/unet/config.json
SD15 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD21 = {
    **SD15,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
    "upcast_attention": True,
}


def image_features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def unet(loaded_random_base: Base) -> UNet2DConditionModel:
    return loaded_random_base.denoiser


@pytest.fixture
def inputs(loaded_random_base: Base) -> dict[str, Tensor]:
    text = encode_prompts(loaded_random_base, ["a red house", ""])
    hint = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    latents = image_features(2, 4, 8, 8)
    return {"latents": latents, "timestep": torch.tensor([7, 600]), "text": text, "hint": hint}


def without_hint(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if name != "hint"}


class TestControlledBlock:
    """Equation 2 around an ordinary network block."""

    def build(self) -> ControlledBlock:
        torch.manual_seed(0)
        block = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 6, 1))
        return ControlledBlock(block, 4, out_channels=6, hint_channels=3)

    def test_is_equation_2(self) -> None:
        block = self.build()
        for parameter in block.parameters():
            parameter.data.normal_()
        x, hint = image_features(2, 4, 5, 7), image_features(2, 3, 5, 7, seed=1)
        w1, w2 = block.zero_in.weight[:, :, 0, 0], block.zero_out.weight[:, :, 0, 0]
        z1 = torch.einsum("oc,bchw->bohw", w1, hint) + block.zero_in.bias[:, None, None]
        z2 = torch.einsum("oc,bchw->bohw", w2, block.trainable(x + z1))
        expected = block.locked(x) + z2 + block.zero_out.bias[:, None, None]
        torch.testing.assert_close(block(x, hint), expected, rtol=1e-4, atol=1e-4)

    def test_equations_3_and_4_a_fresh_one_changes_nothing(self) -> None:
        block = self.build()
        x, hint = image_features(2, 4, 5, 7), image_features(2, 3, 5, 7, seed=1)
        assert torch.equal(block.zero_in(hint), torch.zeros_like(x))
        assert torch.equal(block.trainable(x + block.zero_in(hint)), block.locked(x))
        assert torch.equal(block(x, hint), block.locked(x))

    def test_gradient_reaches_zero_convolutions_first_and_the_copy_next(self) -> None:
        block = self.build()
        before = copy.deepcopy(block.locked.state_dict())
        optimizer = torch.optim.SGD([p for p in block.parameters() if p.requires_grad], lr=0.1)
        moved: list[set[str]] = []
        for step in range(3):
            x, hint = image_features(2, 4, 5, 7, seed=step), image_features(2, 3, 5, 7, seed=9)
            optimizer.zero_grad()
            (block(x, hint) ** 2).sum().backward()
            named = block.named_parameters()
            moved.append({n.split(".")[0] for n, p in named if p.grad is not None and p.grad.any()})
            optimizer.step()
        # zero_in lies behind zero_out: what it learns from comes through it, one step later.
        assert moved == [{"zero_out"}, *[{"zero_in", "trainable", "zero_out"}] * 2]
        assert all(torch.equal(before[n], v) for n, v in block.locked.state_dict().items())

    def test_statistics_of_the_locked_block_stay(self) -> None:
        block = ControlledBlock(nn.BatchNorm2d(4), 4).train()
        before = copy.deepcopy(block.locked.state_dict())
        block(image_features(2, 4, 5, 5), image_features(2, 4, 5, 5))
        assert all(torch.equal(before[n], v) for n, v in block.locked.state_dict().items())
        assert block.trainable.num_batches_tracked == 1

    def test_passes_on_what_else_a_block_needs(self) -> None:
        class Timed(nn.Module):
            def forward(self, x: Tensor, time: Tensor) -> Tensor:
                return x + time

        x = image_features(1, 4, 3, 3)
        assert torch.equal(ControlledBlock(Timed(), 4)(x, x, torch.ones(())), x + 1)


class TestZeroConvolution:
    """Equations 5 to 8, computed by hand."""

    def test_equation_6_gradients(self) -> None:
        convolution = zero_conv(3, 2)
        features = image_features(2, 3, 4, 5).requires_grad_(True)
        outside = image_features(2, 2, 4, 5, seed=1)
        out = convolution(features)
        assert torch.equal(out, torch.zeros_like(outside))
        out.backward(outside)
        # dZ/dB = 1 and dZ/dW = I at each position; both are summed over positions.
        by_hand = torch.einsum("bohw,bihw->oi", outside, features.detach())
        torch.testing.assert_close(convolution.bias.grad, outside.sum((0, 2, 3)))
        torch.testing.assert_close(convolution.weight.grad[:, :, 0, 0], by_hand)
        # dZ/dI = the sum of W = 0
        assert torch.equal(features.grad, torch.zeros_like(features))

    def test_equations_7_and_8_one_step_makes_it_grow(self) -> None:
        convolution = zero_conv(3, 2)
        features = image_features(2, 3, 4, 5)
        optimizer = torch.optim.SGD(convolution.parameters(), lr=0.5)
        outside = image_features(2, 2, 4, 5, seed=1)
        convolution(features).backward(outside)
        optimizer.step()
        expected = -0.5 * torch.einsum("bohw,bihw->oi", outside, features)
        torch.testing.assert_close(convolution.weight.detach()[:, :, 0, 0], expected)
        assert convolution.weight.all()
        again = features.clone().requires_grad_(True)
        convolution(again).backward(outside)
        by_hand = torch.einsum("bohw,oi->bihw", outside, convolution.weight[:, :, 0, 0])
        torch.testing.assert_close(again.grad, by_hand)


class TestBuildControlnet:
    @pytest.mark.parametrize(("config", "count"), [(SD15, 361_279_120), (SD21, 364_228_240)])
    def test_true_size(self, config: dict, count: int) -> None:
        with torch.device("meta"):
            unet = UNet2DConditionModel(**config)
        controlnet = build_controlnet(unet)
        assert sum(p.numel() for p in controlnet.parameters()) == count
        assert controlnet.device.type == "meta"
        assert len(controlnet.controlnet_down_blocks) == 12

    def test_copies_the_encoder_and_the_middle_block(self, unet: UNet2DConditionModel) -> None:
        controlnet, theirs = build_controlnet(unet), unet.state_dict()
        own = {n: p for n, p in controlnet.state_dict().items() if not n.startswith("controlnet_")}
        assert own
        assert all(torch.equal(theirs[name], value) for name, value in own.items())
        copied = {n for n in theirs if n.startswith(("conv_in", "time", "down", "mid"))}
        assert copied == set(own)
        assert all(p.requires_grad for p in controlnet.parameters())

    def test_connections_start_at_zero_and_the_hint_encoder_does_not(
        self, unet: UNet2DConditionModel
    ) -> None:
        state = build_controlnet(unet).state_dict()
        connections = ("controlnet_down_blocks", "controlnet_mid_block")
        last = "controlnet_cond_embedding.conv_out"
        hint = [v for n, v in state.items() if "cond_embedding" in n and not n.startswith(last)]
        assert not any(v.any() for n, v in state.items() if n.startswith((*connections, last)))
        assert all(v.any() for v in hint if v.ndim > 1)

    def test_seed_decides_the_start_and_leaves_torch_alone(
        self, unet: UNet2DConditionModel
    ) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        one, same, other = (build_controlnet(unet, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(torch.rand(1), expected)
        name = "controlnet_cond_embedding.conv_in.weight"
        assert torch.equal(one.state_dict()[name], same.state_dict()[name])
        assert not torch.equal(one.state_dict()[name], other.state_dict()[name])

    def test_is_in_full_precision_even_for_a_base_that_is_not(
        self, unet: UNet2DConditionModel
    ) -> None:
        controlnet = build_controlnet(copy.deepcopy(unet).to(torch.bfloat16))
        assert {p.dtype for p in controlnet.parameters()} == {torch.float32}

    @pytest.mark.parametrize("channels", [1, 6])
    @pytest.mark.parametrize("form", ["released", "paper"])
    def test_any_number_of_hint_channels(
        self, unet: UNet2DConditionModel, channels: int, form: str
    ) -> None:
        controlnet = build_controlnet(unet, hint_channels=channels, hint_encoder=form)
        features = controlnet.encode_hint(None, torch.rand(1, channels, 64, 48)).features
        assert features.shape == (1, 16, 8, 6)
        assert controlnet.config.conditioning_channels == channels

    def test_papers_hint_encoder_is_as_printed(self, unet: UNet2DConditionModel) -> None:
        controlnet = build_controlnet(unet, hint_encoder="paper")
        inside = controlnet.controlnet_cond_embedding.modules()
        *layers, last = [module for module in inside if isinstance(module, nn.Conv2d)]
        assert [layer.out_channels for layer in layers] == [16, 32, 64, 128]
        assert {layer.kernel_size for layer in layers} == {(4, 4)}
        assert last.kernel_size == (1, 1)
        assert not last.weight.any()
        # Gaussian: nearly all within 3 standard deviations, and some beyond 2.
        weights = layers[-1].weight.detach().flatten()
        assert (weights.abs() < 3 * weights.std()).float().mean() == pytest.approx(0.9973, abs=2e-3)
        assert (weights.abs() < 2 * weights.std()).float().mean() == pytest.approx(0.9545, abs=5e-3)

    def test_gaussian_start_keeps_the_hints_variance_where_torchs_loses_it(self) -> None:
        encoder = ControlNetConditioningEmbedding(320, 3, (16, 32, 96, 256))
        hint = (
            torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) > 0.9
        ).float()

        def contrast() -> float:
            """Standard deviation of what the zero convolution reads."""
            features = nn.functional.silu(encoder.conv_in(hint))
            for block in encoder.blocks:
                features = nn.functional.silu(block(features))
            return float(features.std((0, 2, 3)).mean())

        with torch.no_grad():
            assert contrast() < hint.std() / 100
            start_gaussian(encoder)
            assert hint.std() / 3 < contrast() < hint.std() * 3
        assert not encoder.conv_out.weight.any()

    def test_gain_keeps_variance_through_silu(self) -> None:
        z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        variance = torch.trapezoid(nn.functional.silu(z).square() * density, z)
        assert SILU_GAIN**2 * variance == pytest.approx(1, abs=1e-3)

    def test_torchs_start_is_diffusers_own(self, unet: UNet2DConditionModel) -> None:
        torch.manual_seed(7)
        widths = released_widths(unet.config.block_out_channels[0])
        stock = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
        ours = build_controlnet(unet, hint_start="torch", seed=7)
        assert all(torch.equal(ours.state_dict()[n], v) for n, v in stock.state_dict().items())

    def test_unknown_start_is_refused(self, unet: UNet2DConditionModel) -> None:
        with pytest.raises(CnctlError, match="unknown hint start 'zero'"):
            build_controlnet(unet, hint_start="zero")

    def test_config_remembers_the_papers_form(self, unet: UNet2DConditionModel) -> None:
        built = build_controlnet(unet, hint_encoder="paper")
        assert built.config.hint_encoder == "paper"
        rebuilt = ControlNetModel.from_unet(unet)
        use_paper_hint_encoder(rebuilt)
        rebuilt.load_state_dict(built.state_dict())

    def test_unknown_form_is_refused(self, unet: UNet2DConditionModel) -> None:
        with pytest.raises(CnctlError, match="unknown hint encoder 'big'"):
            build_controlnet(unet, hint_encoder="big")

    @pytest.mark.parametrize(
        ("width", "widths"), [(320, (16, 32, 96, 256)), (32, (8, 8, 8, 24)), (64, (8, 8, 16, 48))]
    )
    def test_widths_follow_the_base(self, width: int, widths: tuple[int, ...]) -> None:
        assert released_widths(width) == widths


class TestResiduals:
    def test_scales_and_adds(self) -> None:
        down, middle = torch.tensor([1.0]), torch.tensor([2.0])
        residuals = Residuals((down, down, middle))
        assert residuals.scaled(0.5) == Residuals((down / 2, down / 2, middle / 2))
        assert residuals.scaled([1, 2, 3]) == Residuals((down, 2 * down, 3 * middle))
        assert residuals + residuals == residuals.scaled(2)

    def test_wrong_number_of_scales(self) -> None:
        one = torch.ones(1)
        with pytest.raises(CnctlError, match="2 control scales for 3 residuals"):
            Residuals((one, one, one)).scaled([1, 1])


class TestControlResiduals:
    def test_a_fresh_controlnet_leaves_the_base_exactly_as_it_is(
        self, unet: UNet2DConditionModel, inputs: dict[str, Tensor]
    ) -> None:
        controlnet = build_controlnet(unet)
        with torch.no_grad():
            residuals = controlnet.residuals(None, **inputs)
            plain = predict_noise(unet, **without_hint(inputs))
            assert len(residuals.tensors) == 9
            assert not any(r.any() for r in residuals.tensors)
            controlled = predict_noise(unet, **without_hint(inputs), residuals=residuals)
        assert torch.equal(controlled, plain)

    def test_an_encoded_hint_gives_the_same(
        self, random_controlnet: ControlNetModel, inputs: dict[str, Tensor]
    ) -> None:
        encoded = random_controlnet.encode_hint(None, inputs["hint"])
        with torch.no_grad():
            expected = random_controlnet(
                inputs["latents"],
                inputs["timestep"],
                inputs["text"].tokens,
                inputs["hint"],
                return_dict=False,
            )
            for hint in (inputs["hint"], encoded):
                ours = random_controlnet.residuals(None, **{**inputs, "hint": hint})
                assert all(map(torch.equal, ours.tensors[:-1], expected[0]))
                assert torch.equal(ours.tensors[-1], expected[1])
                assert ours.tensors[-1].any()

    def test_channel_order_of_the_hint(
        self, random_controlnet: ControlNetModel, inputs: dict[str, Tensor]
    ) -> None:
        reversed_order = copy.deepcopy(random_controlnet)
        reversed_order.register_to_config(controlnet_conditioning_channel_order="bgr")
        for hint in (inputs["hint"], reversed_order.encode_hint(None, inputs["hint"])):
            with torch.no_grad():
                ours = reversed_order.residuals(None, **{**inputs, "hint": hint})
                flipped = {**inputs, "hint": inputs["hint"].flip(1)}
                theirs = random_controlnet.residuals(None, **flipped)
                assert torch.equal(ours.tensors[-1], theirs.tensors[-1])

    def test_middle_alone_acts_and_the_skips_do_not(
        self,
        unet: UNet2DConditionModel,
        random_controlnet: ControlNetModel,
        inputs: dict[str, Tensor],
    ) -> None:
        with torch.no_grad():
            residuals = random_controlnet.residuals(None, **inputs)
            middle = random_controlnet.residuals(None, **inputs, connect="middle")
            plain = predict_noise(unet, **without_hint(inputs))
            controlled = predict_noise(unet, **without_hint(inputs), residuals=middle)
            *down, last = residuals.tensors
            zeros = Residuals((*map(torch.zeros_like, down), last))
            expected = predict_noise(unet, **without_hint(inputs), residuals=zeros)
        assert torch.equal(controlled, expected)
        assert not torch.equal(controlled, plain)

    def test_unknown_connection(
        self, random_controlnet: ControlNetModel, inputs: dict[str, Tensor]
    ) -> None:
        with pytest.raises(CnctlError, match="unknown connection 'some'"):
            random_controlnet.residuals(None, **inputs, connect="some")

    def test_trainable_parameters(self, random_controlnet: ControlNetModel) -> None:
        everything = random_controlnet.learning_parameters()
        middle = random_controlnet.learning_parameters(connect="middle")
        assert everything == dict(random_controlnet.named_parameters())
        assert {n.split(".")[0] for n in everything.keys() - middle.keys()} == {
            "controlnet_down_blocks"
        }


class TestFirstSteps:
    """What section 3.1 says of the first steps of training, on the whole network."""

    def gradients(self, base: Base, controlnet: ControlNetModel, inputs: dict) -> set[str]:
        """Names of the parameters with a gradient, by the module they are in."""
        controlnet.zero_grad()
        noise = image_features(2, 4, 8, 8, seed=8)
        noise_prediction_loss(
            base,
            controlnet,
            latents=inputs["latents"],
            text=inputs["text"],
            hint=inputs["hint"],
            timesteps=inputs["timestep"],
            noise=noise,
        ).backward()
        named = controlnet.named_parameters()
        return {name for name, p in named if p.grad is not None and p.grad.any()}

    def test_only_zero_convolutions_move_then_the_copy_then_all(
        self, loaded_random_base: Base, inputs: dict[str, Tensor]
    ) -> None:
        base = loaded_random_base
        before = {n: p.clone() for n, p in base.denoiser.state_dict().items()}
        controlnet = build_controlnet(base.denoiser)
        optimizer = torch.optim.SGD(controlnet.parameters(), lr=0.1)
        moved = []
        for _ in range(3):
            moved.append(self.gradients(base, controlnet, inputs))
            optimizer.step()
        names = [name for name, _ in controlnet.named_parameters()]
        connections = {n for n in names if n.startswith(("controlnet_down", "controlnet_mid"))}
        last = {n for n in names if n.startswith("controlnet_cond_embedding.conv_out")}
        behind = {n for n in names if n.startswith("controlnet_cond_embedding")} - last
        copied = set(names) - connections - last - behind
        assert len(connections) == 2 * 9
        assert moved[0] == connections
        # Behind the connections lie the copy and the hint encoder's last, zero convolution.
        assert last <= moved[1]
        assert not moved[1] & behind
        assert len(moved[1] & copied) > 0.9 * len(copied)
        assert behind <= moved[2]
        assert all(torch.equal(before[n], p) for n, p in base.denoiser.state_dict().items())
        assert all(p.grad is None for p in base.denoiser.parameters())

    def test_locked_encoder_stores_no_graph(
        self, loaded_random_base: Base, random_controlnet: ControlNetModel, inputs: dict
    ) -> None:
        unet, seen = loaded_random_base.denoiser, {}
        modules = {
            "encoder": unet.down_blocks[-1],
            "middle": unet.mid_block,
            "decoder": unet.up_blocks[0],
        }

        def note(name: str, output: Tensor | tuple) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output).requires_grad

        hooks = [
            module.register_forward_hook(lambda *a, name=name: note(name, a[2]))
            for name, module in modules.items()
        ]
        residuals = random_controlnet.residuals(None, **inputs)
        predict_noise(unet, **without_hint(inputs), residuals=residuals)
        for hook in hooks:
            hook.remove()
        assert seen == {"encoder": False, "middle": False, "decoder": True}


def test_lock() -> None:
    module = lock(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout()).train())
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
