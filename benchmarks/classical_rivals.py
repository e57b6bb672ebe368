"""C by other generators, put into a package of ours in place of the model, to be built and counted alike."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Declarations only: the toolchain's run-time library has the functions.
HEADERS = {
    "string.h": "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n"
    "void *memset(void *, int, size_t);\nint strcmp(const char *, const char *);\n",
    "math.h": """#pragma once
double exp(double);
float expf(float); float fabsf(float); float sqrtf(float); float logf(float); float powf(float, float);
float fmaxf(float, float);
static inline float tanhf(float x) { return x; } /* named, but not called by a network with relu */
double pow(double, double);
#define M_PI 3.14159265358979323846
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
""",
    "stdio.h": "",
    "stdlib.h": "#include <stddef.h>\n",
    "assert.h": "#define assert(x) ((void)0)\n",
}
LABEL = "for (int i = 1; i < 10; ++i) { if (scores[i] > scores[*label]) { *label = i; } }"

#: A generator's files by name, and the body that fills ``scores`` [10] and ``label`` from ``x`` [64].
Converted = tuple[dict[str, str], str]


class NotTakenError(Exception):
    """A generator that cannot be measured on a model; the message says why, and is printed."""


def m2cgen(model: Any, folder: Path) -> Converted:
    """Trees as nested ifs, in double."""
    import m2cgen as generator

    if hasattr(model, "support_vectors_"):
        raise NotTakenError("one expression of 2 MB, on which Clang was stopped after 8 minutes")
    body = "double in[64], out[10]; for (int i = 0; i < 64; ++i) { in[i] = x[i]; } score(in, out);"
    fill = "for (int i = 0; i < 10; ++i) { scores[i] = (float)out[i]; } *label = 0;"
    return {"rival.h": generator.export_to_c(model)}, f"{body} {fill} {LABEL}"


def emlearn_inline(model: Any, folder: Path) -> Converted:
    """Trees as nested ifs on int16."""
    return _emlearn(model, folder, "inline")


def emlearn_loadable(model: Any, folder: Path) -> Converted:
    """Trees as arrays of nodes on int16; networks in float32."""
    return _emlearn(model, folder, "loadable")


def _emlearn(model: Any, folder: Path, method: str) -> Converted:
    import emlearn as generator

    trees = not hasattr(model, "coefs_")
    if not trees and method == "inline":
        raise NotTakenError("its networks have one form")
    generator.convert(model, method=method).save(file=str(folder / "rival.h"), name="em")
    files = {path.name: path.read_text("utf-8") for path in Path(generator.__file__).parent.glob("*.h")}
    files["rival.h"] = (folder / "rival.h").read_text("utf-8")
    if not trees:
        return files, f"eml_net_predict_proba(&em, x, 64, scores, 10); *label = 0; {LABEL}"
    convert = "int16_t in[64]; for (int i = 0; i < 64; ++i) { in[i] = (int16_t)x[i]; }"
    return files, f"{convert} *label = em_predict(in, 64); em_predict_proba(in, 64, scores, 10);"


RIVALS: dict[str, Callable[[Any, Path], Converted]] = {
    "m2cgen": m2cgen,
    "emlearn inline": emlearn_inline,
    "emlearn loadable": emlearn_loadable,
}


def rival_package(
    by: str,
    convert: Callable[[Any, Path], Converted],
    model: Any,
    build: Path,
    out: Path,
    places: tuple[int, int],
) -> Path | None:
    """Our package with another model inside; None where the generator does not take it.

    Args:
        places: numbers of the outputs that are the class and its scores.
    """
    shutil.copytree(build, out)
    last = model[-1] if hasattr(model, "steps") else model
    try:
        with np.errstate():  # emlearn turns NumPy's warnings into errors for the whole process
            files, body = convert(last, out)
    except Exception as e:  # whatever a generator says when it does not know a model
        print(f"  {by}: {type(e).__name__}: {str(e).splitlines()[0][:90]}")
        return None
    source = out / "src"
    for name, text in {**HEADERS, **files}.items():
        (source / name).write_text(text, "utf-8")
    call = (
        "    const float *x = model_input_in(arena, 0);\n"
        f"    int32_t *label = model_output_in(arena, {places[0]});\n"
        f"    float *scores = model_output_in(arena, {places[1]});\n    {body}\n    return 0;\n"
    )
    text = (source / "model.c").read_text("utf-8")
    text = re.sub(
        r"(int model_run_in\(void \*arena\)\n\{\n).*?\n\}", rf"\g<1>{call}}}", text, count=1, flags=re.S
    )
    text = text.replace(
        '#include "model.h"',
        '#include "model.h"\n#include <math.h>\n#include <string.h>\n#include "rival.h"',
        1,
    )
    (source / "model.c").write_text(text, "utf-8")
    return out
