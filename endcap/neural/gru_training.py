"""How GRU4Rec is trained: its settings, and epochs of session-parallel steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from endcap.neural.cuda_graphs import EagerSteps, ReplayedSteps
from endcap.neural.gru import GRUNetwork
from endcap.neural.gru_blocks import GRUBlocks, GRUBlockSettings
from endcap.neural.gru_step import GRUStep, GRUWeights
from endcap.neural.losses import BPRMax, CrossEntropy, Loss
from endcap.neural.negatives import NegativeSampler
from endcap.neural.optimisers import Adagrad
from endcap.neural.parallel import Exchange, SingleWorker
from endcap.neural.sequences import Sequences
from endcap.neural.threads import limit_threads

_WIDE = 256


@dataclass(frozen=True)
class GRUSettings:
    """Settings of the training of GRU4Rec; their names are those of the spec.

    Attributes
    ----------
    loss
        `cross-entropy` or `bpr-max`, see `endcap.neural.losses`.
    batch
        Sessions side by side.
    negatives
        Negatives of a step, which its sessions share.
    negatives_alpha
        Exponent of the popularity by which negatives are drawn.
    logq
        Share of the sampling's bias that cross-entropy corrects, from 0 to 1.
    bpr_penalty
        Weight of the penalty of bpr-max.
    bpr_elu
        Parameter of the elu on the scores of bpr-max; 0: no elu.
    learning_rate, momentum
        Of Adagrad.
    dropout_embedding
        Share of the embedding's numbers that is dropped.
    dropout_hidden
        Share of the hidden state's numbers that is dropped, for the scores of the step and for the next step alike, as
        in the authors' code. On RSC15 the next step's part is worth more than a point of HR@20 and of MRR@20 with
        cross-entropy at 0.4.
    max_events
        Events of the longest piece of a session.
    precision
        Type of matrix products; `auto`: bfloat16 where the device multiplies it much faster.
    """

    loss: Literal["cross-entropy", "bpr-max"] = "cross-entropy"
    batch: int = 128
    negatives: int = 2048
    negatives_alpha: float = 0.5
    logq: float = 1.0
    bpr_penalty: float = 1.0
    bpr_elu: float = 0.5
    learning_rate: float = 0.08
    momentum: float = 0.0
    dropout_embedding: float = 0.0
    dropout_hidden: float = 0.0
    max_events: int = 50
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def loss_function(self) -> Loss:
        """Return the loss that these settings name."""
        return CrossEntropy() if self.loss == "cross-entropy" else BPRMax(self.bpr_penalty, self.bpr_elu)


class GRUTrainer:
    """Trains GRU4Rec epoch by epoch. Each epoch draws everything random from the seed and its number, so that training
    can begin at any epoch.

    Parameters
    ----------
    network
        The network to train, on the device to train on.
    train
        Training sessions, with a code of each event for each event feature of the network.
    settings
        Settings of the training.
    seed
        Seed of all that is random.
    exchange
        Adds gradients up over workers; None: there is one worker.

    Raises
    ------
    ValueError
        The workers cannot share the lanes evenly.
    """

    def __init__(
        self,
        network: GRUNetwork,
        train: Sequences,
        settings: GRUSettings,
        seed: int,
        exchange: Exchange | None = None,
    ) -> None:
        self.settings, self.seed, self.exchange = settings, seed, exchange or SingleWorker()
        device, shape = network.device, network.shape
        self.weights = GRUWeights(network, Adagrad(settings.learning_rate, settings.momentum))
        events = np.bincount(train.items, minlength=shape.n_items)
        negatives = NegativeSampler(events, settings.negatives_alpha, settings.negatives)
        lanes = min(settings.batch, max(1, int(np.maximum(train.lengths - 1, 0).sum())))
        if lanes % self.exchange.world:
            raise ValueError(f"{lanes} sessions side by side cannot be shared out among {self.exchange.world} workers")
        self.blocks = GRUBlocks(
            train,
            {name: values.cpu().numpy() for name, values in network.codes.items()},
            shape.n_items,
            negatives,
            GRUBlockSettings(
                lanes,
                shape.width,
                shape.separate,
                settings.logq if settings.loss == "cross-entropy" else 0.0,
                settings.dropout_embedding,
                settings.dropout_hidden,
                settings.max_events,
            ),
            self.exchange,
            device,
        )
        self.step = GRUStep(
            self.weights,
            settings.loss_function(),
            lanes,
            self.blocks.own_lanes,
            self.exchange,
            repeated=not self.blocks.counted,
            precision=_choose_precision(settings.precision, device, shape.width),
        )
        # What workers exchange within a step is not captured: NCCL in a CUDA graph has not been tried here.
        alone = self.exchange.world == 1
        self.run = ReplayedSteps(self.step, graph=alone) if device.type == "cuda" else EagerSteps(self.step)
        columns = min(shape.n_items, lanes + settings.negatives)
        self.work = lanes * shape.width * max(columns, 3 * shape.width)

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0) and return its mean loss for an event; 0 where no event follows another."""
        if not self.blocks.transitions:
            return 0.0
        self.step.begin()
        with torch.inference_mode(), limit_threads(self.work):
            for block in self.blocks.epoch(self.seed, number):
                self.run(block)
        self.exchange.sum(self.step.total)
        return float(self.step.total) * self.blocks.lanes / self.blocks.transitions

    def network(self) -> GRUNetwork:
        """Return the network in its present state, as a view of the trained memory, not a copy."""
        return self.weights.network()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the next epochs depend on, by name; on a CPU these are views, not copies."""
        return {name: values.cpu().numpy() for name, values in self.weights.state().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `state` returned."""
        for name, values in self.weights.state().items():
            values.copy_(torch.from_numpy(state[name]))


def _choose_precision(precision: str, device: torch.device, width: int) -> torch.dtype:
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cpu":
        # A CPU's bfloat16 instructions pay where products outweigh the conversions.
        is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        return torch.bfloat16 if is_supported and width >= _WIDE else torch.float32
    return torch.bfloat16
