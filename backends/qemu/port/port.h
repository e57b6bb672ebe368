/* What the program around a model needs from where it runs. */
#ifndef IRSHRINK_PORT_H
#define IRSHRINK_PORT_H

#include <stddef.h>
#include <stdint.h>

/* How much of the stack is painted to see how much a model takes. */
#define PORT_STACK_BYTES ((size_t)1 << 20)

int port_main(int arguments); /* the program; its result is the exit status */

size_t port_read(void *to, size_t size); /* from the input; less than size only at its end */
void port_write(const void *from, size_t size);
void port_print(const char *text);
void port_exit(int status) __attribute__((noreturn));
uint32_t *port_stack_limit(uint32_t *now); /* the lowest address that may be painted */

#endif
