/* Runs a model on inputs from outside: for each inference the bytes of every input come in, and out go a
 * status, the bytes of stack it took, and the bytes of every output.
 *
 * With MODEL_HAS_TEST and no argument it runs the test vectors of the package instead.
 */
#include "model.h"
#include "port/port.h"

#define GUARD_BYTES 16384
#define GUARD_PAINT 0x5A
#define STACK_PAINT 0xC5A35A3Au

enum { DONE, MODEL_ERROR, ARENA_UNDERRUN, ARENA_OVERRUN, STACK_OVERRUN };

/* The arena between two red zones. */
static uint8_t memory[GUARD_BYTES + MODEL_ARENA_BYTES + GUARD_BYTES] __attribute__((aligned(64)));
static uint8_t *const arena = memory + GUARD_BYTES;

_Static_assert(GUARD_BYTES % MODEL_ARENA_ALIGNMENT == 0, "the arena is aligned");

static inline __attribute__((always_inline)) uint32_t *stack_pointer(void)
{
    uint32_t *sp;
#if defined(__riscv)
    __asm__ volatile("mv %0, sp" : "=r"(sp));
#else
    __asm__ volatile("mov %0, sp" : "=r"(sp));
#endif
    return sp;
}

static void fill(uint8_t *at, uint8_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) at[i] = value;
}

static int intact(const uint8_t *at)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (at[i] != GUARD_PAINT) return 0;
    }
    return 1;
}

/* What runs between the entry of model_run_in and its return to here is counted. */
__attribute__((noinline, used)) int emulation_infer(uint32_t *limit, size_t *stack_bytes)
{
    uint32_t *top = stack_pointer();
    for (volatile uint32_t *p = limit; p < (volatile uint32_t *)top; p++) *p = STACK_PAINT;
    const int status = model_run_in(arena);
    const volatile uint32_t *lowest = limit;
    while (lowest < (const volatile uint32_t *)top && *lowest == STACK_PAINT) lowest++;
    *stack_bytes = (size_t)((const uint8_t *)top - (const uint8_t *)lowest);
    return status;
}

static int load_inputs(void)
{
    for (int i = 0; i < MODEL_INPUT_COUNT; i++) {
        const size_t size = model_input_bytes(i);
        if (port_read(model_input_in(arena, i), size) != size) return 0;
    }
    return 1;
}

static uint32_t infer(uint32_t *stack_bytes)
{
    uint32_t *limit = port_stack_limit(stack_pointer());
    size_t used = 0;
    const int status = emulation_infer(limit, &used);
    *stack_bytes = (uint32_t)used;
    if (status != 0) return MODEL_ERROR;
    if (!intact(memory)) return ARENA_UNDERRUN;
    if (!intact(arena + MODEL_ARENA_BYTES)) return ARENA_OVERRUN;
    return *limit == STACK_PAINT ? DONE : STACK_OVERRUN;
}

static int run_inputs(void)
{
    uint8_t paint = 0xA5;
    for (;;) {
        /* A model that reads what it has not written answers differently from run to run. */
        paint ^= 0xFF;
        fill(memory, GUARD_PAINT, sizeof memory);
        fill(arena, paint, MODEL_ARENA_BYTES);
        if (!load_inputs()) return 0; /* no more */
        uint32_t reply[2];
        reply[0] = infer(&reply[1]);
        port_write(reply, sizeof reply);
        for (int i = 0; i < MODEL_OUTPUT_COUNT; i++) {
            port_write(model_output_in(arena, i), model_output_bytes(i));
        }
    }
}

#if defined(MODEL_HAS_TEST)
int model_test(void);
#endif

int port_main(int arguments)
{
#if defined(MODEL_HAS_TEST)
    if (arguments < 2) return model_test();
#else
    (void)arguments;
#endif
    return run_inputs();
}
