/* Weights of 16 bits. */
#ifndef IRSHRINK_HALVES_H
#define IRSHRINK_HALVES_H

#include "irshrink_kernels.h"

/* float32 from the bits of bfloat16, and of a finite float16: 2^112 takes its exponent's bias to float32's. */
IRS_INLINE float irs_half_bfloat16(int32_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

IRS_INLINE float irs_half_float16(int32_t half)
{
#if defined(__ARM_FP16_FORMAT_IEEE) && defined(__ARM_FP) && (__ARM_FP & 2) /* an instruction, the same value */
    uint16_t bits = (uint16_t)half;
    __fp16 value;
    __builtin_memcpy(&value, &bits, 2);
    return (float)value;
#else
    uint32_t bits = ((uint32_t)half & 0x7FFFu) << 13;
    float value;
    __builtin_memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    return half & 0x8000 ? -value : value;
#endif
}

#endif
