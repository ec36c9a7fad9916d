"""The tiny base's autoencoder: 8x8 patches instead of AutoencoderKL's convolutions at full size.

An ordinary AutoencoderKL spends most of its work at full resolution and took the better part of an
hour of CPU to learn what this one starts with: a linear projection of 8x8 patches on their
principal components. A small convolutional network beside it learns what the projection loses.
It has AutoencoderKL's interface, so diffusers' Stable Diffusion pipelines run on it unchanged.
"""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

PATCH = 8
LOG_VARIANCE = -30.0  # the code is deterministic: a Gaussian without width


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (N, 3, H, W) in [-1, 1] to latents (N, C, H/8, W/8) and back; 8 divides H and W.

    Latents have mean 0 and standard deviation 1 per channel over scenes and are bounded.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 8,
        encoder_widths: tuple[int, ...] = (64, 128),
        decoder_widths: tuple[int, ...] = (128, 64, 24),
        block_out_channels: tuple[int, ...] = (24, 64, 128, 128),
        sample_size: int = 128,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        force_upcast: bool = False,
        residual_bound: float = 3.0,
    ) -> None:
        """`block_out_channels` has one entry per halving and one more, as pipelines count them."""
        super().__init__()
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.project = nn.Conv2d(in_channels, latent_channels, PATCH, PATCH)
        self.expand = nn.ConvTranspose2d(latent_channels, out_channels, PATCH, PATCH)
        self.encoder = PatchEncoder(in_channels, latent_channels, encoder_widths)
        self.decoder = PatchDecoder(latent_channels, out_channels, decoder_widths)
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput:
        """The distribution of latents of pictures; its samples equal its mode."""
        latents = (self.raw_latents(x) - self._mean()) / self._std()
        moments = torch.cat([latents, torch.full_like(latents, LOG_VARIANCE)], 1)
        distribution = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=distribution) if return_dict else (distribution,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput:
        """Pictures of latents; `generator` is part of the interface and unused."""
        sample = self.raw_decode(z * self._std() + self._mean())
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor, return_dict: bool = True) -> DecoderOutput:
        """Encode and decode."""
        return self.decode(self.encode(sample).latent_dist.mode(), return_dict=return_dict)

    def raw_latents(self, x: Tensor) -> Tensor:
        """Latents before normalisation; the learned part is kept in (-bound, bound)."""
        bound = self.config.residual_bound
        return self.project(x) + bound * torch.tanh(self.encoder(x) / bound)

    def raw_decode(self, z: Tensor) -> Tensor:
        """Pictures of latents before normalisation."""
        return self.expand(z) + self.decoder(z)

    @torch.no_grad()
    def set_principal_components(self, components: Tensor, scales: Tensor, mean: Tensor) -> None:
        """Start from patches' principal components.

        components: (3*8*8, C), orthonormal columns over (channel, row, column); scales: (C,)
        standard deviations along them; mean: (3*8*8,) the mean patch.
        """
        down, up = (components / scales).T, (components * scales).T
        encoding = {"weight": down.reshape(self.project.weight.shape), "bias": -(down @ mean)}
        decoding = {
            "weight": up.reshape(self.expand.weight.shape),
            "bias": mean.view(3, -1).mean(1),
        }
        self.project.load_state_dict(encoding)
        self.expand.load_state_dict(decoding)

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Normalise by these statistics of raw latents, (C,) each."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def _mean(self) -> Tensor:
        return self.latent_mean[None, :, None, None]

    def _std(self) -> Tensor:
        return self.latent_std[None, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions on a skip; the second starts at zero, the block as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class PatchEncoder(nn.Module):
    """What the projection misses of a picture: H/4, then H/8."""

    def __init__(self, in_channels: int, latent_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        quarter, eighth = widths
        self.conv_in = nn.Conv2d(in_channels * 16, quarter, 3, padding=1)
        self.block_quarter = ResidualBlock(quarter)
        self.down = nn.Conv2d(quarter * 4, eighth, 1)
        self.blocks = nn.Sequential(ResidualBlock(eighth), ResidualBlock(eighth))
        self.conv_out = small_start(nn.Conv2d(eighth, latent_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        quarter = self.block_quarter(self.conv_in(F.pixel_unshuffle(x, 4)))
        eighth = self.blocks(self.down(F.pixel_unshuffle(quarter, 2)))
        return self.conv_out(F.silu(eighth))


class PatchDecoder(nn.Module):
    """What the expansion misses of a picture: H/8, H/4, H/2, then pixels."""

    def __init__(self, latent_channels: int, out_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        eighth, quarter, half = widths
        self.conv_in = nn.Conv2d(latent_channels, eighth, 3, padding=1)
        self.blocks_eighth = nn.Sequential(*(ResidualBlock(eighth) for _ in range(3)))
        self.up_quarter = nn.Conv2d(eighth, quarter * 4, 1)
        self.blocks_quarter = nn.Sequential(ResidualBlock(quarter), ResidualBlock(quarter))
        self.up_half = nn.Conv2d(quarter, half * 4, 1)
        self.block_half = ResidualBlock(half)
        self.conv_out = small_start(nn.Conv2d(half, out_channels * 4, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        eighth = self.blocks_eighth(self.conv_in(z))
        quarter = self.blocks_quarter(F.pixel_shuffle(self.up_quarter(F.silu(eighth)), 2))
        half = self.block_half(F.pixel_shuffle(self.up_half(F.silu(quarter)), 2))
        return F.pixel_shuffle(self.conv_out(F.silu(half)), 2)


@torch.no_grad()
def small_start(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with a tenth of its usual weights and no bias."""
    layer.weight.mul_(0.1)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer
