"""A whole ControlNet as a Control-LoRA: its difference from the base, by factors of low rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch

from cnctl.errors import CnctlError
from cnctl.models.factors import DOWN, MARK, UP
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, ready

Matrix = torch.Tensor


class Entry(Protocol):
    """A tensor of a ControlNet: diffusers' name, the file's, and whether the base has it too."""

    @property
    def diffusers(self) -> str: ...

    @property
    def original(self) -> str: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def copied(self) -> bool: ...


def factorise(
    control: Tensors,
    base: Tensors,
    table: Iterable[Entry],
    *,
    rank: int,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[Tensors, float]:
    """The file's tensors by its own names, and the share of the learnt change that is lost.

    The product of a weight's factors is the nearest matrix of that rank to what the ControlNet
    added to its base (Eckart and Young). Biases, norms, the layers that no base has and weights
    that two factors would not make smaller stay whole.
    base: the copied tensors by diffusers' names. The share is a ratio of Frobenius norms over all
    weights. advance(done): so many bytes of the ControlNet are done.
    """
    dtype = next(iter(control.values())).dtype
    named = {MARK: ready(torch.zeros(0, dtype=dtype))}
    lost, learnt, done = 0.0, 0.0, 0
    for pair in table:
        tensor = control[pair.diffusers]
        done += tensor.nbytes
        advance(done)
        if not (pair.copied and _is_smaller(pair.shape, rank)):
            named[pair.original] = tensor
            continue
        if pair.diffusers not in base or base[pair.diffusers].shape != pair.shape:
            raise CnctlError(
                f"the base has no {pair.diffusers} of shape {list(pair.shape)}",
                hint="give the base that the ControlNet was trained on",
            )
        change = (tensor.read().float() - base[pair.diffusers].read().float()).double()
        up, down = split(change.flatten(1), rank)
        learnt += float(change.square().sum())
        lost += float((change.flatten(1) - up @ down).square().sum())
        out, *inside = pair.shape
        stem = pair.original.removesuffix(".weight")
        named[stem + UP] = ready(up.reshape(out, -1, *[1] * (len(inside) - 1)).to(dtype))
        named[stem + DOWN] = ready(down.reshape(-1, *inside).to(dtype))
    return named, math.sqrt(lost / learnt) if learnt else 0.0


def _is_smaller(shape: Shape, rank: int) -> bool:
    """Whether both factors together have fewer numbers than the weight."""
    out, inside = shape[0], math.prod(shape[1:])
    return rank * (out + inside) < out * inside


def product(up: LazyTensor, down: LazyTensor) -> torch.Tensor:
    """What the factors of a weight add to the base's, in the weight's shape; float32."""
    left, right = up.read().float(), down.read().float()
    return (left.flatten(1) @ right.flatten(1)).reshape(left.shape[0], *right.shape[1:])


def add(one: LazyTensor, other: LazyTensor, *, dtype: torch.dtype) -> LazyTensor:
    """Their sum, computed in float32."""
    return LazyTensor(
        dtype, one.shape, lambda: (one.read().float() + other.read().float()).to(dtype)
    )


def add_factors(base: LazyTensor, up: LazyTensor, down: LazyTensor) -> LazyTensor:
    """The base's weight with the change that the factors make, in their precision."""
    change = LazyTensor(up.dtype, base.shape, lambda: product(up, down))
    return add(base, change, dtype=up.dtype)


def split(matrix: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The two factors (rows, rank) and (rank, columns) of the nearest matrix of this rank.

    Singular vectors come from the smaller of both Gram matrices: ten times quicker than an SVD of
    a convolution, and exact where the spectrum matters.
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, left = split(matrix.T, rank)
        return left.T, right.T
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    up = vectors[:, -rank:]
    down = up.T @ matrix
    # Each factor takes the root of the singular value, which half precision holds best.
    roots = down.norm(dim=1).sqrt()
    roots[roots == 0] = 1
    return up * roots, down / roots[:, None]
