"""The parameters of the neural models, which are trained in epochs."""

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
    """A recurrent network (GRU) over the session, trained on session-parallel batches (Hidasi et al., 2016; Hidasi and
    Karatzoglou, 2018)."""

    name: Literal["gru4rec"] = "gru4rec"
    """The model's name."""
    loss: Literal["cross-entropy", "bpr-max"] = "bpr-max"
    """The loss. `cross-entropy`: a softmax over sampled items. `bpr-max`: pairs of the target and the sampled items,
    where those with high scores weigh most."""
    width: Positive = 100
    """The size of the hidden state and of the item embeddings."""
    output_embedding: Literal["shared", "separate"] = "shared"
    """`shared`: one table of embeddings for the session's items and for the items to score. `separate`: two tables."""
    batch_size: Positive = 48
    """The number of sessions in a batch."""
    negatives: Positive = 2048
    """The number of sampled items that each target competes with, besides the other targets of the batch. If the
    catalogue has no more items than this, the target competes with all of them."""
    negatives_alpha: Power = 0.2
    """The power of popularity by which negatives are drawn: 0 draws uniformly, 1 by popularity."""
    logq: Power = 1.0
    """How much of the sampling bias cross-entropy subtracts from the logits: 1 all, 0 none."""
    bpr_penalty: Annotated[float, Field(ge=0.0)] = 1.0
    """The weight of the penalty of bpr-max on the scores of negatives."""
    bpr_elu: Annotated[float, Field(ge=0.0)] = 0.5
    """The parameter of the ELU that bpr-max applies to scores. 0: bpr-max applies none."""
    learning_rate: LearningRate = 0.05
    """The learning rate of Adagrad."""
    momentum: Rate = 0.0
    """The momentum of Adagrad's steps."""
    dropout_embedding: Rate = 0.6
    """The share of the item embeddings that dropout removes."""
    dropout_hidden: Rate = 0.2
    """The share of the hidden state that dropout removes."""
    max_epochs: Positive = 20
    """The most epochs."""
    patience: Positive = 3
    """Training stops after this number of epochs without a better next_ndcg@20 on the validation part."""
    last_events: Positive = 50
    """How many of a session's last events count when items are scored."""
    features: list[str] = []
    """The names of the shop's event features to use. The model adds an embedding of each to the item's. A feature needs
    buckets or a limited number of values."""
    item_features: list[str] = []
    """The names of the item table's attributes to use, such as category and price. The model adds an embedding of each
    to the item's; numbers become bands."""

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
    """A transformer over the session (Kang and McAuley, 2018; gSASRec: Petrov and Macdonald, 2023)."""

    name: Literal["sasrec"] = "sasrec"
    """The model's name."""
    width: Positive = 64
    """The size of the hidden state and of the item embeddings."""
    blocks: Positive = 1
    """The number of transformer blocks."""
    heads: Positive = 1
    """The number of attention heads. `width` must be a multiple of it."""
    last_events: Positive = 50
    """How many of a session's last events count."""
    batch_size: Positive = 128
    """The average number of sessions in a batch. Short sessions share a row."""
    negatives: Positive = 512
    """The number of sampled items that all targets of a batch compete with."""
    negatives_alpha: Power = 0.5
    """The power of popularity by which negatives are drawn: 0 draws uniformly, as in gSASRec, 1 by popularity."""
    loss: Literal["cross-entropy", "gbce"] = "cross-entropy"
    """The loss. `cross-entropy`: a softmax over sampled items. `gbce`: gSASRec's generalised binary cross-entropy."""
    calibration: Power = 0.75
    """How far gbce corrects the overconfidence that sampling causes: 0 not at all, 1 fully (the paper's t)."""
    learning_rate: LearningRate = 0.008
    """The learning rate of Adam."""
    dropout: Rate = 0.3
    """The share that dropout removes, from the embeddings and from the output of each part of a block."""
    max_epochs: Positive = 30
    """The most epochs."""
    patience: Positive = 3
    """Training stops after this number of epochs without a better next_ndcg@20 on the validation part."""
    features: list[str] = []
    """The names of the shop's event features to use; see `gru4rec`."""
    item_features: list[str] = []
    """The names of the item table's attributes to use; see `gru4rec`."""

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
    """The model's name."""
    variant: Literal["gmf", "mlp", "neumf"] = "neumf"
    """`gmf`: the product of both embeddings. `mlp`: layers over both embeddings. `neumf`: both combined."""
    width: Positive = 32
    """The size of each embedding."""
    layers: Annotated[list[Positive], Field(min_length=1)] = [64, 32, 16]
    """The sizes of the hidden layers."""
    batch_size: Positive = 2048
    """The number of pairs of customer and item in a batch, with the negatives."""
    negatives: Positive = 8
    """The number of negatives for each item of a customer: items without an event of this customer."""
    learning_rate: LearningRate = 0.003
    """The learning rate of Adam."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """The weight decay of Adam."""
    dropout: Rate = 0.0
    """The share of the hidden layers that dropout removes."""
    max_epochs: Positive = 30
    """The most epochs."""
    patience: Positive = 3
    """Training stops after this number of epochs without a better next_ndcg@20 on the validation part."""

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
