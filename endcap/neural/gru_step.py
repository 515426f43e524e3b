"""One training step of GRU4Rec, with gradients written out on memory that is kept.

The steps are small, so that the number of operations limits them more than their size. Autograd would double that
number. A test compares the gradients with autograd's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from endcap.neural.gru import GRUNetwork
from endcap.neural.gru_blocks import GRUBatch
from endcap.neural.losses import NEVER, Loss
from endcap.neural.optimisers import DenseOptimiser, TableOptimiser, UpdateRule, combine
from endcap.neural.parallel import Exchange
from endcap.neural.scratch import Scratch

_ALIGNED = 16
"""A row of scored items is its weights, its bias, and padding up to a multiple of so many numbers."""


class GRUWeights:
    """The network's weights as the optimiser keeps them.

    Parameters
    ----------
    network
        The weights to begin with; they are copied.
    rule
        How gradients change the weights.
    """

    def __init__(self, network: GRUNetwork, rule: UpdateRule) -> None:
        self.shape, self.codes = network.shape, network.codes
        self.known = torch.isfinite(network.bias)
        dense = self.shape.dense()
        self.dense = DenseOptimiser(torch.cat([network.weights[name].reshape(-1) for name in dense]), rule)
        width = self.shape.width
        scored = network.items.new_zeros(self.shape.n_items, -(-(width + 1) // _ALIGNED) * _ALIGNED)
        scored[:, :width] = network.output
        scored[:, width] = torch.where(self.known, network.bias, 0.0)
        self.scored = TableOptimiser(scored, rule)
        self.entering = TableOptimiser(network.items, rule) if self.shape.separate else None
        self.views = self.split(self.dense.values)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a vector of all dense weights, by name."""
        views, begin = {}, 0
        for name, size in self.shape.dense().items():
            count = torch.Size(size).numel()
            views[name] = vector[begin : begin + count].view(size)
            begin += count
        return views

    def network(self) -> GRUNetwork:
        """Return the network as a view of these weights, not a copy."""
        width = self.shape.width
        output = self.scored.values[:, :width]
        items = {"items": output} if self.entering is None else {"items": self.entering.values, "output": output}
        bias = torch.where(self.known, self.scored.values[:, width], -torch.inf)
        return GRUNetwork({**items, "bias": bias, **self.views}, self.codes)

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name, for a checkpoint."""
        tables = {"scored": self.scored} | ({} if self.entering is None else {"entering": self.entering})
        return {
            "dense": self.dense.values,
            "dense.state": self.dense.state,
            "dense.steps": self.dense.steps,
            **{name: table.memory for name, table in tables.items()},
            **{f"{name}.steps": table.steps for name, table in tables.items()},
        }


@dataclass(frozen=True)
class Gradients:
    """The gradients of one step.

    Attributes
    ----------
    dense
        [p], of all dense weights.
    scored
        [M, row], of the rows `GRUBatch.rows`.
    entering
        [lanes, width], of the rows `GRUBatch.inputs`; None if both uses share a table.
    """

    dense: Tensor
    scored: Tensor
    entering: Tensor | None

    def tensors(self) -> list[Tensor]:
        """Return all gradients, always in the same order."""
        return [self.dense, self.scored] + ([] if self.entering is None else [self.entering])


class GRUStep:
    """Takes batches: computes the loss and the gradients, adds these up over the workers, and updates the weights. It
    keeps the hidden state of the lanes.

    Parameters
    ----------
    weights
        The weights to train.
    loss
        The loss.
    lanes
        Sessions side by side, over all workers.
    own_lanes
        Which of all lanes are this worker's.
    exchange
        Adds gradients up over the workers.
    repeated
        Whether a batch's columns may name an item twice.
    precision
        Type of matrix products, torch.float32 or torch.bfloat16; all else is float32.

    Attributes
    ----------
    total
        float64 scalar, the sum of the steps' losses since `begin`.
    """

    def __init__(
        self,
        weights: GRUWeights,
        loss: Loss,
        lanes: int,
        own_lanes: slice,
        exchange: Exchange,
        *,
        repeated: bool,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.weights, self.loss, self.exchange, self.repeated, self.precision = (
            weights,
            loss,
            exchange,
            repeated,
            precision,
        )
        self.own_lanes, self.lanes, self.width = own_lanes, lanes, weights.shape.width
        self.device = weights.dense.values.device
        self.scratch = Scratch(self.device)
        self.gradient = torch.zeros_like(weights.dense.values)
        self.by_name = weights.split(self.gradient)
        self.hidden = torch.zeros(own_lanes.stop - own_lanes.start, self.width, device=self.device)
        self.total = torch.zeros((), device=self.device, dtype=torch.float64)
        self._place = torch.zeros(weights.shape.n_items + 1 if repeated else 0, device=self.device, dtype=torch.int64)
        self._place_in = torch.zeros(
            0 if weights.entering is None else weights.shape.n_items + 1, device=self.device, dtype=torch.int64
        )

    def begin(self) -> None:
        """Begin an epoch: forget the lanes' sessions and the loss."""
        self.hidden.zero_()
        self.total.zero_()

    def __call__(self, batch: GRUBatch) -> None:
        """Train one step."""
        gradients = self.gradients(batch)
        self.exchange.sum(*gradients.tensors())
        self.update(batch, gradients)

    def update(self, batch: GRUBatch, gradients: Gradients) -> None:
        """Change the weights by a batch's gradients, which are summed over the workers."""
        weights, scored = self.weights, self.weights.scored
        weights.dense.update(gradients.dense)
        rows, gradient = batch.rows, gradients.scored
        if self.repeated:
            rows, gradient = combine(rows, gradient, self._place, scored.padding)
        scored.update(rows, gradient, self._get_fetched_rows(batch), self.scratch)
        if weights.entering is not None and gradients.entering is not None:
            table = weights.entering
            before = self.scratch("entering.rows", len(batch.inputs), 1 + table.rule.parts, self.width)
            inputs, by_inputs = combine(batch.inputs, gradients.entering, self._place_in, table.padding)
            table.update(inputs, by_inputs, before, self.scratch)

    def gradients(self, batch: GRUBatch) -> Gradients:
        """Return the gradients of a batch by the present weights, and advance the hidden state."""
        width, weights, scratch = self.width, self.weights, self.scratch
        lanes, columns = len(self.hidden), batch.offset.shape[1]
        rows = self._get_fetched_rows(batch)
        weights.scored.fetch(batch.rows, rows)
        items = self._to_operand("items", rows[:columns, 0, :width])
        self.hidden.mul_(batch.kept)
        coming = self._gather_inputs(batch, rows)
        gates = self._forward(coming)
        going = scratch("going", lanes, width)
        torch.mul(gates.after, batch.going, out=going) if batch.going.numel() else going.copy_(gates.after)

        scores, by_scores = scratch("scores", lanes, columns), scratch("by_scores", lanes, columns)
        offset = self._compute_offset(batch)
        bias = rows[:columns, 0, width]
        going_ = self._to_operand("going", going)
        if self.loss.offset_in_scores and not self.repeated:
            bias = torch.add(bias, batch.offset[0], out=scratch("bias", columns))
        self._multiply(going_, items.T, scores, bias)
        if self.loss.offset_in_scores:
            if self.repeated:
                scores.add_(offset)
            scores.view(-1).index_add_(0, batch.aims, batch.own)
        self.total.add_(self.loss(scores, offset, batch.aims, batch.scale, by_scores, scratch))

        by_rows = scratch("by_rows", len(batch.rows), rows.shape[2])
        by_scores_ = self._to_operand("by_scores", by_scores)
        self._multiply(by_scores_.T, going_, by_rows[:columns, :width])
        torch.sum(by_scores, 0, out=by_rows[:columns, width])
        by_rows[columns:].zero_()
        by_after = scratch("by_after", lanes, width)
        self._multiply(by_scores_, items, by_after)
        if batch.going.numel():
            by_after.mul_(batch.going)
        by_coming = self._backward(coming, gates, by_after)
        self.hidden.copy_(going)
        return Gradients(self.gradient, by_rows, self._spread_input_gradient(batch, by_coming, by_rows))

    def _get_fetched_rows(self, batch: GRUBatch) -> Tensor:
        table = self.weights.scored
        return self.scratch("rows", len(batch.rows), *table.memory.shape[1:])

    def _compute_offset(self, batch: GRUBatch) -> Tensor:
        """Return what is added to scores: [1, C], or [lanes, C] if a lane's target may be in other columns too."""
        if not self.repeated:
            return batch.offset
        lanes, columns = len(self.hidden), batch.offset.shape[1]
        same = self.scratch("same", lanes, columns, dtype=torch.bool)
        torch.eq(batch.rows[:columns], batch.targets, out=same)
        own = batch.offset.expand(lanes, -1).gather(1, (batch.aims % columns)[:, None])
        offset = self.scratch("offset", lanes, columns)
        offset.copy_(batch.offset.expand(lanes, -1)).masked_fill_(same, NEVER)
        offset.view(-1).index_copy_(0, batch.aims, own[:, 0])
        return offset

    def _gather_inputs(self, batch: GRUBatch, rows: Tensor) -> Tensor:
        """Return what goes into the GRU: [lanes, width]."""
        lanes, width, table = len(self.hidden), self.width, self.weights.entering
        coming = self.scratch("coming", lanes, width)
        if table is None:
            whole = self.scratch("coming.rows", lanes, rows.shape[1] * rows.shape[2])
            torch.index_select(rows.view(len(rows), -1), 0, batch.entering, out=whole)
            coming.copy_(whole[:, :width])
        else:
            before = self.scratch("entering.rows", len(batch.inputs), 1 + table.rule.parts, width)
            table.fetch(batch.inputs, before)
            coming.copy_(before[self.own_lanes, 0])
        for name, codes in batch.codes.items():
            coming.add_(self.weights.views[name].index_select(0, codes))
        return coming.mul_(batch.coming) if batch.coming.numel() else coming

    def _forward(self, coming: Tensor) -> _Gates:
        width, weights, scratch, lanes = self.width, self.weights.views, self.scratch, len(self.hidden)
        by_input, by_hidden = scratch("by_input", lanes, 3 * width), scratch("by_hidden", lanes, 3 * width)
        gates = _Gates(
            self._to_operand("w.input", weights["gru.input"]),
            self._to_operand("w.hidden", weights["gru.hidden"]),
            self._to_operand("coming", coming),
            self._to_operand("hidden", self.hidden),
            scratch("gate", lanes, 2 * width),
            by_hidden[:, 2 * width :],
            scratch("new", lanes, width),
            scratch("after", lanes, width),
        )
        self._multiply(gates.coming, gates.input.T, by_input, weights["gru.input_bias"])
        self._multiply(gates.hidden, gates.hidden_weights.T, by_hidden, weights["gru.hidden_bias"])
        torch.add(by_input[:, : 2 * width], by_hidden[:, : 2 * width], out=gates.gate).sigmoid_()
        reset, update = gates.gate[:, :width], gates.gate[:, width:]
        torch.addcmul(by_input[:, 2 * width :], reset, gates.recalled, out=gates.new).tanh_()
        torch.sub(self.hidden, gates.new, out=gates.after).mul_(update).add_(gates.new)
        return gates

    def _backward(self, coming: Tensor, gates: _Gates, by_after: Tensor) -> Tensor:
        """Return the gradient by the inputs, from the gradient by the next hidden state; also compute those of the
        GRU's weights.

        It does not go back into the sessions' past: a step learns from its own loss alone.
        """
        width, scratch, lanes = self.width, self.scratch, len(self.hidden)
        reset, update = gates.gate[:, :width], gates.gate[:, width:]
        by_input, by_hidden = scratch("d.input", lanes, 3 * width), scratch("d.hidden", lanes, 3 * width)
        by_new, by_update, by_reset = by_input[:, 2 * width :], by_input[:, width : 2 * width], by_input[:, :width]
        spare = scratch("spare", lanes, width)
        torch.mul(by_after, update, out=spare)
        torch.sub(by_after, spare, out=by_new)
        # after = new + update (hidden - new), so update (1 - update) (hidden - new) = (1 - update) (after - new).
        torch.sub(gates.after, gates.new, out=by_update).mul_(by_new)
        torch.mul(gates.new, gates.new, out=spare)
        by_new.addcmul_(by_new, spare, value=-1)
        torch.mul(by_new, gates.recalled, out=by_reset)
        torch.mul(reset, reset, out=spare)
        torch.sub(reset, spare, out=spare)
        by_reset.mul_(spare)
        by_hidden[:, : 2 * width].copy_(by_input[:, : 2 * width])
        torch.mul(by_new, reset, out=by_hidden[:, 2 * width :])
        into = self.by_name
        d_input, d_hidden = self._to_operand("d.input", by_input), self._to_operand("d.hidden", by_hidden)
        self._multiply(d_input.T, gates.coming, into["gru.input"])
        self._multiply(d_hidden.T, gates.hidden, into["gru.hidden"])
        torch.sum(by_input, 0, out=into["gru.input_bias"])
        torch.sum(by_hidden, 0, out=into["gru.hidden_bias"])
        # As wide as a row of scored items, so that it can be added to one; beyond the width it stays nought.
        whole = scratch("by_coming", lanes, self.weights.scored.memory.shape[2])
        by_coming = whole[:, :width]
        self._multiply(d_input, gates.input, by_coming)
        return whole

    def _spread_input_gradient(self, batch: GRUBatch, whole: Tensor, by_rows: Tensor) -> Tensor | None:
        """Add the gradient by the inputs, as wide as a row, to the gradients of features and items."""
        by_coming = whole[:, : self.width]
        if batch.coming.numel():
            by_coming.mul_(batch.coming)
        for name, codes in batch.codes.items():
            self.by_name[name].zero_().index_add_(0, codes, by_coming)
        if self.weights.entering is None:
            by_rows.index_add_(0, batch.entering, whole)
            return None
        by_entering = self.scratch("by_entering", self.lanes, self.width).zero_()
        by_entering[self.own_lanes] = by_coming
        return by_entering

    def _to_operand(self, name: str, values: Tensor) -> Tensor:
        """Return values in the precision of matrix products."""
        if self.precision == torch.float32:
            return values
        return self.scratch(f"as.{name}", *values.shape, dtype=self.precision).copy_(values)

    def _multiply(self, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
        """Write left · right + bias to `out`, float32."""
        if self.precision == torch.float32:
            torch.mm(left, right, out=out) if bias is None else torch.addmm(bias, left, right, out=out)
            return
        rough = self.scratch("product", *out.shape, dtype=self.precision)
        torch.mm(left, right, out=rough)
        out.copy_(rough)  # an addition of two precisions is many times slower
        if bias is not None:
            out.add_(bias)


@dataclass(frozen=True)
class _Gates:
    """A step of the GRU. gate: [lanes, 2 width], reset and update. recalled: what reset lets through. new: candidate.
    after: the next hidden state. The others are operands of the products.
    """

    input: Tensor
    hidden_weights: Tensor
    coming: Tensor
    hidden: Tensor
    gate: Tensor
    recalled: Tensor
    new: Tensor
    after: Tensor
