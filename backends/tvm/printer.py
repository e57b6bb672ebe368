"""TIR to C that a person can read.

TVM's own C generator writes for its runtime: no const, no static, casts around every load. The kernels here
use a small part of TIR, so a small printer suffices. What it does not know it refuses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm.tirx import ForKind

from irshrink.backends.tvm.tir import FIRST, JOINED, Parameter, TirFunction
from irshrink.errors import InternalError

#: float16 lies in memory as its bits; functions of a support header compute with them.
C_TYPES = {
    "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t",
    "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t", "float32": "float",
    "bool": "int", "void": "void", "float16": "int16_t",
}  # fmt: skip

#: A space that shall stay inside its line.
NO_BREAK = "\N{NO-BREAK SPACE}"

#: C operators of TIR's expression nodes with C's precedence (higher binds tighter).
_BINARY = {
    "Mul": ("*", 10), "Div": ("/", 10), "Mod": ("%", 10), "Add": ("+", 9), "Sub": ("-", 9),
    "LT": ("<", 7), "LE": ("<=", 7), "GT": (">", 7), "GE": (">=", 7), "EQ": ("==", 6), "NE": ("!=", 6),
    "And": ("&&", 2), "Or": ("||", 1), "LShift": ("<<", 8), "RShift": (">>", 8),
    "BitwiseAnd": ("&", 5), "BitwiseXor": ("^", 4), "BitwiseOr": ("|", 3),
}  # fmt: skip
_UNARY, _ATOM, _TERNARY = 11, 12, 0


def print_function(
    function: TirFunction,
    name: str | None = None,
    sizes: Mapping[str, int | float] | None = None,
    *,
    threaded: bool = False,
) -> str:
    """The C text of one kernel: a comment and a static, never inlined definition.

    Args:
        name: its name in C, if not the kernel's own.
        sizes: scalars that are constants inside this function instead of parameters.
        threaded: whether the loops that threads may share run over part ``share`` of ``shares``, two further
            parameters; else they run from 0 to their end.
    """
    given = sizes or {}
    names = [_parameter(p) for p in function.parameters if p.name not in given]
    threaded = threaded and function.shared
    parameters = ", ".join([*names, *(["int32_t share", "int32_t shares"] if threaded else [])])
    printer = _Printer(threaded)
    for p in function.parameters:
        if p.name in given:
            printer.constant(c_type(p.dtype), p.name, given[p.name])
    constants, printer.lines = printer.lines, []
    printer.statement(function.body.body, 1)
    used = set(re.findall(r"\w+", "\n".join(printer.lines)))
    constants = [line for line in constants if line.partition(" = ")[0].split()[-1] in used]
    # a form of a kernel may have no use for what other forms of its family need
    unused = [f"    (void){p.name};" for p in function.parameters if p.name not in {*given, *used}]
    body = "\n".join([*unused, *constants, *printer.lines])
    return f"/* {function.doc} */\nIRS_NOINLINE void {name or function.name}({parameters})\n{{\n{body}\n}}\n"


def c_type(dtype: str) -> str:
    """The C type of a TIR type; vectors (``int32x4``) are types that a support header defines."""
    return C_TYPES.get(dtype, f"irs_{dtype}")


def _parameter(p: Parameter) -> str:
    if not p.pointer:
        return f"{c_type(p.dtype)} {p.name}"
    const, restrict = "const " if p.const else "", "restrict " if p.restrict else ""
    return f"{const}{c_type(p.dtype)} *{restrict}{p.name}"


class _Printer:
    def __init__(self, threaded: bool) -> None:
        self.lines: list[str] = []
        self._names: dict[Any, str] = {}
        self._taken: set[str] = {"share", "shares"} if threaded else set()
        self._threaded = threaded
        self._first: dict[Any, str] = {}  # of the variables of shared loops

    def constant(self, ctype: str, name: str, value: int | float) -> None:
        """``const type name = value;``, for a parameter that is none here."""
        text = c_float(value) if isinstance(value, float) else str(int(value))
        self._emit(1, f"const {ctype} {name} = {text};")

    # statements

    def statement(self, node: Any, depth: int) -> None:
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise InternalError(f"no C for TIR statement {type(node).__name__}")
        method(node, depth)

    def _emit(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def _SeqStmt(self, node: Any, depth: int) -> None:
        for child in node.seq:
            self.statement(child, depth)

    def _DeclBuffer(self, node: Any, depth: int) -> None:
        # a parameter seen as a buffer: it prints under the parameter's name
        self._names[node.buffer] = self._name(node.data)

    def _AllocBuffer(self, node: Any, depth: int) -> None:
        elements = int(node.buffer.shape[0])
        self._emit(depth, f"{c_type(str(node.buffer.dtype))} {self._name(node.buffer)}[{elements}];")

    def _For(self, node: Any, depth: int) -> None:
        if self.expression(node.min) != "0":
            raise InternalError("no C for a loop that does not start at 0")
        var, extent, joined = self._name(node.loop_var), node.extent, "0"
        if _callee(extent) == JOINED:
            _, extent, last = extent.args
            joined = self.expression(last)
        start, end = "0", self.expression(extent, 8)  # as an operand of <
        if node.kind == ForKind.PARALLEL:
            if self._threaded:
                start, end = self._part(depth, var, end, joined)
            self._first[node.loop_var] = start
        self._emit(depth, f"for (int32_t {var} = {start}; {var} < {end}; ++{var}) {{")
        self.statement(node.body, depth + 1)
        self._emit(depth, "}")

    def _part(self, depth: int, var: str, extent: str, joined: str) -> tuple[str, str]:
        """Bind the ends of this thread's part of a loop; their names."""
        names = []
        for suffix, number in (("begin", "share"), ("end", "share + 1")):
            names.append(self._free(f"{var}_{suffix}"))
            part = f"irs_share({extent}, {joined}, {number}, shares)"
            self._emit(depth, f"const int32_t {names[-1]} = {part};")
        return names[0], names[1]

    def _While(self, node: Any, depth: int) -> None:
        self._emit(depth, f"while ({self.expression(node.condition)}) {{")
        self.statement(node.body, depth + 1)
        self._emit(depth, "}")

    def _Bind(self, node: Any, depth: int) -> None:
        value = self.expression(node.value)
        self._emit(depth, f"const {c_type(_dtype(node.var))} {self._name(node.var)} = {value};")

    def _BufferStore(self, node: Any, depth: int) -> None:
        target = self._element(node.buffer, node.indices)
        self._emit(depth, f"{target} = {self.expression(node.value)};")

    def _IfThenElse(self, node: Any, depth: int) -> None:
        self._emit(depth, f"if ({self.expression(node.condition)}) {{")
        self.statement(node.then_case, depth + 1)
        if node.else_case is not None:
            self._emit(depth, "} else {")
            self.statement(node.else_case, depth + 1)
        self._emit(depth, "}")

    def _Evaluate(self, node: Any, depth: int) -> None:
        self._emit(depth, f"{self.expression(node.value)};")

    # expressions

    def expression(self, node: Any, precedence: int = -1) -> str:
        text, own = self._expression(node)
        return f"({text})" if own < precedence else text

    def _expression(self, node: Any) -> tuple[str, int]:
        kind = type(node).__name__
        if kind in _BINARY:
            return self._binary(*_BINARY[kind], node.a, node.b)
        if kind in ("Var", "SizeVar"):
            return self._name(node), _ATOM
        if kind == "IntImm":
            return _integer(int(node.value), _dtype(node))
        if kind == "FloatImm":
            return c_float(float(node.value)), _ATOM
        if kind == "TensorLoad":
            return self._element(node.source, node.indices), _ATOM
        if kind == "Cast":
            return f"({c_type(_dtype(node))}){self.expression(node.value, _UNARY)}", _UNARY
        if kind in ("Min", "Max"):
            name = f"irs_{kind.lower()}_{'f32' if _dtype(node) == 'float32' else 'i32'}"
            return f"{name}({self.expression(node.a)}, {self.expression(node.b)})", _ATOM
        if kind == "Select":
            return self._ternary(node.condition, node.true_value, node.false_value)
        if kind in ("Not", "BitwiseNot"):
            return f"{'!' if kind == 'Not' else '~'}{self.expression(node.a, _UNARY)}", _UNARY
        if kind == "Call":
            return self._call(node)
        raise InternalError(f"no C for TIR expression {kind}")

    def _binary(self, operator: str, own: int, a: Any, b: Any) -> tuple[str, int]:
        # the right operand binds one tighter: a - (b - c) keeps its parentheses
        return f"{self.expression(a, own)} {operator} {self.expression(b, own + 1)}", own

    def _ternary(self, condition: Any, a: Any, b: Any) -> tuple[str, int]:
        test, yes, no = self.expression(condition, 1), self.expression(a, 1), self.expression(b, 0)
        return f"{test} ? {yes} : {no}", _TERNARY

    def _call(self, node: Any) -> tuple[str, int]:
        name = node.op.name
        if name in ("tirx.call_pure_extern", "tirx.call_extern"):
            if _callee(node) == FIRST:
                return f"{self._name(node.args[1])} == {self._first[node.args[1]]}", _BINARY["EQ"][1]
            arguments = ", ".join(self.expression(a) for a in node.args[1:])
            return f"{node.args[0].value}({arguments})", _ATOM
        if name == "tirx.address_of":
            return f"&{self.expression(node.args[0])}", _UNARY
        if name == "tirx.if_then_else":
            return self._ternary(*node.args)
        raise InternalError(f"no C for TIR call {name}")

    def _element(self, buffer: Any, indices: Any) -> str:
        return f"{self._name(buffer)}[{self.expression(indices[0])}]"

    def _name(self, var: Any) -> str:
        if var not in self._names:
            self._names[var] = self._free(var.name)
        return self._names[var]

    def _free(self, wanted: str) -> str:
        """``wanted``, numbered where it is taken; taken from now on."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}{count}"
        self._taken.add(name)
        return name


def _callee(node: Any) -> str:
    """What an external call calls; empty for other expressions."""
    if type(node).__name__ != "Call" or node.op.name not in ("tirx.call_pure_extern", "tirx.call_extern"):
        return ""
    return str(node.args[0].value)


def _dtype(node: Any) -> str:
    return str(node.ty)


def _integer(value: int, dtype: str) -> tuple[str, int]:
    if dtype == "bool":
        return str(int(bool(value))), _ATOM
    if value == -(2**31):
        return "INT32_MIN", _ATOM
    suffix = "u" if dtype.startswith("u") else ""
    return f"{value}{suffix}", (_UNARY if value < 0 else _ATOM)


def c_float(value: float) -> str:
    """The shortest decimal constant that reads back as exactly this float32."""
    if math.isinf(value):
        return "__builtin_inff()" if value > 0 else "-__builtin_inff()"
    if math.isnan(value):
        return '__builtin_nanf("")'
    return f"{np.float32(value)!s}f"
