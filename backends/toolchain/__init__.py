"""C compiler, linker and archiver (Zig's, from PyPI), and the reader of what they make."""
