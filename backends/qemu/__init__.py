"""QEMU as the machine for Linux on other processors and for boards that unicorn has no core of."""
