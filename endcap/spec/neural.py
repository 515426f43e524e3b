"""Parameters of the models that learn in epochs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from endcap.spec.base import Strict
from endcap.spec.space import Space, between, choice

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Power = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0.0)]


class GRU4RecSpec(Strict):
    """A GRU over the session, on session-parallel batches (Hidasi et al., 2016; Hidasi and Karatzoglou, 2018)."""

    name: Literal["gru4rec"] = "gru4rec"
    loss: Literal["cross-entropy", "bpr-max"] = "bpr-max"
    """cross-entropy: softmax over sampled items; bpr-max: pairwise, against the strongest of them."""
    width: Positive = 100
    """Size of the hidden state and of the item embeddings."""
    output_embedding: Literal["shared", "separate"] = "shared"
    """Whether the table that items are scored by is the one that the session is read by."""
    batch_size: Positive = 48
    """Sessions trained side by side."""
    negatives: Positive = 2048
    """Sampled items that each target competes with, beside the batch's other targets; as many as the catalogue has
    items or more: every item competes."""
    negatives_alpha: Power = 0.2
    """Negatives are drawn by popularity to this power: 0 uniform, 1 by popularity."""
    logq: Power = 1.0
    """How much of the sampling's bias is taken off the logits of cross-entropy: 1 all, 0 none."""
    bpr_penalty: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of bpr-max's penalty on the scores of negatives."""
    bpr_elu: Annotated[float, Field(ge=0.0)] = 0.5
    """Parameter of the elu that scores pass through in bpr-max; 0: none."""
    learning_rate: LearningRate = 0.05
    """Of Adagrad."""
    momentum: Rate = 0.0
    """Of Adagrad's steps."""
    dropout_embedding: Rate = 0.6
    dropout_hidden: Rate = 0.2
    max_epochs: Positive = 20
    patience: Positive = 3
    """Epochs without a better validation next_ndcg@20 before training stops."""
    last_events: Positive = 50
    """Of a longer session the last events count when it is scored."""
    features: list[str] = []
    """Bucketed event-level features of the shop, each added as an embedding to the item's."""
    item_features: list[str] = []
    """Attributes of the item table, each added as an embedding to the item's: category, price (in bands) and others."""

    space: ClassVar[Space] = {
        "loss": choice("bpr-max", "cross-entropy"),
        "width": choice(64, 100, 192),
        "batch_size": choice(32, 48, 96),
        "learning_rate": between(0.02, 0.2, log=True),
        "momentum": between(0.0, 0.5),
        "dropout_embedding": between(0.0, 0.7),
        "dropout_hidden": between(0.0, 0.5),
        "negatives_alpha": between(0.0, 0.8),
        "bpr_penalty": between(0.3, 2.0),
    }
    starts: ClassVar[list[dict[str, Any]]] = [
        # Cross-entropy for a small shop: strong dropout, large steps.
        {
            "loss": "cross-entropy",
            "width": 100,
            "batch_size": 48,
            "learning_rate": 0.1,
            "momentum": 0.0,
            "dropout_embedding": 0.5,
            "dropout_hidden": 0.2,
            "negatives_alpha": 0.5,
        },
        # A wider network, for more data.
        {
            "loss": "bpr-max",
            "width": 192,
            "batch_size": 96,
            "learning_rate": 0.06,
            "momentum": 0.3,
            "dropout_embedding": 0.5,
            "dropout_hidden": 0.1,
            "negatives_alpha": 0.4,
            "bpr_penalty": 1.9,
        },
        # A narrow one, for little data.
        {
            "loss": "bpr-max",
            "width": 64,
            "batch_size": 32,
            "learning_rate": 0.08,
            "momentum": 0.0,
            "dropout_embedding": 0.5,
            "dropout_hidden": 0.2,
            "negatives_alpha": 0.2,
            "bpr_penalty": 1.0,
        },
    ]


class SASRecSpec(Strict):
    """Causal self-attention over the session (Kang and McAuley, 2018; gSASRec: Petrov and Macdonald, 2023)."""

    name: Literal["sasrec"] = "sasrec"
    width: Positive = 64
    blocks: Positive = 1
    heads: Positive = 1
    """Divides the width."""
    last_events: Positive = 50
    """Of a longer session the last events count."""
    batch_size: Positive = 128
    """Sessions a step, on average; short ones share a row."""
    negatives: Positive = 512
    """Items that every target of a step competes with."""
    negatives_alpha: Power = 0.5
    """Negatives are drawn by popularity to this power: 0 uniform (as gSASRec has it), 1 by popularity."""
    loss: Literal["cross-entropy", "gbce"] = "cross-entropy"
    calibration: Power = 0.75
    """Of gbce: 0 is binary cross-entropy, 1 makes up for all that sampling overstates (t of gSASRec)."""
    learning_rate: LearningRate = 0.008
    """Of Adam."""
    dropout: Rate = 0.3
    """Of what goes in, and of what each part of a block adds."""
    max_epochs: Positive = 30
    patience: Positive = 3
    features: list[str] = []
    item_features: list[str] = []

    space: ClassVar[Space] = {
        "width": choice(32, 64, 128),
        "blocks": choice(1, 2),
        "learning_rate": between(0.001, 0.02, log=True),
        "dropout": between(0.1, 0.6),
        "negatives_alpha": between(0.0, 0.8),
    }
    starts: ClassVar[list[dict[str, Any]]] = [
        {"dropout": 0.5},
        {"blocks": 2, "learning_rate": 0.004},
    ]


class NeuMFSpec(Strict):
    """Neural collaborative filtering of customers and items (He et al., 2017)."""

    name: Literal["neumf"] = "neumf"
    variant: Literal["gmf", "mlp", "neumf"] = "neumf"
    """gmf: the product of embeddings; mlp: layers over both; neumf: the two fused."""
    width: Positive = 32
    """Of each embedding."""
    layers: Annotated[list[Positive], Field(min_length=1)] = [64, 32, 16]
    batch_size: Positive = 2048
    """Pairs of customer and item a step, those of negatives included."""
    negatives: Positive = 8
    """Items drawn for each that the customer had, of which the customer has none."""
    learning_rate: LearningRate = 0.003
    """Of Adam."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    dropout: Rate = 0.0
    """Of the hidden layers."""
    max_epochs: Positive = 30
    patience: Positive = 3

    space: ClassVar[Space] = {
        "variant": choice("gmf", "mlp", "neumf"),
        "width": choice(16, 32, 64),
        "learning_rate": between(0.001, 0.01, log=True),
        "negatives": choice(4, 8, 16),
        "dropout": between(0.0, 0.5),
    }
    starts: ClassVar[list[dict[str, Any]]] = [
        {"learning_rate": 0.004, "negatives": 16},
        {"variant": "gmf", "learning_rate": 0.004},
    ]
