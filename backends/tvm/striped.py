"""C for operators that take turns: a loop over the turns, and in it every operator's next rows.

The loop makes the decisions of :mod:`irshrink.program.stripes` again, from the rows that are done: that is
less code than a table of calls, let alone the calls written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irshrink.backends.tvm.functions import Functions, remaining, wrap
from irshrink.backends.tvm.images import calls_of
from irshrink.backends.tvm.kernels.call import Argument, Input, KernelCall, Output, RowCall
from irshrink.backends.tvm.printer import C_TYPES, NO_BREAK
from irshrink.backends.tvm.tir import Parameter
from irshrink.program.arena import MemoryPlan
from irshrink.program.ops import Op, Reshape
from irshrink.program.program import Program
from irshrink.program.stripes import RowOp, Stripe

if TYPE_CHECKING:
    from irshrink.backends.tvm.emit import Step

#: An argument as C: of a parameter, of an operator.
Plain = Callable[[Parameter, Argument, Op], str]


def call_order(program: Program) -> list[str]:
    """Names of the operators in the order of the calls that the generated code makes."""
    stripes = {stripe.first: stripe for stripe in program.stripes}
    names: list[str] = []
    index = 0
    while index < len(program.ops):
        op, stripe = program.ops[index], stripes.get(index)
        if stripe is not None:
            names += [program.ops[event.index].name for event in stripe.events]
        elif not isinstance(op, Reshape):
            names += [op.name] * calls_of(op, program)
        index = stripe.last + 1 if stripe is not None else index + 1
    return names


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


@dataclass(frozen=True)
class StripeText:
    """The C of one stripe."""

    program: Program
    stripe: Stripe
    steps: Mapping[str, Step]
    plan: MemoryPlan
    functions: Functions
    plain: Plain

    def comment(self) -> str:
        """Who takes turns, and what is kept between them."""
        rows = f"{self.stripe.rows} row{'s' if self.stripe.rows > 1 else ''}"
        names = ", ".join(self.program.ops[op.index].name for op in self.stripe.ops)
        kept = ", ".join(f"{n} of {name}" for name, n in self.stripe.windows.items())
        return f"In turns, {rows} each: {names}. Rows that are kept: {kept}"

    def text(self) -> str:
        """A block of statements."""
        ops = self.stripe.ops
        done = ", ".join(f"done{op.index} = 0" for op in ops)
        moving = [op for op in ops if self._moves(op)]
        lines = ["    {", "        int32_t rows;", wrap(f"        int32_t {done};", " " * 12)]
        if moving:
            based = ", ".join(f"base{op.index} = 0" for op in moving)
            lines += ["        int32_t first;", wrap(f"        int32_t {based};", " " * 12)]
        lines += [f"        for (int32_t turn = 0; turn < {self.stripe.turns}; ++turn) {{"]
        for op in ops:
            lines += self._turn(op)
        return "\n".join([*lines, "        }", "    }"])

    def _turn(self, op: RowOp) -> list[str]:
        done, most = f"done{op.index}", self.stripe.rows
        move = self._move(op) if self._moves(op) else []
        return [
            f"            /* {self._label(op)} */",
            wrap(f"            rows = irs_min_i32({most}, {self._ready(op)} - {done});", " " * 20),
            "            if (rows > 0) {",
            *move,
            self._call(op),
            f"                {done} += rows;",
            "            }",
        ]

    def _label(self, op: RowOp) -> str:
        return " ".join(self.program.ops[op.index].name.replace("*/", "* /").replace("/*", "/ *").split())

    def _ready(self, op: RowOp) -> str:
        """Output rows that the inputs allow."""
        text = str(op.out_rows)
        for name, reach in op.inputs:
            maker = self._maker(name)
            if maker is not None:
                sizes = (maker.out_rows, op.out_rows, reach.span - reach.top, reach.stride)
                one = f"irs_rows_ready(done{maker.index}, {', '.join(map(str, sizes))})"
                text = one if text == str(op.out_rows) else f"irs_min_i32({text}, {one})"
        return text

    def _move(self, op: RowOp) -> list[str]:
        """The rows that are still needed go to the start of the window when it is full."""
        done, base, row = f"done{op.index}", f"base{op.index}", op.row_bytes
        at = self.plan.offset(op.output)
        to = f"AT(int8_t,{NO_BREAK}{at})"
        source = f"AT(int8_t,{NO_BREAK}{at} + (first - {base}) * {row})"
        first = done
        for reader in self.stripe.ops:
            for name, reach in reader.inputs:
                if name == op.output:
                    sizes = f"{reach.stride}, {reach.top}, {reach.remembered}"
                    first = f"irs_min_i32({first}, irs_rows_first(done{reader.index}, {sizes}))"
        inside = " " * 24
        return [
            f"                if ({done} + rows - {base} > {self.stripe.windows[op.output]}) {{",
            wrap(f"                    first = {first};", inside),
            wrap(f"                    irs_copy({to}, {source}, ({done} - first) * {row});", inside),
            f"                    {base} = first;",
            "                }",
        ]

    def _call(self, row_op: RowOp) -> str:
        step = self.steps[self.program.ops[row_op.index].name]
        call = step.call
        pairs = zip(call.function.parameters, call.arguments, strict=True)
        arguments = [self._argument(row_op, call, p, a) for p, a in pairs if remaining(call, p)]
        name = self.functions.name(call)
        return wrap(f"                {name}({', '.join(arguments)});", " " * 20)

    def _argument(self, row_op: RowOp, call: KernelCall, p: Parameter, argument: Argument) -> str:
        op, rows = self.program.ops[row_op.index], call.rows
        assert rows is not None
        if isinstance(argument, Input) and op.inputs[argument.index] not in self.program.constants:
            return self._input(row_op, rows, p, argument)
        if isinstance(argument, Output):
            done = self._after(f"done{row_op.index}", self._base(op.output), row_op.row_bytes)
            return self._at(p, self.plan.offset(op.output) + argument.offset, done)
        varying = self._varying(row_op, rows).get(p.name)
        return self.plain(p, argument, op) if varying is None else varying.format(argument)

    def _varying(self, row_op: RowOp, rows: RowCall) -> dict[str, str]:
        """Parameters that depend on the rows; ``{}`` stands for their value for the whole image."""
        name, done = self.program.ops[row_op.index].inputs[0], f"done{row_op.index}"
        tensor = self.program.tensors[row_op.output]
        reach, width, itemsize = rows.reaches[0], tensor.shape[2], tensor.nbytes // tensor.elements
        base = self._base(name)
        values = {
            rows.pixels: f"rows * {width}",
            rows.elements: f"rows * {row_op.row_bytes // itemsize}",
            rows.out_rows: "rows",
            rows.in_rows: "{}" if base is None else "{} - " + base,
            rows.pad_top: f"{{}} - {_times(done, reach.stride)}" + ("" if base is None else f" + {base}"),
            "ring_row": _times(done, reach.stride),
            "remembered": f"{done} > 0 ? {reach.remembered} : 0",
        }
        return {key: values[key] for key in rows.names}

    def _input(self, row_op: RowOp, rows: RowCall, p: Parameter, argument: Input) -> str:
        op = self.program.ops[row_op.index]
        name, reach = op.inputs[argument.index], rows.reaches[argument.index]
        start = self.plan.offset(name) + argument.offset
        if argument.index == 0 and rows.pad_top is not None:
            return self._at(p, start, "")
        tensor = self.program.tensors[name]
        done = _times(f"done{row_op.index}", reach.stride)
        return self._at(p, start, self._after(done, self._base(name), tensor.nbytes // tensor.shape[1]))

    def _at(self, p: Parameter, start: int, more: str) -> str:
        ctype = (f"const{NO_BREAK}" if p.const else "") + C_TYPES[p.dtype]
        return f"AT({ctype},{NO_BREAK}{start}{more})"

    def _after(self, row: str, base: str | None, row_bytes: int) -> str:
        """The bytes from the start of a tensor's memory to a row."""
        return f" + ({row if base is None else f'{row} - {base}'}) * {row_bytes}"

    def _maker(self, name: str) -> RowOp | None:
        return next((op for op in self.stripe.ops if op.output == name), None)

    def _moves(self, op: RowOp) -> bool:
        return self.stripe.windows.get(op.output, op.out_rows) < op.out_rows

    def _base(self, name: str) -> str | None:
        """The variable that holds the first row in memory, None where that is row 0 always."""
        maker = self._maker(name)
        return f"base{maker.index}" if maker is not None and self._moves(maker) else None
