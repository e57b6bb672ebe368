"""What tests of passes and backends need, here and in plug-ins.

Literate tests of passes (:mod:`irshrink.testing.literate`), benches of kernels
(:mod:`irshrink.testing.kernels`), random models (:mod:`irshrink.testing.models`).
"""

from irshrink.testing.literate import Case, check_case, read_cases, updated_text

__all__ = ["Case", "check_case", "read_cases", "updated_text"]
