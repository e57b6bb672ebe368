/* Semihosting: a debugger or an emulator prints text and takes the exit status of a bare-metal program.
 * Only the test program uses it; the model library does not. Without a debugger, `bkpt` faults. */
#ifndef IRSHRINK_SEMIHOSTING_H
#define IRSHRINK_SEMIHOSTING_H

#include <stdint.h>

#define SEMIHOSTING_SYS_WRITE0 0x04
#define SEMIHOSTING_SYS_EXIT_EXTENDED 0x20
#define SEMIHOSTING_APPLICATION_EXIT 0x20026u

static inline int32_t semihosting_call(int32_t operation, const void *argument) {
  register int32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static inline void semihosting_print(const char *text) { semihosting_call(SEMIHOSTING_SYS_WRITE0, text); }

static inline void semihosting_exit(int32_t status) {
  uint32_t block[2] = {SEMIHOSTING_APPLICATION_EXIT, (uint32_t)status};
  semihosting_call(SEMIHOSTING_SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

#endif
