/* Weights of 4 and 2 bits. A code is the weight plus half of its range. Byte j of 16 holds weight j in its lowest
 * bits, weight j + 16 in the next ones, and so on: what a mask leaves of a word or vector is one of weights.
 */
#ifndef IRSHRINK_PACKED_H
#define IRSHRINK_PACKED_H

#include "irshrink_kernels.h"

/* Four codes, one a byte, as int8; `offset` is 128 less half of their range in every byte: no byte overflows. */
IRS_INLINE void irs_packed_store(int8_t *to, uint32_t codes, uint32_t offset)
{
    irs_store32(to, (int32_t)((codes + offset) ^ 0x80808080u));
}

/* `bytes` of codes as weights, in whole blocks of 16. */
IRS_NOINLINE void irs_packed_4(void *to, const uint8_t *from, int32_t bytes)
{
    int8_t *out = (int8_t *)to;
#if defined(__ARM_NEON) || defined(__SSE2__)
    typedef uint8_t vector __attribute__((vector_size(16)));
    for (; bytes > 0; bytes -= 16, from += 16, out += 32) {
        vector codes, first, second;
        __builtin_memcpy(&codes, from, 16);
        first = (codes & 15) - 8;
        second = (codes >> 4) - 8;
        __builtin_memcpy(out, &first, 16);
        __builtin_memcpy(out + 16, &second, 16);
    }
#endif
    for (; bytes > 0; bytes -= 16, from += 16, out += 32) {
        for (int32_t i = 0; i < 16; i += 4) {
            uint32_t word = (uint32_t)irs_load32((const int8_t *)from + i);
            irs_packed_store(out + i, word & 0x0F0F0F0Fu, 0x78787878u);
            irs_packed_store(out + i + 16, word >> 4 & 0x0F0F0F0Fu, 0x78787878u);
        }
    }
}

IRS_NOINLINE void irs_packed_2(void *to, const uint8_t *from, int32_t bytes)
{
    int8_t *out = (int8_t *)to;
    for (; bytes > 0; bytes -= 16, from += 16, out += 64) {
        for (int32_t i = 0; i < 16; i += 4) {
            uint32_t word = (uint32_t)irs_load32((const int8_t *)from + i);
            irs_packed_store(out + i, word & 0x03030303u, 0x7E7E7E7Eu);
            irs_packed_store(out + i + 16, word >> 2 & 0x03030303u, 0x7E7E7E7Eu);
            irs_packed_store(out + i + 32, word >> 4 & 0x03030303u, 0x7E7E7E7Eu);
            irs_packed_store(out + i + 48, word >> 6 & 0x03030303u, 0x7E7E7E7Eu);
        }
    }
}

#endif
