/* Runs a model on inputs from outside: for each inference the number of the variant (16 bits), how many threads
 * it runs on (16 bits) and the bytes of every input come in, and out go a status, the bytes of stack it took,
 * and the bytes of every output.
 *
 * With MODEL_HAS_TEST and no argument it runs the test vectors of the package instead.
 */
#include MODEL_HEADER
#include "port/port.h"

#define GUARD_BYTES 16384
#define GUARD_PAINT 0x5A
#define STACK_PAINT 0xC5A35A3Au

enum { DONE, MODEL_ERROR, ARENA_UNDERRUN, ARENA_OVERRUN, STACK_OVERRUN };

typedef struct {
    int inputs, outputs;
    size_t arena_bytes;
    int (*run_in)(void *arena);
    void *(*input_in)(void *arena, int index);
    void *(*output_in)(void *arena, int index);
    size_t (*input_bytes)(int index);
    size_t (*output_bytes)(int index);
} variant_t;

#define ROW(symbol, MACRO)                                                                                  \
    {MACRO##_INPUT_COUNT, MACRO##_OUTPUT_COUNT, MACRO##_ARENA_BYTES, symbol##_run_in, symbol##_input_in,    \
     symbol##_output_in,  symbol##_input_bytes, symbol##_output_bytes},
static const variant_t variants[] = {MODEL_VARIANTS(ROW)};

/* The arena between two red zones; the upper one begins where the variant's own arena ends. */
#define ALIGNED(symbol, MACRO) _Static_assert(GUARD_BYTES % MACRO##_ARENA_ALIGNMENT == 0, "the arena is aligned");
MODEL_VARIANTS(ALIGNED)
#define ARENA(symbol, MACRO) uint8_t symbol[MACRO##_ARENA_BYTES];
typedef union { MODEL_VARIANTS(ARENA) } arena_t;
static uint8_t memory[GUARD_BYTES + sizeof(arena_t) + GUARD_BYTES] __attribute__((aligned(64)));
static uint8_t *const arena = memory + GUARD_BYTES;

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

/* What runs between the entry of run_in and its return to here is counted. */
__attribute__((noinline, used)) int emulation_infer(const variant_t *model, uint32_t *limit, size_t *stack_bytes)
{
    uint32_t *top = stack_pointer();
    for (volatile uint32_t *p = limit; p < (volatile uint32_t *)top; p++) *p = STACK_PAINT;
    const int status = model->run_in(arena);
    const volatile uint32_t *lowest = limit;
    while (lowest < (const volatile uint32_t *)top && *lowest == STACK_PAINT) lowest++;
    *stack_bytes = (size_t)((const uint8_t *)top - (const uint8_t *)lowest);
    return status;
}

/* The variant that comes next, NULL at the end of the input. */
static const variant_t *next_variant(void)
{
    uint16_t next[2];
    if (port_read(next, sizeof next) != sizeof next) return NULL;
#if defined(MODEL_THREADS)
    if (MODEL_THREADS(next[1]) != next[1]) port_exit(5);
#endif
    return next[0] < sizeof variants / sizeof *variants ? &variants[next[0]] : NULL;
}

static int load_inputs(const variant_t *model)
{
    for (int i = 0; i < model->inputs; i++) {
        const size_t size = model->input_bytes(i);
        if (port_read(model->input_in(arena, i), size) != size) return 0;
    }
    return 1;
}

static uint32_t infer(const variant_t *model, uint32_t *stack_bytes)
{
    uint32_t *limit = port_stack_limit(stack_pointer());
    size_t used = 0;
    const int status = emulation_infer(model, limit, &used);
    *stack_bytes = (uint32_t)used;
    if (status != 0) return MODEL_ERROR;
    if (!intact(memory)) return ARENA_UNDERRUN;
    if (!intact(arena + model->arena_bytes)) return ARENA_OVERRUN;
    return *limit == STACK_PAINT ? DONE : STACK_OVERRUN;
}

static int run_inputs(void)
{
    uint8_t paint = 0xA5;
    for (const variant_t *model; (model = next_variant()) != NULL;) {
        /* A model that reads what it has not written answers differently from run to run. */
        paint ^= 0xFF;
        fill(memory, GUARD_PAINT, sizeof memory);
        fill(arena, paint, model->arena_bytes);
        if (!load_inputs(model)) return 4;
        uint32_t reply[2];
        reply[0] = infer(model, &reply[1]);
        port_write(reply, sizeof reply);
        for (int i = 0; i < model->outputs; i++) {
            port_write(model->output_in(arena, i), model->output_bytes(i));
        }
    }
    return 0;
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
