/* A Cortex-M program on an emulated board: its start, and files of the host by semihosting. */
#include "port.h"
#include "semihosting.h"

#define SYS_OPEN 0x01
#define SYS_WRITE 0x05
#define SYS_READ 0x06

extern uint32_t __stack_limit[]; /* from the linker script */

static int32_t input, output;

static int32_t open_file(const char *name, uintptr_t length, uintptr_t mode)
{
    const uintptr_t block[3] = {(uintptr_t)name, mode, length};
    return semihosting_call(SYS_OPEN, block);
}

int main(void)
{
    input = open_file("inputs", 6, 1);   /* rb */
    output = open_file("outputs", 7, 5); /* wb */
    return input < 0 || output < 0 ? 3 : port_main(2);
}

/* Reading and writing return how many bytes are left. */
size_t port_read(void *to, size_t size)
{
    const uintptr_t block[3] = {(uintptr_t)input, (uintptr_t)to, size};
    return size - (size_t)semihosting_call(SYS_READ, block);
}

void port_write(const void *from, size_t size)
{
    const uintptr_t block[3] = {(uintptr_t)output, (uintptr_t)from, size};
    if (semihosting_call(SYS_WRITE, block) != 0) {
        semihosting_exit(3);
    }
}

void port_print(const char *text) { semihosting_print(text); }

void port_exit(int status)
{
    semihosting_exit(status);
    for (;;) {
    }
}

uint32_t *port_stack_limit(uint32_t *now)
{
    (void)now;
    return __stack_limit;
}
