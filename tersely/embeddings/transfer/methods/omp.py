"""Rows that are made of a few rows of shared tokens, as a donor's are: orthogonal matching pursuit (Pati et al. 1993).

A donor is a model that was trained with the new tokenizer. In its space the row of a token is written as a sum of ``count`` rows
of tokens that both vocabularies have; the sum of their old rows, with the same coefficients, is the new row (Goddard and
Fernandes Neto 2025). A pursuit takes, a step at a time, the atom nearest in direction to what is still missing, and fits all
coefficients again:

    best = argmax |<rest, atom>| / |atom|        rest = wanted - (least squares on the atoms so far)

All tokens of a block go ahead together. The atoms of each are made orthogonal as they come, which grows the triangular factor
of their Gram matrix by a column, so that ``rest`` is one projection and the coefficients one triangular solve in the end. The
Gram matrix of all atoms is not made: it has a square for every pair of shared tokens, and what is missing times the atoms is
faster. The cost is ``2 T O D count`` operations for ``T`` tokens, ``O`` atoms of dimension ``D``: for a large vocabulary, a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from tersely.embeddings.transfer.match import Match, Origin
from tersely.embeddings.transfer.methods.sums import Sums
from tersely.errors import EmbeddingError

COUNT = 64
"""Rows that a new row is made of, at most."""

_BLOCK = 1 << 26  # numbers in the largest array of a block
_NOTHING = 1e-5  # what is missing, or new in an atom, as a share of its length


class Omp(Sums):
    """Sums of shared rows with the coefficients of a donor.

    Args:
        match: the two vocabularies.
        donor: ``(V, D)``: a row for each of the first ``V`` ids of the new vocabulary. The work is done where it lies.
        spelled: bool, ``(V_new,)``: the new ids that are given.
        count: rows that a new row is made of, at most.

    Raises:
        EmbeddingError: the vocabularies share no token.
    """

    def __init__(
        self, match: Match, donor: Tensor, spelled: np.ndarray[Any, Any], count: int = COUNT
    ) -> None:
        known = np.arange(len(match.pieces)) < len(donor)
        shared = np.flatnonzero(match.alike() & known)
        free = match.where(Origin.COMPOSED, Origin.CONTAINED, Origin.AVERAGE) & ~match.alike()
        places = np.flatnonzero(free & known & spelled)
        if len(places) and not len(shared):
            raise EmbeddingError("the vocabularies share no token to make rows of: choose method='mean'")
        olds = match.pieces.values[match.pieces.offsets[shared]]
        shape = len(places), len(match.ordinary)
        weights: Any = sparse.csr_array(shape, dtype=np.float32)
        if len(places):
            atoms = donor[torch.from_numpy(shared).to(donor.device)].float()
            chosen, values = _in_blocks(atoms, donor, places, count)
            lines = np.repeat(np.arange(len(chosen)), chosen.shape[1])
            entries = values.ravel(), (lines, olds[chosen.ravel()])
            weights = sparse.csr_array(entries, shape=shape)
        super().__init__(match, places, weights, Origin.DONATED)


def _in_blocks(
    atoms: Tensor, donor: Tensor, places: np.ndarray[Any, Any], count: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What ``pursue`` finds for many rows of the donor, some at a time."""
    size = max(_BLOCK // max(len(atoms), count * atoms.shape[1]), 1)
    found = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]()
    for part in np.split(places, range(size, len(places), size)):
        wanted = donor[torch.from_numpy(part).to(donor.device)].float()
        chosen, values = pursue(atoms, wanted, count)
        found.append((chosen.cpu().numpy(), values.cpu().numpy()))
    chosen, values = zip(*found, strict=True)
    return np.concatenate(chosen), np.concatenate(values)


@torch.inference_mode()
def pursue(atoms: Tensor, wanted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Writes each row as a sum of a few atoms.

    Args:
        atoms: float, ``(O, D)``.
        wanted: the same dtype, ``(T, D)``.
        count: atoms of a row, at most.

    Returns:
        The atoms of each row, int64 ``(T, K)``, and their coefficients, ``(T, K)``; 0 from where nothing was missing.
    """
    count, lines = min(count, len(atoms)), torch.arange(len(wanted), device=wanted.device)
    lengths = _lengths(atoms)
    rest = wanted.clone()
    enough = _NOTHING * torch.linalg.vector_norm(wanted, dim=1)
    chosen = torch.zeros(len(wanted), count, dtype=torch.int64, device=wanted.device)
    basis = wanted.new_zeros(len(wanted), count, wanted.shape[1])
    factor = torch.eye(count, dtype=wanted.dtype, device=wanted.device).repeat(len(wanted), 1, 1)
    along = wanted.new_zeros(len(wanted), count)
    for step in range(count):
        strength = (rest @ atoms.T).div_(lengths).abs_().scatter_(1, chosen[:, :step], -1)
        best = chosen[:, step] = strength.argmax(1)
        fresh, parts = _orthogonal(atoms[best] / lengths[best, None], basis[:, :step])
        length = torch.linalg.vector_norm(fresh, dim=1)
        adds = (length > _NOTHING) & (torch.linalg.vector_norm(rest, dim=1) > enough)
        if not adds.any():
            break
        going = lines[adds]
        basis[going, step] = fresh[going] / length[going, None]
        factor[going, :step, step] = parts[going]
        factor[going, step, step] = length[going]
        along[:, step] = (basis[:, step] * rest).sum(1)
        rest -= along[:, step, None] * basis[:, step]
    values = torch.linalg.solve_triangular(factor, along[:, :, None], upper=True)[:, :, 0]
    return chosen, values / lengths[chosen]


def _lengths(atoms: Tensor) -> Tensor:
    """Of each atom; 1 of those that are zero, which are never nearest to anything."""
    lengths = torch.linalg.vector_norm(atoms, dim=1)
    return torch.where(lengths > 0, lengths, 1)


def _orthogonal(fresh: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """What of each atom is not in its basis, ``(T, D)``, and what is, ``(T, K)``: twice, for one pass leaves rounding behind."""
    parts = fresh.new_zeros(basis.shape[:2])
    for _ in range(2):
        part = torch.einsum("tkd,td->tk", basis, fresh)
        fresh, parts = fresh - torch.einsum("tk,tkd->td", part, basis), parts + part
    return fresh, parts


def pursue_plainly(
    atoms: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], count: int
) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The same for one row, ``(D,)``, as the text says it: least squares anew on each larger set of atoms."""
    chosen, values, rest = list[int](), np.zeros(0), wanted
    for _ in range(min(count, len(atoms))):
        strength = abs(atoms @ rest) / np.linalg.norm(atoms, axis=1)
        strength[chosen] = -1
        chosen.append(int(strength.argmax()))
        values, *_ = np.linalg.lstsq(atoms[chosen].T, wanted, rcond=None)
        rest = wanted - values @ atoms[chosen]
    return chosen, values
