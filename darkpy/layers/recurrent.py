"""What recurrent layers share: parts that are layers themselves, used once in every step in time.

Of the pictures of a training pass, ``time_steps`` of [net] at a time follow each other: the first of all sequences
come first. At inference a pass is one step; what a layer remembers stays for the next pass, until
:meth:`~darkpy.network.Network.reset_state`.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from darkpy.layers.base import Buffer, Graph, Layer, Parameter, Shape


class RecurrentLayer(Layer):
    """A layer made of parts, each a [connected] or [convolutional] of its own.

    A part is an attribute of the layer, ``self.input_part`` say, and its parameters are named after it. What a part
    keeps for its backward pass is kept for every step.
    """

    def __init__(self, *arguments: Any) -> None:
        self.parts: dict[str, Any] = {}
        super().__init__(*arguments)

    def part(self, name: str, layer_type: type[Layer], input_shape: Shape, **options: Any) -> Any:
        """The part of that name: made if it is new, else fitted to the input's shape."""
        existing = self.parts.get(name)
        if existing is not None:
            existing.graph.input_shape = input_shape
            existing.infer_shape()
            return existing
        graph = Graph(self.backend, input_shape, problems=self.graph.problems)
        part: Any = layer_type(layer_type.Options(**options), self.section, 0, graph)
        part.steps = SimpleNamespace()
        self.parts[name] = part
        setattr(self, name, part)
        return part

    @property
    def steps(self) -> int:
        """Steps in time of one pass."""
        return self.graph.time_steps

    def at(self, array: Any, step: int) -> Any:
        """The pictures of one step, of an array that holds those of all steps."""
        count = array.shape[0] // self.steps
        return array[step * count : (step + 1) * count]

    def parameters(self) -> list[Parameter]:
        """Those of the parts, one part after the other."""
        return [
            replace(parameter, name=f"{name}.{parameter.name}")
            for name, part in self.parts.items()
            for parameter in part.parameters()
        ]

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """Those of the parts; a saved one holds an array for every step."""
        found: dict[str, Buffer] = {}
        sequences = batch // self.steps
        for name, part in self.parts.items():
            assert part.output_shape is not None
            output = Buffer((sequences, *part.output_shape), scratch=not training)
            for key, buffer in {"output": output, **part.buffers(sequences, training)}.items():
                if buffer.scratch:
                    found[f"{name}.{key}"] = buffer
                else:
                    found[f"{name}.steps.{key}"] = replace(buffer, shape=(self.steps, *buffer.shape))
        return found

    def workspace(self, batch: int, training: bool) -> int:
        """The most that a part asks for."""
        return max(part.workspace(batch // self.steps, training) for part in self.parts.values())

    def operations(self) -> float:
        """Those of the parts."""
        return sum(part.operations() for part in self.parts.values())

    def run(self, part: Any, step: int, x: Any, training: bool) -> Any:
        """A part's output for the input of one step; it stays until the part's next step, in training until the end."""
        _turn_to(part, step)
        part.forward(x, training=training)
        return part.output

    def run_backward(
        self, part: Any, step: int, x: Any, grad_output: Any, grad_x: Any, accumulate: bool = False
    ) -> None:
        """Backward through one step of a part, whose input was ``x``; ``grad_x`` may be None."""
        _turn_to(part, step)
        part.x = x
        part.accumulate = (accumulate,)
        part.backward(grad_output, grad_x)


def _turn_to(part: Any, step: int) -> None:
    """Give the part what it keeps for that step."""
    for key, arrays in vars(part.steps).items():
        setattr(part, key, arrays[step])


class HiddenState(RecurrentLayer):
    """A layer with the parts input_layer, self_layer and output_layer, that make of its state h before each step

    ``h' = input_layer(x) + self_layer(h)``, with ``options.shortcut`` plus h itself, and the output
    ``output_layer(h')``. In training every pass begins with h = 0 (Darknet, rnn_layer.c and crnn_layer.c).
    """

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The state, that before and after every step, and gradients of two of them."""
        shape = (batch // self.steps, *self._state_shape())
        found = super().buffers(batch, training)
        found["state"] = Buffer(shape, lasting=True)
        found["states"] = Buffer((self.steps + 1, *shape), scratch=not training)
        if training:
            found["grad_states"] = Buffer((2, *shape), scratch=True, during=("backward",))
        return found

    def _state_shape(self) -> Shape:
        shape = self.parts["self_layer"].output_shape
        assert shape is not None
        return shape

    def forward(self, x: Any, *, training: bool) -> None:
        """Step by step."""
        self.x = x
        backend = self.backend
        if training:
            backend.fill(self.state, 0.0)
        backend.copy(self.state, self.states[0])
        for step in range(self.steps):
            before, after = self.states[step], self.states[step + 1]
            backend.copy(self.run(self.input_layer, step, self.at(x, step), training), after)
            backend.add(self.run(self.self_layer, step, before, training), after)
            if self.options.shortcut:
                backend.add(before, after)
            backend.copy(self.run(self.output_layer, step, after, training), self.at(self.output, step))
        backend.copy(self.states[self.steps], self.state)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """From the last step to the first; the state before the first one gets no gradient."""
        grad_after, grad_before = self.grad_states
        for step in reversed(range(self.steps)):
            is_last, is_first = step == self.steps - 1, step == 0
            ours, theirs = self.at(grad_output, step), None if grad_x is None else self.at(grad_x, step)
            before, after = self.states[step], self.states[step + 1]
            self.run_backward(self.output_layer, step, after, ours, grad_after, accumulate=not is_last)
            self.run_backward(self.self_layer, step, before, grad_after, None if is_first else grad_before)
            self.run_backward(self.input_layer, step, self.at(self.x, step), grad_after, theirs, self.accumulate[0])
            if self.options.shortcut and not is_first:
                self.backend.add(grad_after, grad_before)
            grad_after, grad_before = grad_before, grad_after


class MemoryCell(RecurrentLayer):
    """Long short-term memory: the parts wf wi wg wo see the output h before each step, uf ui ug uo the input x.

    ``c' = f c + i g`` and ``h' = o tanh(c')``, with the gates ``f = logistic(wf(h) + uf(x))``, i and o likewise, and
    ``g = tanh(wg(h) + ug(x))``. If there are parts vf and vi, f and i also see the cell c; o sees c' through vo. With
    a ``limit`` the cell is then held within [-limit, limit]. h and c stay from pass to pass, in training too (Darknet,
    lstm_layer.c and conv_lstm_layer.c).
    """

    limit: float = 0.0

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """What is remembered; gates, cells before and after every step; gradients."""
        assert self.output_shape is not None
        shape = (batch // self.steps, *self.output_shape)
        found = super().buffers(batch, training)
        found |= {"hidden": Buffer(shape, lasting=True), "cell": Buffer(shape, lasting=True)}
        found["first_hidden"] = Buffer(shape, scratch=not training)
        found["gates"] = Buffer((self.steps, 4, *shape), scratch=not training)
        found["cells"] = Buffer((self.steps + 1, *shape), scratch=not training)
        found["product"] = Buffer(shape, scratch=True)
        found["held"] = Buffer(shape, scratch=True)
        if training:
            found["grads"] = Buffer((9, *shape), scratch=True, during=("backward",))
        return found

    def operations(self) -> float:
        """Those of the parts, and nine per output, twelve if the gates see the cell (Darknet's count)."""
        return super().operations() + self.outputs * (12 if "vf" in self.parts else 9)

    def forward(self, x: Any, *, training: bool) -> None:
        """Step by step."""
        self.x = x
        backend = self.backend
        backend.copy(self.hidden, self.first_hidden)
        backend.copy(self.cell, self.cells[0])
        for step in range(self.steps):
            f, i, g, o = self.gates[step]
            cell, after = self._cell_before(step), self.cells[step + 1]
            self._gate("f", step, f, cell, "logistic", training)
            self._gate("i", step, i, cell, "logistic", training)
            self._gate("g", step, g, None, "tanh", training)
            backend.multiply_forward(f, cell, after)
            backend.multiply_forward(i, g, self.product)
            backend.add(self.product, after)
            self._gate("o", step, o, after, "logistic", training)
            backend.activation_forward(after, self.product, "tanh")
            backend.multiply_forward(o, self.product, self.at(self.output, step))
        backend.copy(self.at(self.output, self.steps - 1), self.hidden)
        backend.copy(self._cell_before(self.steps), self.cell)

    def _gate(self, name: str, step: int, gate: Any, cell: Any, activation: str, training: bool) -> None:
        parts, backend = self.parts, self.backend
        backend.copy(self.run(parts[f"w{name}"], step, self._hidden_before(step), training), gate)
        backend.add(self.run(parts[f"u{name}"], step, self.at(self.x, step), training), gate)
        if f"v{name}" in parts:
            backend.add(self.run(parts[f"v{name}"], step, cell, training), gate)
        backend.activation_forward(gate, gate, activation)

    def _hidden_before(self, step: int) -> Any:
        return self.first_hidden if step == 0 else self.at(self.output, step - 1)

    def _cell_before(self, step: int) -> Any:
        """The cell as the step finds it: held within the limit. What is stored is what it was before."""
        if step == 0 or not self.limit:
            return self.cells[step]
        self.backend.copy(self.cells[step], self.held)
        self.backend.clip(self.held, self.limit)
        return self.held

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """From the last step to the first; what was remembered before it gets no gradient."""
        backend = self.backend
        grad_hidden, before_hidden, grad_cell, before_cell, grad_tanh, *grad_gates = self.grads
        for step in reversed(range(self.steps)):
            is_last = step == self.steps - 1
            if is_last:
                backend.copy(self.at(grad_output, step), grad_hidden)
            else:
                backend.add(self.at(grad_output, step), grad_hidden)
            grad_f, grad_i, grad_g, grad_o = grad_gates
            f, i, g, o = self.gates[step]
            backend.activation_forward(self.cells[step + 1], self.product, "tanh")
            backend.multiply_backward(o, self.product, grad_hidden, grad_o, grad_tanh)
            backend.activation_backward(None, self.product, grad_tanh, grad_cell, "tanh", accumulate=not is_last)
            self._gate_backward("o", step, o, grad_o, "logistic", self.cells[step + 1], grad_cell)
            cell = self._cell_before(step)
            backend.multiply_backward(i, g, grad_cell, grad_i, grad_g)
            backend.multiply_backward(f, cell, grad_cell, grad_f, before_cell)
            self._gate_backward("f", step, f, grad_f, "logistic", cell, before_cell)
            self._gate_backward("i", step, i, grad_i, "logistic", cell, before_cell)
            self._gate_backward("g", step, g, grad_g, "tanh", None, None)
            self._parts_backward(step, dict(zip("figo", grad_gates)), grad_x, None if step == 0 else before_hidden)
            self._limit_backward(step, before_cell)
            grad_hidden, before_hidden = before_hidden, grad_hidden
            grad_cell, before_cell = before_cell, grad_cell

    def _gate_backward(
        self, name: str, step: int, gate: Any, grad_gate: Any, activation: str, cell: Any, grad_cell: Any
    ) -> None:
        """Through the gate's activation, in place, and to the cell it sees."""
        self.backend.activation_backward(None, gate, grad_gate, grad_gate, activation)
        if f"v{name}" in self.parts:
            self.run_backward(self.parts[f"v{name}"], step, cell, grad_gate, grad_cell, accumulate=True)

    def _parts_backward(self, step: int, grad_gates: dict[str, Any], grad_x: Any, grad_hidden: Any) -> None:
        x, hidden = self.at(self.x, step), self._hidden_before(step)
        theirs = None if grad_x is None else self.at(grad_x, step)
        for number, (name, grad) in enumerate(grad_gates.items()):
            self.run_backward(self.parts[f"w{name}"], step, hidden, grad, grad_hidden, accumulate=number > 0)
            self.run_backward(self.parts[f"u{name}"], step, x, grad, theirs, self.accumulate[0] or number > 0)

    def _limit_backward(self, step: int, grad_cell: Any) -> None:
        """A cell that was held at the limit gets no gradient."""
        if step and self.limit:
            self.backend.scaled_copy(self.cells[step], self.product, 1.0 / self.limit)
            self.backend.activation_backward(None, self.product, grad_cell, grad_cell, "hardtan")
