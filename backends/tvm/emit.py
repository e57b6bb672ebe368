"""The C sources of a program: header, order of the kernels, the kernels and the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irshrink import __version__
from irshrink.backends.tvm.functions import Functions, remaining, wrap
from irshrink.backends.tvm.images import calls_of
from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.printer import C_TYPES, NO_BREAK, c_float
from irshrink.backends.tvm.striped import StripeText
from irshrink.backends.tvm.threads import most_parts, workspace_step
from irshrink.backends.tvm.tir import Parameter
from irshrink.backends.tvm.weights import Weights
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.program.arena import MemoryPlan
from irshrink.program.ops import Op
from irshrink.program.program import Port, Program
from irshrink.target import Target

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Step:
    """One operator and the call that computes it."""

    op: Op
    call: KernelCall


@dataclass(frozen=True)
class Planned:
    """A program with its stripes, a kernel for each operator, and all addresses."""

    program: Program
    steps: list[Step]
    plan: MemoryPlan


def emit_sources(
    variants: Sequence[Planned], target: Target, title: str, names: Names = DEFAULT_NAMES
) -> dict[str, str | bytes]:
    """Content of every file by its name; all of them belong into one folder.

    Args:
        variants: one program for each of ``names.symbols``; kernels and equal constants are shared.
    """
    weights, functions, prefix = Weights(names), Functions(threaded=target.threads > 1), names.prefix
    made = [
        _variant(variant, symbol, weights, functions, target)
        for variant, symbol in zip(variants, names.symbols, strict=True)
    ]
    headers = functions.headers() + (["stripes"] if any(v.program.stripes for v in variants) else [])
    values = {
        "title": _comment(title),
        "prefix": prefix,
        "macro": prefix.upper(),
        "version": __version__,
        "target": target.name,
        "arena_bytes": max(variant.plan.nbytes for variant in variants),
        "variants": made,
        "stored": sorted({p["ctype"] for v in made for p in v["inputs"] + v["outputs"] if p["scale"]}),
        "headers": headers,
        "threads": target.threads,
    }
    support = ["irshrink_kernels.h", *(f"irshrink_{name}.h" for name in headers)]
    support += ["irshrink_share.h", "irshrink_pool.h"] if target.threads > 1 else []
    return {
        names.header: _render("model.h.j2", values),
        f"{prefix}.c": _render("model.c.j2", values),
        f"{prefix}_kernels.h": functions.text(),
        **({f"{prefix}_threads.c": _render("threads.c.j2", values)} if target.threads > 1 else {}),
        **weights.files(target),
        **{name: (HERE / "support" / name).read_text("utf-8") for name in support},
    }


def _variant(
    variant: Planned, symbol: str, weights: Weights, functions: Functions, target: Target
) -> dict[str, Any]:
    """What the templates say of one program."""
    program, plan = variant.program, variant.plan
    return {
        "symbol": symbol,
        "macro": symbol.upper(),
        "arena_bytes": plan.nbytes,
        "inputs": [_port(p, program, plan, f"{symbol}_input_{i}") for i, p in enumerate(program.inputs)],
        "outputs": [_port(p, program, plan, f"{symbol}_output_{i}") for i, p in enumerate(program.outputs)],
        "steps": _calls(program, variant.steps, plan, weights, functions),
        "parts": [most_parts(step.op, step.call, program, target) for step in variant.steps],
    }


def _comment(text: str) -> str:
    """Names of the user's model inside a C comment: on one line, and unable to end it."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def _calls(
    program: Program, steps: Sequence[Step], plan: MemoryPlan, weights: Weights, functions: Functions
) -> list[dict[str, str]]:
    """One call after the other, or in a stripe in turns."""

    def plain(p: Parameter, argument: Argument, op: Op) -> str:
        return _argument(p, argument, op, program, plan, weights)

    by_name = {step.op.name: step for step in steps}
    stripes = {program.ops[stripe.first].name: stripe for stripe in program.stripes}
    striped = {program.ops[op.index].name for stripe in program.stripes for op in stripe.ops}
    calls = []
    for step in steps:
        if step.op.name in stripes:
            text = StripeText(program, stripes[step.op.name], by_name, plan, functions, plain)
            calls.append({"comment": wrap(_comment(text.comment()), "     * "), "call": text.text()})
        elif step.op.name not in striped:
            calls.append(_call(program, step, plan, weights, functions))
    return calls


def _call(
    program: Program, step: Step, plan: MemoryPlan, weights: Weights, functions: Functions
) -> dict[str, str]:
    op, call = step.op, step.call
    name = functions.name(call)
    lines = []
    images = calls_of(op, program)
    for image in range(images):
        pairs = zip(call.function.parameters, call.arguments, strict=True)
        shares = [(p, _share(a, op, program, image, images)) for p, a in pairs if remaining(call, p)]
        arguments = [_argument(p, a, op, program, plan, weights) for p, a in shares]
        if functions.shared(call):
            arguments = [_of_part(text, a, call) for text, (_, a) in zip(arguments, shares, strict=True)]
            arguments += ["share", "shares"]
        lines.append(wrap(f"    {name}({', '.join(arguments)});", " " * 8))
    shapes = " x ".join("x".join(map(str, program.tensors[n].shape)) for n in op.inputs)
    result = "x".join(map(str, program.tensors[op.output].shape))
    comment = f"{op.name}: {type(op).__name__} {shapes} -> {result}"
    return {"comment": _comment(comment), "call": "\n".join(lines)}


def _of_part(text: str, argument: Argument, call: KernelCall) -> str:
    """An argument of the call for part ``share`` of the operator: each has its own workspace."""
    if not isinstance(argument, Workspace):
        return text
    return f"{text[:-1]} + share * {workspace_step(call)})"


def _share(argument: Argument, op: Op, program: Program, image: int, images: int) -> Argument:
    """An argument of the call for one image: tensors begin at that image."""
    if isinstance(argument, Input):
        step = program.tensors[op.inputs[argument.index]].nbytes // images
    elif isinstance(argument, Output):
        step = program.tensors[op.output].nbytes // images
    else:
        return argument
    return replace(argument, offset=argument.offset + image * step)


def _argument(
    p: Parameter, argument: Argument, op: Op, program: Program, plan: MemoryPlan, weights: Weights
) -> str:
    if isinstance(argument, Constant):
        return weights.name(f"{op.name}_{argument.role}", argument.array)
    if isinstance(argument, bool | int):
        return str(int(argument))
    if isinstance(argument, float):
        return c_float(argument)
    ctype = (f"const{NO_BREAK}" if p.const else "") + C_TYPES[p.dtype]
    if isinstance(argument, Input):
        name = op.inputs[argument.index]
        if name in program.constants:
            array = program.constants[name]
            constant = weights.name(name, array)
            if argument.offset == 0 and str(array.dtype) == p.dtype:
                return constant
            # the offset is in bytes, and kernels that only move elements see other types
            return f"({ctype} *)(const void *)((const uint8_t *){constant} + {argument.offset})"
        return f"AT({ctype},{NO_BREAK}{plan.offset(name) + argument.offset})"
    if isinstance(argument, Output):
        return f"AT({ctype},{NO_BREAK}{plan.offset(op.output) + argument.offset})"
    assert isinstance(argument, Workspace)
    return f"AT({ctype},{NO_BREAK}{plan.offset(f'{op.name}.workspace') + argument.offset})"


def _port(port: Port, program: Program, plan: MemoryPlan, symbol: str) -> dict[str, Any]:
    tensor = program.tensors[port.tensor]
    quantization = tensor.quantization
    return {
        "name": _comment(port.name),
        "symbol": symbol,
        "macro": symbol.upper(),
        "ctype": C_TYPES[tensor.dtype],
        "shape": port.shape,
        "elements": tensor.elements,
        "nbytes": tensor.nbytes,
        "offset": plan.offset(port.tensor),
        "scale": c_float(quantization.scale) if quantization else None,
        "zero_point": quantization.zero_point if quantization else None,
        "classes": [_c_string(name) for name in port.classes],
    }


def _c_string(text: str) -> str:
    """A C string literal of any text: what is not plain ASCII goes in by its UTF-8 bytes."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode("utf-8"))
    return f'"{"".join(plain)}"'


def _render(name: str, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML
    )
    return environment.get_template(name).render(values)
