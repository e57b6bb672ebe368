/* Firmware for the emulator: start-up code, the model, and this. The emulator starts it, waits until
 * emulation_ready is reached, and from then on calls the model's functions itself. */
#include <stdint.h>

/* What the model is called; the default prefix where nobody says. */
#ifndef MODEL_HEADER
#define MODEL_HEADER "model.h"
#define MODEL_VARIANTS(X) X(model, MODEL)
#endif

#include MODEL_HEADER

/* Read by the emulator: of each variant how many inputs and outputs it has, and the size of its arena. */
#define COUNTS(symbol, MACRO) {MACRO##_INPUT_COUNT, MACRO##_OUTPUT_COUNT, MACRO##_ARENA_BYTES},
__attribute__((used, section(".keep.counts"))) const uint32_t emulation_counts[][3] = {MODEL_VARIANTS(COUNTS)};

/* Nothing here calls them, so the linker would drop them. */
#define ENTRIES(symbol, MACRO)                                                                       \
  {(const void *)symbol##_run, (const void *)symbol##_input, (const void *)symbol##_output,           \
   (const void *)symbol##_input_bytes, (const void *)symbol##_output_bytes},
__attribute__((used, section(".keep.entries"))) const void *const emulation_entries[][5] = {
    MODEL_VARIANTS(ENTRIES)};

/* Every call returns to here. */
__attribute__((used, noinline)) void emulation_ready(void) {
  for (;;) {
    __asm__ volatile("nop");
  }
}

int main(void) {
  emulation_ready();
  return 0;
}
