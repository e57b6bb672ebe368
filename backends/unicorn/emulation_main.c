/* Firmware for the emulator: start-up code, the model, and this. The emulator starts it, waits until
 * emulation_ready is reached, and from then on calls the model's functions itself. */
#include <stdint.h>

#include "model.h"

/* Read by the emulator. */
__attribute__((used, section(".keep.counts"))) const uint32_t emulation_counts[3] = {
    MODEL_INPUT_COUNT, MODEL_OUTPUT_COUNT, MODEL_ARENA_BYTES};

/* Nothing here calls them, so the linker would drop them. */
__attribute__((used, section(".keep.entries"))) const void *const emulation_entries[5] = {
    (const void *)model_run, (const void *)model_input, (const void *)model_output,
    (const void *)model_input_bytes, (const void *)model_output_bytes};

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
