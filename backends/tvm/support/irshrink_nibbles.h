/* int8 dot products on Cortex-M with the DSP extension by weights of 4 bits, which are multiplied where they lie in
 * their words: a mask or a sign extension makes a pair of int16 of some of the fields. Fields hold w, or w + 8, which
 * adds 8 times the sum of the inputs; that sum is taken once for all channels. Beside the assembly the same values
 * in C for every other processor.
 */
#ifndef IRSHRINK_NIBBLES_H
#define IRSHRINK_NIBBLES_H

#include "irshrink_dsp.h"

/* Masks of the upper bytes of both halves, of the lower fields of the upper and of the lower bytes. */
#define IRS_NIBBLE_UPPER 0xFF00FF00
#define IRS_NIBBLE_UPPER_LOW 0x0F000F00
#define IRS_NIBBLE_LOWER_LOW 0x000F000F

/* irs_dsp_widen with 256 times the odd bytes. */
IRS_DSP_FUNCTION void irs_nibble_widen(int8_t *to, const int8_t *a, const int8_t *b, const int8_t *c, int32_t words,
                                       int32_t rows, int32_t step)
{
#if IRS_DSP_ASM
    __asm__ volatile(
        "push {r4-r11}\n"
        "ldrd r12, r10, [sp, #32]\n"
        "ldr r11, [sp, #40]\n"
        "sub r11, r11, r12, lsl #2\n"
        "1:\n"
        "ldr r12, [sp, #32]\n"
        "2:\n"
        "ldr r4, [r1], #4\n"
        "ldr r5, [r2], #4\n"
        "ldr r6, [r3], #4\n"
        "and r7, r4, #0xFF00FF00\n"
        "and r8, r5, #0xFF00FF00\n"
        "and r9, r6, #0xFF00FF00\n"
        "sxtb16 r4, r4\n"
        "sxtb16 r5, r5\n"
        "sxtb16 r6, r6\n"
        "stmia r0!, {r4-r9}\n"
        "subs r12, r12, #1\n"
        "bne 2b\n"
        "add r1, r1, r11\n"
        "add r2, r2, r11\n"
        "add r3, r3, r11\n"
        "subs r10, r10, #1\n"
        "bne 1b\n"
        "pop {r4-r11}\n"
        "bx lr\n");
#else
    const int8_t *const from[3] = {a, b, c};
    for (int32_t row = 0; row < rows; ++row) {
        for (int32_t i = 0; i < words; ++i, to += 24) {
            for (int32_t p = 0; p < 3; ++p) {
                int32_t word = irs_load32(from[p] + row * step + 4 * i);
                irs_store32(to + 4 * p, irs_even(word));
                irs_store32(to + 4 * p + 12, (int32_t)((uint32_t)word & IRS_NIBBLE_UPPER));
            }
        }
    }
#endif
}

/* `pairs` pairs of channels of three pixels, `bytes` of widened input from `x` on; results of pixel p at
 * y + p * stride. The stream holds for each pair: 256 * bias a, 4096 * bias b + 256 * bias a; a word a step;
 * multipliers a / 256, b / 4096. */
IRS_DSP_FUNCTION void irs_nibble_tile(const int8_t *x, const int32_t *stream, int8_t *y, int32_t bytes,
                                      int32_t stride, int32_t pairs, int32_t zero_point)
{
#if IRS_DSP_ASM
/* sums of both channels by one operand, of channel a by the other */
#define IRS_NIBBLE_HALF(operand, low)                                                                       \
    "ldmia r0!, {r8, r9, r10}\n" operand                                                                    \
    "smlad r5, r8, r12, r5\n"                                                                               \
    "smlad r6, r9, r12, r6\n"                                                                               \
    "smlad r7, r10, r12, r7\n" low                                                                          \
    "smlad r2, r8, r12, r2\n"                                                                               \
    "smlad r3, r9, r12, r3\n"                                                                               \
    "smlad r4, r10, r12, r4\n"
#define IRS_NIBBLE_STEP                                                                                     \
    "ldr r11, [r1], #4\n"                                                                                   \
    IRS_NIBBLE_HALF("and r12, r11, #0xFF00FF00\n", "and r12, r11, #0x0F000F00\n")                           \
    IRS_NIBBLE_HALF("sxtb16 r12, r11\n", "and r12, r11, #0x000F000F\n")
#define IRS_NIBBLE_SUM                                                                                      \
    "ldmia r0!, {r2, r3, r9, r10, r11, r12}\n"                                                              \
    "smlad r6, r2, r4, r6\n"                                                                                \
    "smlad r7, r3, r4, r7\n"                                                                                \
    "smlad r8, r9, r4, r8\n"                                                                                \
    "smlad r6, r10, r5, r6\n"                                                                               \
    "smlad r7, r11, r5, r7\n"                                                                               \
    "smlad r8, r12, r5, r8\n"
    __asm__ volatile(
        "push {r3-r11, lr}\n"
        "add lr, r0, r3\n"
        "vmov s12, r0\n" /* input: start */
        "ldr r4, [sp, #40]\n"
        "vmov s14, s15, r2, r4\n" /* output: address, stride */
        "ldr r5, [sp, #44]\n"
        "add r5, r2, r5, lsl #1\n"
        "ldr r4, [sp, #48]\n"
        "vmov s10, s11, r4, r5\n" /* zero point, end of the output */
        "mov r4, #0x08000800\n"
        "mov r5, #0x00080008\n"
        "movs r6, #0\n"
        "movs r7, #0\n"
        "mov r8, #0\n"
        "1:\n" IRS_NIBBLE_SUM IRS_NIBBLE_SUM
        "cmp r0, lr\n"
        "bne 1b\n"
        "vmov s8, s9, r6, r7\n" /* 2048 times the sums of the inputs of all pixels */
        "vmov s13, r8\n"
        "1:\n"
        "vmov r0, r10, s12, s13\n"
        "vmov r8, r9, s8, s9\n"
        "ldmia r1!, {r2, r5}\n"
        "ldr r11, [sp]\n"
        "sub r3, r2, r9\n"
        "sub r4, r2, r10\n"
        "subs r2, r2, r8\n"
        "sub r6, r5, r9\n"
        "sub r7, r5, r10\n"
        "subs r5, r5, r8\n"
        "lsls r11, r11, #27\n" /* an odd number of two steps, 48 bytes each */
        "bmi 3f\n"
        "2:\n" IRS_NIBBLE_STEP IRS_NIBBLE_STEP
        "3:\n" IRS_NIBBLE_STEP IRS_NIBBLE_STEP
        "cmp r0, lr\n"
        "bne 2b\n"
        IRS_DSP_PAIR_RESULTS
        "bne 1b\n"
        "pop {r3-r11, pc}\n");
#undef IRS_NIBBLE_SUM
#undef IRS_NIBBLE_STEP
#undef IRS_NIBBLE_HALF
#else
    uint32_t sums[3] = {0};
    for (int32_t i = 0; i < bytes; i += 24) {
        for (int32_t p = 0; p < 3; ++p) {
            sums[p] = (uint32_t)irs_mla_dual(irs_load32(x + i + 4 * p), 0x08000800, (int32_t)sums[p]);
            sums[p] = (uint32_t)irs_mla_dual(irs_load32(x + i + 4 * p + 12), 0x00080008, (int32_t)sums[p]);
        }
    }
    for (; pairs > 0; --pairs, y += 2) {
        const int32_t *w = stream + 2;
        uint32_t a[3], s[3];
        float multiplier[2];
        for (int32_t p = 0; p < 3; ++p) {
            a[p] = (uint32_t)stream[0] - sums[p];
            s[p] = (uint32_t)stream[1] - sums[p];
        }
        for (int32_t i = 0; i < bytes; i += 24, ++w) {
            uint32_t word = (uint32_t)*w;
            for (int32_t p = 0; p < 3; ++p) {
                int32_t even = irs_load32(x + i + 4 * p), odd = irs_load32(x + i + 4 * p + 12);
                s[p] = (uint32_t)irs_mla_dual(even, (int32_t)(word & IRS_NIBBLE_UPPER), (int32_t)s[p]);
                a[p] = (uint32_t)irs_mla_dual(even, (int32_t)(word & IRS_NIBBLE_UPPER_LOW), (int32_t)a[p]);
                s[p] = (uint32_t)irs_mla_dual(odd, irs_even(*w), (int32_t)s[p]);
                a[p] = (uint32_t)irs_mla_dual(odd, (int32_t)(word & IRS_NIBBLE_LOWER_LOW), (int32_t)a[p]);
            }
        }
        __builtin_memcpy(multiplier, w, sizeof multiplier);
        for (int32_t p = 0; p < 3; ++p) {
            y[p * stride] = irs_requantize((int32_t)a[p], multiplier[0], zero_point);
            y[p * stride + 1] = irs_requantize((int32_t)(s[p] - a[p]), multiplier[1], zero_point);
        }
        stream = w + 2;
    }
#endif
}

/* Fours of channels of one row, `bytes` of it from `x` on, in whole loop bodies. The stream holds for each four what
 * sums of a, of a and b, of a and c, of all start from; for each step the words of bytes 0 and 2, of bytes 1 and 3;
 * multipliers a, b / 16, c / 256, d / 4096. */
IRS_DSP_FUNCTION void irs_nibble_fours(const int8_t *x, const int32_t *stream, int8_t *y, int32_t bytes,
                                       int32_t fours, int32_t zero_point)
{
#if IRS_DSP_ASM
#define IRS_NIBBLE_FOUR(x, w)                                                                               \
    "smlad r5, " x ", " w ", r5\n"                                                                          \
    "uxtb16 r10, " w "\n"                                                                                   \
    "smlad r3, " x ", r10, r3\n"                                                                            \
    "and " w ", " w ", #0x0F0F0F0F\n"                                                                       \
    "smlad r4, " x ", " w ", r4\n"                                                                          \
    "uxtb16 " w ", " w "\n"                                                                                 \
    "smlad r2, " x ", " w ", r2\n"
#define IRS_NIBBLE_FOURS                                                                                    \
    "ldr r7, [r0], #4\n"                                                                                    \
    "ldmia r1!, {r8, r9}\n"                                                                                 \
    "sxtb16 r6, r7\n"                                                                                       \
    "sxtb16 r7, r7, ror #8\n" IRS_NIBBLE_FOUR("r6", "r8") IRS_NIBBLE_FOUR("r7", "r9")
#define IRS_NIBBLE_SUM                                                                                      \
    "ldr r6, [r0], #4\n"                                                                                    \
    "sxtb16 r7, r6\n"                                                                                       \
    "sxtb16 r6, r6, ror #8\n"                                                                               \
    "smlad r5, r7, r4, r5\n"                                                                                \
    "smlad r5, r6, r4, r5\n"
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "add r3, r0, r3\n"
        "vmov s12, s13, r0, r3\n" /* input: start, end */
        "ldrd r4, r5, [sp, #36]\n"
        "add r4, r2, r4, lsl #2\n"
        "vmov s14, s15, r4, r5\n" /* end of the output, zero point */
        "mov r12, r2\n"
        "mov r4, #0x00080008\n"
        "movs r5, #0\n"
        "1:\n" IRS_NIBBLE_SUM IRS_NIBBLE_SUM
        "cmp r0, r3\n"
        "bne 1b\n"
        "vmov s8, r5\n" /* 8 times the sum of the inputs */
        "1:\n"
        "vmov r0, lr, s12, s13\n"
        "ldmia r1!, {r2-r5}\n"
        "2:\n" IRS_NIBBLE_FOURS IRS_NIBBLE_FOURS
        "cmp r0, lr\n"
        "bne 2b\n"
        "vldmia r1!, {s4-s7}\n"
        "vmov r6, s8\n"
        "subs r5, r5, r3\n"
        "subs r5, r5, r4\n"
        "adds r5, r5, r2\n"
        "subs r3, r3, r2\n"
        "subs r4, r4, r2\n"
        "subs r2, r2, r6\n"
        "sub r3, r3, r6, lsl #4\n"
        "sub r4, r4, r6, lsl #8\n"
        IRS_DSP_FOUR_RESULTS
        "bne 1b\n"
        "pop {r4-r11, pc}\n");
#undef IRS_NIBBLE_SUM
#undef IRS_NIBBLE_FOURS
#undef IRS_NIBBLE_FOUR
#else
    uint32_t inputs = 0;
    for (int32_t i = 0; i < bytes; ++i) {
        inputs += (uint32_t)(8 * x[i]);
    }
    for (; fours > 0; --fours, y += 4) {
        const int32_t *w = stream + 4;
        uint32_t sums[4];
        float multiplier[4];
        __builtin_memcpy(sums, stream, sizeof sums);
        for (int32_t i = 0; i < bytes; i += 4) {
            int32_t word = irs_load32(x + i), halves[2] = {irs_even(word), irs_odd(word)};
            for (int32_t k = 0; k < 2; ++k, ++w) {
                uint32_t all = (uint32_t)*w, low = all & 0x0F0F0F0Fu, bytes02 = 0x00FF00FFu;
                sums[0] = (uint32_t)irs_mla_dual(halves[k], (int32_t)(low & bytes02), (int32_t)sums[0]);
                sums[1] = (uint32_t)irs_mla_dual(halves[k], (int32_t)(all & bytes02), (int32_t)sums[1]);
                sums[2] = (uint32_t)irs_mla_dual(halves[k], (int32_t)low, (int32_t)sums[2]);
                sums[3] = (uint32_t)irs_mla_dual(halves[k], *w, (int32_t)sums[3]);
            }
        }
        __builtin_memcpy(multiplier, w, sizeof multiplier);
        sums[3] += sums[0] - sums[1] - sums[2];
        sums[1] -= sums[0] + 16 * inputs;
        sums[2] -= sums[0] + 256 * inputs;
        sums[0] -= inputs;
        for (int32_t c = 0; c < 4; ++c) {
            y[c] = irs_requantize((int32_t)sums[c], multiplier[c], zero_point);
        }
        stream = w + 4;
    }
#endif
}

/* Words of eight codes, w + 8, as bytes w: the lower fields of a word, then the upper ones. */
IRS_INLINE void irs_nibble_bytes(int8_t *to, uint32_t codes)
{
    irs_store32(to, (int32_t)(((codes & 0x0F0F0F0Fu) + 0x78787878u) ^ 0x80808080u));
}

IRS_NOINLINE void irs_nibble_taps(int8_t *to, const int32_t *from, int32_t words)
{
    for (; words > 0; --words, to += 8, ++from) {
        irs_nibble_bytes(to, (uint32_t)*from);
        irs_nibble_bytes(to + 4, (uint32_t)*from >> 4);
    }
}

/* irs_dsp_windows and irs_dsp_rows, for irs_nibble_tile. */
IRS_NOINLINE void irs_nibble_windows(int8_t *to, const int8_t *x, const int8_t *outside, const int32_t *window,
                                     int32_t pixel, int32_t next, int32_t pad_top, int32_t height)
{
    irs_dsp_windows_by(irs_nibble_widen, to, x, outside, window, pixel, next, pad_top, height);
}

IRS_NOINLINE void irs_nibble_rows(int8_t *to, const int8_t *x, int8_t *bytes, const int32_t *window, int32_t pixel,
                                  int32_t next, int32_t pad_top, int32_t height)
{
    irs_dsp_rows_by(irs_nibble_widen, to, x, bytes, window, pixel, next, pad_top, height);
}

#endif
