/* Depthwise 3x3 windows on Cortex-M with the DSP extension: four channels at a time are spread into planes of
 * int16, one a channel, whose words are neighbouring columns. SMLAD then takes two taps of one channel. The same
 * values in C for every other processor.
 */
#ifndef IRSHRINK_PLANES_H
#define IRSHRINK_PLANES_H

#include "irshrink_kernels.h"

#if IRS_DSP_ASM
/* Columns in r6 and r7 of four channels as a pair for each. */
#define IRS_PLANES_SPREAD                                                                                   \
    "sxtb16 r8, r6\n"                                                                                       \
    "sxtb16 r9, r7\n"                                                                                       \
    "sxtb16 r6, r6, ror #8\n"                                                                               \
    "sxtb16 r7, r7, ror #8\n"                                                                               \
    "pkhbt r10, r8, r9, lsl #16\n"                                                                          \
    "pkhtb r9, r9, r8, asr #16\n"                                                                           \
    "pkhbt r8, r6, r7, lsl #16\n"                                                                           \
    "pkhtb r7, r7, r6, asr #16\n"                                                                           \
    "str r9, [r0, r3, lsl #1]\n"                                                                            \
    "str r8, [r0, r3]\n"                                                                                    \
    "str r7, [r0, r12]\n"                                                                                   \
    "str r10, [r0], #4\n"
#endif

/* A row of four channels as a row of pairs in four planes: (outside, first) if edges has 1, `middle` pairs,
 * (last, outside) if edges has 2, edges / 4 pairs outside. */
IRS_DSP_FUNCTION void irs_planes_spread(int8_t *to, const int8_t *x, int32_t channels, int32_t plane,
                                     int32_t middle, int32_t edges, int32_t outside)
{
#if IRS_DSP_ASM
    __asm__ volatile(
        "push {r4-r10}\n"
        "ldrd r4, r5, [sp, #28]\n"
        "add r12, r3, r3, lsl #1\n"
        "lsls r6, r5, #31\n"
        "beq 1f\n"
        "ldr r7, [r1]\n"
        "add r1, r1, r2\n"
        "ldr r6, [sp, #36]\n" IRS_PLANES_SPREAD
        "1:\n"
        "cbz r4, 3f\n"
        "2:\n"
        "ldr r6, [r1]\n"
        "ldr r7, [r1, r2]\n"
        "add r1, r1, r2, lsl #1\n" IRS_PLANES_SPREAD
        "subs r4, r4, #1\n"
        "bne 2b\n"
        "3:\n"
        "lsrs r5, r5, #2\n"
        "ldr r7, [sp, #36]\n"
        "bcc 4f\n"
        "ldr r6, [r1]\n" IRS_PLANES_SPREAD
        "ldr r7, [sp, #36]\n"
        "4:\n"
        "sxtb16 r7, r7\n"
        "cbz r5, 6f\n"
        "5:\n"
        "str r7, [r0, r3, lsl #1]\n"
        "str r7, [r0, r3]\n"
        "str r7, [r0, r12]\n"
        "str r7, [r0], #4\n"
        "subs r5, r5, #1\n"
        "bne 5b\n"
        "6:\n"
        "pop {r4-r10}\n"
        "bx lr\n");
#else
    int32_t left = edges & 1, right = edges >> 1 & 1, width = left + 2 * middle + right;
    int32_t columns = 2 * (left + middle + right + (edges >> 2));
    for (int32_t i = -left; i < columns - left; ++i, to += 2) {
        int32_t word = i >= 0 && i < width ? irs_load32(x + i * channels) : outside;
        for (int32_t c = 0; c < 4; ++c) {
            int16_t value = (int8_t)(word >> (8 * c));
            __builtin_memcpy(to + c * plane, &value, 2);
        }
    }
#endif
}

/* Rows from `row` on, `count` of them, of an image of `height` rows, as planes of four channels. */
IRS_NOINLINE void irs_planes_fill(int8_t *to, const int8_t *x, int32_t row, int32_t count, int32_t height,
                                 int32_t row_bytes, int32_t channels, int32_t plane, int32_t middle,
                                 int32_t edges, int32_t pairs, int32_t outside)
{
    int32_t filler = (int32_t)((uint32_t)(outside & 0xFF) * 0x01010101u);
    for (x += row * row_bytes; count > 0; --count, ++row, x += row_bytes, to += 4 * pairs) {
        int32_t within = (uint32_t)row < (uint32_t)height;
        irs_planes_spread(to, x, channels, plane, within ? middle : 0, within ? edges : 4 * pairs, filler);
    }
}

/* Bytes w0 w1 w2 of a row of taps as the pairs (w0, w1) and (w1, w2). */
#define IRS_PLANES_TAPS(offset, w01, w12)                                                                   \
    "ldr r12, [r4, #" offset "]\n"                                                                          \
    "sxtb16 r5, r12\n"                                                                                      \
    "sxtb16 r12, r12, ror #8\n"                                                                             \
    "pkhbt " w01 ", r5, r12, lsl #16\n"                                                                     \
    "pkhbt " w12 ", r12, r5\n"
/* One row of the windows of two outputs, in r12 and lr, one column apart or two; and of one output. */
#define IRS_PLANES_ROW_1(p, w01, w12)                                                                       \
    "ldrd r4, r5, [" p "], #4\n"                                                                            \
    "smlad r12, r4, " w01 ", r12\n"                                                                         \
    "smlabt r12, r5, " w12 ", r12\n"                                                                        \
    "smlatb lr, r4, " w01 ", lr\n"                                                                          \
    "smlad lr, r5, " w12 ", lr\n"
#define IRS_PLANES_ROW_2(p, w01, w12)                                                                       \
    "ldrd r4, r5, [" p "], #8\n"                                                                            \
    "smlad r12, r4, " w01 ", r12\n"                                                                         \
    "smlabt r12, r5, " w12 ", r12\n"                                                                        \
    "ldr r4, [" p "]\n"                                                                                     \
    "smlad lr, r5, " w01 ", lr\n"                                                                           \
    "smlabt lr, r4, " w12 ", lr\n"
#define IRS_PLANES_ROW_LAST(p, w01, w12)                                                                    \
    "ldrd r4, r5, [" p "]\n"                                                                                \
    "smlad r12, r4, " w01 ", r12\n"                                                                         \
    "smlabt r12, r5, " w12 ", r12\n"
#define IRS_PLANES_ROWS(ROW) ROW("r0", "r6", "r7") ROW("r1", "r8", "r9") ROW("r2", "r10", "r11")

/* 3x3 windows `stride` (1 or 2) columns and rows apart, over planes of four channels: `rows` by `columns`
 * outputs of each, `channels` bytes apart. Rows of a plane are `pitch` bytes. Biases are int32, multipliers
 * float32, weights bytes, of which three behind the last are read, too. */
IRS_DSP_FUNCTION void irs_planes_walk(const int8_t *x, const int32_t *bias, const int32_t *multiplier,
                                      const void *weights, int8_t *y, int32_t rows, int32_t columns,
                                      int32_t channels, int32_t zero_point, int32_t pitch, int32_t plane,
                                      int32_t stride)
{
#if IRS_DSP_ASM
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "sub sp, #24\n"
        "strd r0, r3, [sp]\n"     /* plane, weights */
        "strd r1, r2, [sp, #8]\n" /* biases, multipliers */
        "movs r4, #4\n"
        "str r4, [sp, #20]\n" /* channels left */
        "ldrd r5, r4, [sp, #72]\n"
        "vmov s12, s13, r4, r5\n" /* zero point, bytes of a pixel */
        "ldr r6, [sp, #68]\n"
        "lsrs r6, r6, #1\n"
        "ldr r5, [sp, #88]\n"
        "mul r6, r6, r5\n"
        "lsls r6, r6, #2\n" /* bytes of the outputs in twos */
        "ldr r8, [sp, #80]\n"
        "mul r8, r8, r5\n"
        "sub r7, r8, r6\n"
        "vmov s6, s7, r7, r8\n" /* from the end of a row to the next; from row to row */
        "vmov s5, r6\n"
        "adr.w r4, 3f\n"
        "cmp r5, #1\n"
        "beq 1f\n"
        "adr.w r4, 6f\n"
        "1:\n"
        "orr r4, r4, #1\n"
        "vmov s15, r4\n" /* where the next two outputs begin */
        "1:\n"
        "ldrd r0, r4, [sp]\n"
        IRS_PLANES_TAPS("0", "r6", "r7")
        IRS_PLANES_TAPS("3", "r8", "r9")
        IRS_PLANES_TAPS("6", "r10", "r11")
        "adds r4, r4, #9\n"
        "ldr r5, [sp, #84]\n"
        "add r5, r0, r5\n"
        "strd r5, r4, [sp]\n"
        "ldrd r4, r5, [sp, #8]\n"
        "vldmia r4!, {s8}\n"
        "vldmia r5!, {s10}\n"
        "vmov.f32 s9, s8\n"
        "strd r4, r5, [sp, #8]\n"
        "ldrd r3, r5, [sp, #60]\n"
        "str r5, [sp, #16]\n" /* rows left */
        "adds r4, r3, #1\n"
        "str r4, [sp, #60]\n"
        "ldr r4, [sp, #80]\n"
        "add r1, r0, r4\n"
        "add r2, r1, r4\n"
        "vmov r4, s5\n"
        "add r4, r0, r4\n"
        "vmov s14, r4\n"
        "2:\n"
        "vmov r4, r5, s14, s15\n"
        "cmp r0, r4\n"
        "beq 4f\n"
        "bx r5\n"
        "6:\n"
        "vmov r12, lr, s8, s9\n"
        IRS_PLANES_ROWS(IRS_PLANES_ROW_2)
        "b 7f\n"
        "3:\n"
        "vmov r12, lr, s8, s9\n"
        IRS_PLANES_ROWS(IRS_PLANES_ROW_1)
        "7:\n"
        "vmov s0, s1, r12, lr\n"
        "vcvt.f32.s32 s0, s0\n"
        "vcvt.f32.s32 s1, s1\n"
        "vmul.f32 s0, s0, s10\n"
        "vmul.f32 s1, s1, s10\n"
        "vcvtr.s32.f32 s0, s0\n"
        "vcvtr.s32.f32 s1, s1\n"
        "vmov r4, r5, s12, s13\n"
        "vmov r12, lr, s0, s1\n"
        "qadd r12, r12, r4\n"
        "qadd lr, lr, r4\n"
        "ssat r12, #8, r12\n"
        "ssat lr, #8, lr\n"
        "strb r12, [r3]\n"
        "strb lr, [r3, r5]\n"
        "add r3, r3, r5, lsl #1\n"
        "vmov r4, r5, s14, s15\n"
        "cmp r0, r4\n"
        "beq 4f\n"
        "bx r5\n"
        "4:\n"
        "ldr r4, [sp, #68]\n"
        "lsls r4, r4, #31\n"
        "beq 5f\n"
        "vmov r12, s8\n"
        IRS_PLANES_ROWS(IRS_PLANES_ROW_LAST)
        "vmov s0, r12\n"
        "vcvt.f32.s32 s0, s0\n"
        "vmul.f32 s0, s0, s10\n"
        "vcvtr.s32.f32 s0, s0\n"
        "vmov r4, r5, s12, s13\n"
        "vmov r12, s0\n"
        "qadd r12, r12, r4\n"
        "ssat r12, #8, r12\n"
        "strb r12, [r3]\n"
        "add r3, r3, r5\n"
        "5:\n"
        "vmov r4, r5, s6, s7\n"
        "add r0, r0, r4\n"
        "add r1, r1, r4\n"
        "add r2, r2, r4\n"
        "vmov r4, s14\n"
        "add r4, r4, r5\n"
        "vmov s14, r4\n"
        "ldr r4, [sp, #16]\n"
        "subs r4, r4, #1\n"
        "str r4, [sp, #16]\n"
        "bne 2b\n"
        "ldr r4, [sp, #20]\n"
        "subs r4, r4, #1\n"
        "str r4, [sp, #20]\n"
        "bne 1b\n"
        "add sp, #24\n"
        "pop {r4-r11, pc}\n");
#else
    const int8_t *taps = (const int8_t *)weights;
    for (int32_t c = 0; c < 4; ++c, taps += 9) {
        float m;
        __builtin_memcpy(&m, multiplier + c, sizeof m);
        for (int32_t i = 0; i < rows * columns; ++i) {
            const int8_t *p = x + c * plane + (i / columns * pitch + i % columns * 2) * stride;
            int32_t acc = bias[c];
            for (int32_t k = 0; k < 9; ++k) {
                int16_t value;
                __builtin_memcpy(&value, p + k / 3 * pitch + k % 3 * 2, 2);
                acc += value * taps[k];
            }
            y[i * channels + c] = irs_requantize(acc, m, zero_point);
        }
    }
#endif
}

#endif
