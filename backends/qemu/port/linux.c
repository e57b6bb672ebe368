/* A program for Linux without a C library: its start, and what it asks the kernel for. */
#include "port.h"

#if defined(__aarch64__)
enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT = 94 };
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tb port_start\n");

static long system_call(long number, long a, const void *b, size_t c)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register const void *x1 __asm__("x1") = b;
    register size_t x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#elif defined(__arm__)
enum { SYS_READ = 3, SYS_WRITE = 4, SYS_EXIT = 248 };
__asm__(".globl _start\n_start:\n\tmov r0, sp\n\tb port_start\n");

static long system_call(long number, long a, const void *b, size_t c)
{
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = a;
    register const void *r1 __asm__("r1") = b;
    register size_t r2 __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
}
#elif defined(__riscv)
enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT = 94 };
__asm__(".globl _start\n_start:\n\tmv a0, sp\n\ttail port_start\n");

static long system_call(long number, long a, const void *b, size_t c)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register const void *a1 __asm__("a1") = b;
    register size_t a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}
#else
#error "no start for this processor"
#endif

/* The kernel leaves the number of arguments, the program's name among them, where the stack begins. */
__attribute__((used, noreturn)) void port_start(const long *stack)
{
    port_exit(port_main((int)stack[0]));
}

size_t port_read(void *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        long got = system_call(SYS_READ, 0, (char *)to + done, size - done);
        if (got <= 0) {
            break;
        }
        done += (size_t)got;
    }
    return done;
}

void port_write(const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        long put = system_call(SYS_WRITE, 1, (const char *)from + done, size - done);
        if (put <= 0) {
            port_exit(3);
        }
        done += (size_t)put;
    }
}

void port_print(const char *text)
{
    size_t size = 0;
    while (text[size] != '\0') {
        ++size;
    }
    port_write(text, size);
}

void port_exit(int status)
{
    for (;;) {
        system_call(SYS_EXIT, status, 0, 0);
    }
}

/* The kernel gives a main thread 8 MiB of stack unless told otherwise. */
uint32_t *port_stack_limit(uint32_t *now) { return now - PORT_STACK_BYTES / sizeof *now; }
