/* What a team of threads takes of a C library, for a program without one: threads that share everything with
 * the program, with a stack of their own and no thread-local storage. */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_THREADS 64
#define STACK_BYTES 65536

enum { FUTEX_WAIT = 0 };
/* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: what makes a thread; CHILD_CLEARTID: its word becomes 0 at the end. */
enum { CLONE_FLAGS = 0x50F00 | 0x200000 };

typedef struct {
    _Alignas(16) uint8_t stack[STACK_BYTES];
    _Atomic uint32_t alive;
    int used;
} thread;

static thread threads[MOST_THREADS];

/* clone(): the new thread begins with {function, argument} on its stack and ends when the function returns. */
long port_clone(long flags, void *stack, void *parent_word, void *storage, void *child_word);

#if defined(__aarch64__)
__asm__(".globl port_clone\n.type port_clone, %function\nport_clone:\n"
        "\tmov x8, #220\n\tsvc 0\n\tcbz x0, 1f\n\tret\n"
        "1:\tldp x1, x0, [sp], #16\n\tblr x1\n\tmov x0, #0\n\tmov x8, #93\n\tsvc 0\n");
static long port_call(long number, const long *values)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = values[0];
    register long x1 __asm__("x1") = values[1];
    register long x2 __asm__("x2") = values[2];
    register long x3 __asm__("x3") = values[3];
    register long x4 __asm__("x4") = values[4];
    register long x5 __asm__("x5") = values[5];
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#elif defined(__arm__)
__asm__(".arm\n.globl port_clone\n.type port_clone, %function\nport_clone:\n"
        "\tpush {r4, r7}\n\tldr r4, [sp, #8]\n\tmov r7, #120\n\tsvc 0\n\tcmp r0, #0\n\tbeq 1f\n"
        "\tpop {r4, r7}\n\tbx lr\n"
        "1:\tpop {r1, r2}\n\tmov r0, r2\n\tblx r1\n\tmov r0, #0\n\tmov r7, #1\n\tsvc 0\n");
static long port_call(long number, const long *values)
{
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = values[0];
    register long r1 __asm__("r1") = values[1];
    register long r2 __asm__("r2") = values[2];
    register long r3 __asm__("r3") = values[3];
    register long r4 __asm__("r4") = values[4];
    register long r5 __asm__("r5") = values[5];
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
#elif defined(__riscv) && __riscv_xlen == 64
__asm__(".globl port_clone\n.type port_clone, %function\nport_clone:\n"
        "\tli a7, 220\n\tecall\n\tbeqz a0, 1f\n\tret\n"
        "1:\tld a1, 0(sp)\n\tld a0, 8(sp)\n\tjalr a1\n\tli a0, 0\n\tli a7, 93\n\tecall\n");
static long port_call(long number, const long *values)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = values[0];
    register long a1 __asm__("a1") = values[1];
    register long a2 __asm__("a2") = values[2];
    register long a3 __asm__("a3") = values[3];
    register long a4 __asm__("a4") = values[4];
    register long a5 __asm__("a5") = values[5];
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#else
#error "no threads for this processor"
#endif

long syscall(long number, ...)
{
    long values[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; ++i) values[i] = va_arg(rest, long);
    va_end(rest);
    return port_call(number, values);
}

int pthread_create(pthread_t *restrict id, const pthread_attr_t *restrict attributes, void *(*work)(void *),
                   void *restrict argument)
{
    (void)attributes;
    for (int i = 0; i < MOST_THREADS; ++i) {
        thread *t = &threads[i];
        if (t->used) continue;
        void **top = (void **)(void *)(t->stack + STACK_BYTES) - 2;
        top[0] = (void *)(uintptr_t)work;
        top[1] = argument;
        t->used = 1;
        atomic_store(&t->alive, 1);
        *id = (pthread_t)(uintptr_t)t;
        if (port_clone(CLONE_FLAGS, top, NULL, NULL, (void *)&t->alive) > 0) return 0;
        t->used = 0;
        return 11; /* EAGAIN */
    }
    return 11;
}

int pthread_join(pthread_t id, void **result)
{
    thread *t = (thread *)(uintptr_t)id;
    while (atomic_load(&t->alive) != 0) syscall(SYS_futex, &t->alive, FUTEX_WAIT, 1, NULL, NULL, 0);
    t->used = 0;
    if (result != NULL) *result = NULL;
    return 0;
}
