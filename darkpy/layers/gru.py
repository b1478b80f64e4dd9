"""[gru]: gated recurrent units, of connected parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Shape, register
from darkpy.layers.connected import Connected
from darkpy.layers.recurrent import RecurrentLayer


@register("gru")
class Gru(RecurrentLayer):
    """Gated recurrent units (Cho et al. 2014): a gate decides how much of the state is replaced.

    Input (steps * n, c, h, w), the first of all n sequences before the second; output (steps * n, output, 1, 1). With
    the state h, ``z = logistic(input_z(x) + state_z(h))``, r likewise, the candidate ``c = logistic(input_h(x) +
    state_h(r h))`` and the output and new state ``z h + (1 - z) c``; each part is a [connected]. The state stays from
    pass to pass, in training too (Darknet, gru_layer.c, whose candidate is logistic, not tanh).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of outputs, and of values remembered")
        batch_normalize: bool = option(False, help="batch normalisation in every part")

    def shape(self, *inputs: Shape) -> Shape:
        """(output, 1, 1)."""
        o = self.options
        for seen, shape in (("input", inputs[0]), ("state", (o.output, 1, 1))):
            for gate in "zrh":
                self.part(
                    f"{seen}_{gate}",
                    Connected,
                    shape,
                    output=o.output,
                    activation="linear",
                    batch_normalize=o.batch_normalize,
                )
        return o.output, 1, 1

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """What is remembered; gates and the part of the state let through; gradients."""
        assert self.output_shape is not None
        shape = (batch // self.steps, *self.output_shape)
        found = super().buffers(batch, training)
        found["state"] = Buffer(shape, lasting=True)
        found["first_state"] = Buffer(shape, scratch=not training)
        found["gates"] = Buffer((self.steps, 4, *shape), scratch=not training)
        found["product"] = Buffer(shape, scratch=True)
        if training:
            found["grads"] = Buffer((7, *shape), scratch=True, during=("backward",))
        return found

    def forward(self, x: Any, *, training: bool) -> None:
        """Step by step."""
        self.x = x
        backend = self.backend
        backend.copy(self.state, self.first_state)
        for step in range(self.steps):
            before, after = self._state_before(step), self.at(self.output, step)
            z, r, candidate, let_through = self.gates[step]
            self._gate("z", step, before, z, training)
            self._gate("r", step, before, r, training)
            backend.multiply_forward(r, before, let_through)
            self._gate("h", step, let_through, candidate, training)
            backend.multiply_forward(z, before, after)
            backend.add(candidate, after)
            backend.multiply_forward(z, candidate, self.product)
            backend.scaled_copy(self.product, after, -1.0, accumulate=True)
        backend.copy(self.at(self.output, self.steps - 1), self.state)

    def _gate(self, name: str, step: int, seen: Any, gate: Any, training: bool) -> None:
        backend = self.backend
        backend.copy(self.run(self.parts[f"input_{name}"], step, self.at(self.x, step), training), gate)
        backend.add(self.run(self.parts[f"state_{name}"], step, seen, training), gate)
        backend.activation_forward(gate, gate, "logistic")

    def _state_before(self, step: int) -> Any:
        return self.first_state if step == 0 else self.at(self.output, step - 1)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """From the last step to the first; the state before the first one gets no gradient."""
        backend = self.backend
        grad_after, grad_before, grad_z, grad_r, grad_candidate, grad_let_through, negative = self.grads
        for step in reversed(range(self.steps)):
            if step == self.steps - 1:
                backend.copy(self.at(grad_output, step), grad_after)
            else:
                backend.add(self.at(grad_output, step), grad_after)
            z, r, candidate, let_through = self.gates[step]
            before = self._state_before(step)
            # z before + candidate - z candidate
            backend.scaled_copy(grad_after, negative, -1.0)
            backend.multiply_backward(z, before, grad_after, grad_z, grad_before)
            backend.copy(grad_after, grad_candidate)
            backend.multiply_backward(z, candidate, negative, grad_z, grad_candidate, (True, True))
            self._gate_backward("h", step, let_through, candidate, grad_candidate, grad_x, grad_let_through, first=True)
            backend.multiply_backward(r, before, grad_let_through, grad_r, grad_before, (False, True))
            self._gate_backward("z", step, before, z, grad_z, grad_x, grad_before)
            self._gate_backward("r", step, before, r, grad_r, grad_x, grad_before)
            grad_after, grad_before = grad_before, grad_after

    def _gate_backward(
        self, name: str, step: int, seen: Any, gate: Any, grad: Any, grad_x: Any, grad_seen: Any, first: bool = False
    ) -> None:
        """Through the gate's activation, in place, to the input and what else it sees."""
        self.backend.activation_backward(None, gate, grad, grad, "logistic")
        theirs = None if grad_x is None else self.at(grad_x, step)
        x = self.at(self.x, step)
        self.run_backward(self.parts[f"input_{name}"], step, x, grad, theirs, self.accumulate[0] or not first)
        self.run_backward(self.parts[f"state_{name}"], step, seen, grad, grad_seen, accumulate=not first)
