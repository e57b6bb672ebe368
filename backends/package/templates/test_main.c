/* Runs the test vectors through the model and compares every output byte.
 * Prints PASS and returns 0, or says which byte differs and returns 1.
 * Hosted programs print by stdio, bare-metal ones by semihosting. */
#include <stddef.h>
#include <stdint.h>

#include "test_vector.h"

#if defined(MODEL_TEST_PRINT) /* the program around it prints */
void MODEL_TEST_PRINT(const char *text);
static void print(const char *text) { MODEL_TEST_PRINT(text); }
#elif defined(__arm__) && !defined(__linux__)
#include "semihosting.h"
static void print(const char *text) { semihosting_print(text); }
#else
#include <stdio.h>
static void print(const char *text) { fputs(text, stdout); }
#endif

static void print_number(size_t value) {
  char digits[24];
  char *at = digits + sizeof digits - 1;
  *at = '\0';
  do {
    *--at = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  print(at);
}

static void report(const test_variant *model, int output, size_t at, unsigned expected, unsigned got, int vector) {
  print("FAIL: ");
  print(model->name);
  print(" output ");
  print_number((size_t)output);
  print(" byte ");
  print_number(at);
  print(": expected ");
  print_number(expected);
  print(", got ");
  print_number(got);
  print(" (test vector ");
  print_number((size_t)vector);
  print(")\n");
}

static void load_inputs(const test_variant *model, int vector) {
  for (int i = 0; i < model->input_count; i++) {
    const size_t size = model->input_bytes(i);
    uint8_t *to = model->input(i);
    for (size_t k = 0; k < size; k++) to[k] = model->inputs[i][(size_t)vector * size + k];
  }
}

static int check_outputs(const test_variant *model, int vector) {
  for (int i = 0; i < model->output_count; i++) {
    const size_t size = model->output_bytes(i);
    const uint8_t *got = model->output(i);
    const uint8_t *expected = model->outputs[i] + (size_t)vector * size;
    for (size_t k = 0; k < size; k++) {
      if (got[k] == expected[k]) continue;
      report(model, i, k, expected[k], got[k], vector);
      return 1;
    }
  }
  return 0;
}

static int check(const test_variant *model) {
  for (int vector = 0; vector < model->vectors; vector++) {
    load_inputs(model, vector);
    if (model->run() != 0) {
      print("FAIL: ");
      print(model->name);
      print("_run reports an error\n");
      return 1;
    }
    if (check_outputs(model, vector) != 0) return 1;
  }
  return 0;
}

int main(void) {
  for (size_t i = 0; i < sizeof test_variants / sizeof *test_variants; i++) {
    if (check(&test_variants[i]) != 0) return 1;
  }
  print("PASS\n");
  return 0;
}
