"""Every built-in backend: the name targets use, and where it lives."""

BUILTIN_BACKENDS: dict[str, str] = {
    "tvm": "irshrink.backends.tvm.backend:TvmBackend",
}
