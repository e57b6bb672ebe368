/* Start-up code for any Cortex-M: vector table, FPU, initialized and zeroed variables, main(). */
#include <stdint.h>

#include "semihosting.h"

/* Addresses from the linker script. */
extern uint32_t __stack_top[], __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

int main(void);
void Reset_Handler(void);

static void Fault_Handler(void) {
  semihosting_print("FAIL: the processor took an exception\n");
  semihosting_exit(2);
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    (void *)__stack_top,   (void *)Reset_Handler, (void *)Fault_Handler, (void *)Fault_Handler,
    (void *)Fault_Handler, (void *)Fault_Handler, (void *)Fault_Handler,
};

void Reset_Handler(void) {
#if defined(__ARM_FP)
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to CP10 and CP11, the FPU */
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
  /* volatile: these loops must not become calls of memcpy and memset. */
  volatile uint32_t *to = __data_start;
  for (const uint32_t *from = __data_load; to < __data_end;) *to++ = *from++;
  for (to = __bss_start; to < __bss_end;) *to++ = 0;
  semihosting_exit(main());
}
