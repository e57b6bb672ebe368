"""The files around the generated model: start-up code, linker script, test program, CMake and Make files."""
