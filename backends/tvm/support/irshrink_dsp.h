/* int8 dot products on Cortex-M with the DSP extension: whole inner loops in assembly, so that no compiler
 * spills, and the same values in C for every other processor.
 *
 * Activations are widened once to pairs of int16, because many output channels read them. Weights stay bytes:
 * a word holds two of channel A and two of channel B, `(B1 A1 B0 A0)`, and counts as the pair of int16
 * `256 * B + A`. One SMLAD by the word as it is sums 256 * b + a, one by its sign-extended low bytes sums a;
 * the difference is 256 * b, modulo 2^32 and thus exact below 2^23. So one SXTB16 serves two channels, and the
 * factor of 256 goes into channel B's multiplier.
 *
 * A stream holds for each pair of channels: bias a, 256 * bias b + bias a, the words, multiplier a,
 * multiplier b / 256. Steps are 4 bytes of the input: the words of bytes 0 and 2, and of bytes 1 and 3.
 */
#ifndef IRSHRINK_DSP_H
#define IRSHRINK_DSP_H

#include "irshrink_kernels.h"

#if IRS_DSP_ASM
/* Six sums, of a in r2 to r4 and of a and b in r5 to r7, to bytes; whether those were the last channels. */
#define IRS_DSP_PAIR_RESULTS                                                                                \
    "vldmia r1!, {s6, s7}\n"                                                                                \
    "subs r5, r5, r2\n"                                                                                     \
    "subs r6, r6, r3\n"                                                                                     \
    "subs r7, r7, r4\n"                                                                                     \
    "vmov s0, s1, r2, r5\n"                                                                                 \
    "vmov s2, s3, r3, r6\n"                                                                                 \
    "vmov s4, s5, r4, r7\n"                                                                                 \
    "vcvt.f32.s32 s0, s0\n" "vcvt.f32.s32 s1, s1\n"                                                         \
    "vcvt.f32.s32 s2, s2\n" "vcvt.f32.s32 s3, s3\n"                                                         \
    "vcvt.f32.s32 s4, s4\n" "vcvt.f32.s32 s5, s5\n"                                                         \
    "vmul.f32 s0, s0, s6\n" "vmul.f32 s1, s1, s7\n"                                                         \
    "vmul.f32 s2, s2, s6\n" "vmul.f32 s3, s3, s7\n"                                                         \
    "vmul.f32 s4, s4, s6\n" "vmul.f32 s5, s5, s7\n"                                                         \
    "vcvtr.s32.f32 s0, s0\n" "vcvtr.s32.f32 s1, s1\n"                                                       \
    "vcvtr.s32.f32 s2, s2\n" "vcvtr.s32.f32 s3, s3\n"                                                       \
    "vcvtr.s32.f32 s4, s4\n" "vcvtr.s32.f32 s5, s5\n"                                                       \
    "vmov r2, r5, s0, s1\n"                                                                                 \
    "vmov r3, r6, s2, s3\n"                                                                                 \
    "vmov r4, r7, s4, s5\n"                                                                                 \
    "vmov r10, r11, s10, s11\n"                                                                             \
    "vmov r8, r9, s14, s15\n"                                                                               \
    "qadd r2, r2, r10\n" "qadd r3, r3, r10\n"                                                               \
    "qadd r4, r4, r10\n" "qadd r5, r5, r10\n"                                                               \
    "qadd r6, r6, r10\n" "qadd r7, r7, r10\n"                                                               \
    "ssat r2, #8, r2\n" "ssat r3, #8, r3\n"                                                                 \
    "ssat r4, #8, r4\n" "ssat r5, #8, r5\n"                                                                 \
    "ssat r6, #8, r6\n" "ssat r7, #8, r7\n"                                                                 \
    "add r12, r8, r9, lsl #1\n"                                                                             \
    "strb r4, [r12]\n"                                                                                      \
    "strb r7, [r12, #1]\n"                                                                                  \
    "add r9, r8, r9\n"                                                                                      \
    "strb r3, [r9]\n"                                                                                       \
    "strb r6, [r9, #1]\n"                                                                                   \
    "strb r2, [r8], #1\n"                                                                                   \
    "strb r5, [r8], #1\n"                                                                                   \
    "vmov s14, r8\n"                                                                                        \
    "cmp r8, r11\n"
/* Four sums in r2 to r5 by the multipliers in s4 to s7 to bytes; whether those were the last channels. */
#define IRS_DSP_FOUR_RESULTS                                                                                \
    "vmov s0, s1, r2, r3\n"                                                                                 \
    "vmov s2, s3, r4, r5\n"                                                                                 \
    "vcvt.f32.s32 s0, s0\n"                                                                                 \
    "vcvt.f32.s32 s1, s1\n"                                                                                 \
    "vcvt.f32.s32 s2, s2\n"                                                                                 \
    "vcvt.f32.s32 s3, s3\n"                                                                                 \
    "vmul.f32 s0, s0, s4\n"                                                                                 \
    "vmul.f32 s1, s1, s5\n"                                                                                 \
    "vmul.f32 s2, s2, s6\n"                                                                                 \
    "vmul.f32 s3, s3, s7\n"                                                                                 \
    "vcvtr.s32.f32 s0, s0\n"                                                                                \
    "vcvtr.s32.f32 s1, s1\n"                                                                                \
    "vcvtr.s32.f32 s2, s2\n"                                                                                \
    "vcvtr.s32.f32 s3, s3\n"                                                                                \
    "vmov r6, r7, s14, s15\n"                                                                               \
    "vmov r2, r3, s0, s1\n"                                                                                 \
    "vmov r4, r5, s2, s3\n"                                                                                 \
    "qadd r2, r2, r7\n"                                                                                     \
    "qadd r3, r3, r7\n"                                                                                     \
    "qadd r4, r4, r7\n"                                                                                     \
    "qadd r5, r5, r7\n"                                                                                     \
    "ssat r2, #8, r2\n"                                                                                     \
    "ssat r3, #8, r3\n"                                                                                     \
    "ssat r4, #8, r4\n"                                                                                     \
    "ssat r5, #8, r5\n"                                                                                     \
    "strb r3, [r12, #1]\n"                                                                                  \
    "strb r4, [r12, #2]\n"                                                                                  \
    "strb r5, [r12, #3]\n"                                                                                  \
    "strb r2, [r12], #4\n"                                                                                  \
    "cmp r12, r6\n"
#endif

/* `rows` times 4 * words bytes of three pixels, `step` bytes apart, as pairs: even of a, b, c, then odd of a, b,
 * c; words and rows > 0. */
IRS_DSP_FUNCTION void irs_dsp_widen(int8_t *to, const int8_t *a, const int8_t *b, const int8_t *c, int32_t words,
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
        "sxtb16 r7, r4, ror #8\n"
        "sxtb16 r8, r5, ror #8\n"
        "sxtb16 r9, r6, ror #8\n"
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
                irs_store32(to + 4 * p + 12, irs_odd(word));
            }
        }
    }
#endif
}

/* `pairs` pairs of channels of three pixels, `bytes` of widened input from `x` on; results of pixel p at
 * y + p * stride. */
IRS_DSP_FUNCTION void irs_dsp_tile(const int8_t *x, const int32_t *stream, int8_t *y, int32_t bytes,
                                   int32_t stride, int32_t pairs, int32_t zero_point)
{
#if IRS_DSP_ASM
/* three sums by one word each, as it is and sign-extended */
#define IRS_DSP_STEP(w)                                                                                     \
    "ldmia r0!, {r8, r9, r10}\n"                                                                            \
    "smlad r5, r8, " w ", r5\n"                                                                             \
    "smlad r6, r9, " w ", r6\n"                                                                             \
    "smlad r7, r10, " w ", r7\n"                                                                            \
    "sxtb16 " w ", " w "\n"                                                                                 \
    "smlad r2, r8, " w ", r2\n"                                                                             \
    "smlad r3, r9, " w ", r3\n"                                                                             \
    "smlad r4, r10, " w ", r4\n"
#define IRS_DSP_STEPS "ldmia r1!, {r11, r12}\n" IRS_DSP_STEP("r11") IRS_DSP_STEP("r12")
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "add r3, r0, r3\n"
        "vmov s12, s13, r0, r3\n" /* input: start, end */
        "ldr r4, [sp, #36]\n"
        "vmov s14, s15, r2, r4\n" /* output: address, stride */
        "ldr r5, [sp, #40]\n"
        "add r5, r2, r5, lsl #1\n"
        "ldr r4, [sp, #44]\n"
        "vmov s10, s11, r4, r5\n" /* zero point, end of the output */
        "1:\n"
        "vmov r0, lr, s12, s13\n"
        "ldmia r1!, {r2, r5}\n"
        "mov r3, r2\n"
        "mov r4, r2\n"
        "mov r6, r5\n"
        "mov r7, r5\n"
        "2:\n" IRS_DSP_STEPS IRS_DSP_STEPS
        "cmp r0, lr\n"
        "bne 2b\n"
        IRS_DSP_PAIR_RESULTS
        "bne 1b\n"
        "pop {r4-r11, pc}\n");
#undef IRS_DSP_STEPS
#undef IRS_DSP_STEP
#else
    for (; pairs > 0; --pairs, y += 2) {
        const int32_t *w = stream + 2;
        uint32_t a[3], s[3];
        float multiplier[2];
        for (int32_t p = 0; p < 3; ++p) {
            a[p] = (uint32_t)stream[0];
            s[p] = (uint32_t)stream[1];
        }
        for (int32_t i = 0; i < bytes; i += 12, ++w) {
            for (int32_t p = 0; p < 3; ++p) {
                a[p] = (uint32_t)irs_mla_dual(irs_load32(x + i + 4 * p), irs_even(*w), (int32_t)a[p]);
                s[p] = (uint32_t)irs_mla_dual(irs_load32(x + i + 4 * p), *w, (int32_t)s[p]);
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

/* Fours of channels of one row, `bytes` of it from `x` on, in whole loop bodies. The stream holds for each four:
 * bias a, 256 * bias b + bias a, the same of c and d; for each step the words of bytes 0 and 2 of a and b, of c and
 * d, of bytes 1 and 3 of both; multipliers a, b / 256, c, d / 256. */
IRS_DSP_FUNCTION void irs_dsp_fours(const int8_t *x, const int32_t *stream, int8_t *y, int32_t bytes, int32_t fours,
                                    int32_t zero_point)
{
#if IRS_DSP_ASM
/* four sums by two words; x holds two inputs */
#define IRS_DSP_FOUR(x, v, w)                                                                               \
    "smlad r3, " x ", " v ", r3\n"                                                                          \
    "smlad r5, " x ", " w ", r5\n"                                                                          \
    "sxtb16 " v ", " v "\n"                                                                                 \
    "sxtb16 " w ", " w "\n"                                                                                 \
    "smlad r2, " x ", " v ", r2\n"                                                                          \
    "smlad r4, " x ", " w ", r4\n"
#define IRS_DSP_FOURS                                                                                       \
    "ldr r7, [r0], #4\n"                                                                                    \
    "ldmia r1!, {r8-r11}\n"                                                                                 \
    "sxtb16 r6, r7\n"                                                                                       \
    "sxtb16 r7, r7, ror #8\n" IRS_DSP_FOUR("r6", "r8", "r9") IRS_DSP_FOUR("r7", "r10", "r11")
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "add r3, r0, r3\n"
        "vmov s12, s13, r0, r3\n" /* input: start, end */
        "ldrd r4, r5, [sp, #36]\n"
        "add r4, r2, r4, lsl #2\n"
        "vmov s14, s15, r4, r5\n" /* end of the output, zero point */
        "mov r12, r2\n"
        "1:\n"
        "vmov r0, lr, s12, s13\n"
        "ldmia r1!, {r2-r5}\n"
        "2:\n" IRS_DSP_FOURS IRS_DSP_FOURS
        "cmp r0, lr\n"
        "bne 2b\n"
        "vldmia r1!, {s4-s7}\n"
        "subs r3, r3, r2\n"
        "subs r5, r5, r4\n"
        IRS_DSP_FOUR_RESULTS
        "bne 1b\n"
        "pop {r4-r11, pc}\n");
#undef IRS_DSP_FOURS
#undef IRS_DSP_FOUR
#else
    for (; fours > 0; --fours, y += 4) {
        const int32_t *w = stream + 4;
        uint32_t sums[4];
        float multiplier[4];
        __builtin_memcpy(sums, stream, sizeof sums);
        for (int32_t i = 0; i < bytes; i += 4) {
            int32_t word = irs_load32(x + i), halves[2] = {irs_even(word), irs_odd(word)};
            for (int32_t k = 0; k < 4; ++k, ++w) {
                int32_t p = k % 2 * 2;
                sums[p] = (uint32_t)irs_mla_dual(halves[k / 2], irs_even(*w), (int32_t)sums[p]);
                sums[p + 1] = (uint32_t)irs_mla_dual(halves[k / 2], *w, (int32_t)sums[p + 1]);
            }
        }
        __builtin_memcpy(multiplier, w, sizeof multiplier);
        for (int32_t p = 0; p < 4; p += 2) {
            y[p] = irs_requantize((int32_t)sums[p], multiplier[p], zero_point);
            y[p + 1] = irs_requantize((int32_t)(sums[p + 1] - sums[p]), multiplier[p + 1], zero_point);
        }
        stream = w + 4;
    }
#endif
}

/* `n` bytes from a stream. */
IRS_INLINE void irs_dsp_fill(int8_t *to, const int32_t *from, int32_t n) { irs_copy(to, (const int8_t *)from, n); }

/* What stays of a window's geometry from call to call, an array in flash; `outside` stands where the window
 * leaves the image. */
enum {
    IRS_DSP_OUT_W, IRS_DSP_IN_W, IRS_DSP_IN_CHANNELS, IRS_DSP_STRIDE_H, IRS_DSP_STRIDE_W, IRS_DSP_LEFT,
    IRS_DSP_ROWS, IRS_DSP_COLUMNS, IRS_DSP_DILATION_H, IRS_DSP_DILATION_W, IRS_DSP_GROUP_IN, IRS_DSP_OUTSIDE
};

/* Three windows: the corner of the first, how far apart they are in bytes, and whether all of them lie in one row
 * of outputs and in the image, with contiguous rows. */
typedef struct {
    int32_t top, left, apart, inside;
} irs_dsp_place;

IRS_INLINE irs_dsp_place irs_dsp_locate(const int32_t *window, int32_t pixel, int32_t next, int32_t pad_top,
                                        int32_t height)
{
    int32_t out_w = window[IRS_DSP_OUT_W], out_y = pixel / out_w, out_x = pixel - out_y * out_w;
    int32_t across = next * window[IRS_DSP_STRIDE_W], channels = window[IRS_DSP_IN_CHANNELS];
    irs_dsp_place at;
    at.top = out_y * window[IRS_DSP_STRIDE_H] - pad_top;
    at.left = out_x * window[IRS_DSP_STRIDE_W] - window[IRS_DSP_LEFT];
    at.apart = across * channels;
    at.inside = out_x + 2 * next < out_w && at.top >= 0 && at.left >= 0
                && at.left + 2 * across + window[IRS_DSP_COLUMNS] <= window[IRS_DSP_IN_W]
                && at.top + (window[IRS_DSP_ROWS] - 1) * window[IRS_DSP_DILATION_H] < height
                && window[IRS_DSP_DILATION_W] == 1 && window[IRS_DSP_GROUP_IN] == channels;
    return at;
}

/* How a row of words becomes pairs; irs_dsp_widen or one of its shape. */
typedef void irs_dsp_widener(int8_t *to, const int8_t *a, const int8_t *b, const int8_t *c, int32_t words,
                             int32_t rows, int32_t step);

/* Windows of whole words of channels, widened; those of `pixel` and the two after it (`next` 1), or its own three
 * times (`next` 0). */
IRS_INLINE void irs_dsp_windows_by(irs_dsp_widener widen, int8_t *to, const int8_t *x, const int8_t *outside,
                                   const int32_t *window, int32_t pixel, int32_t next, int32_t pad_top,
                                   int32_t height)
{
    irs_dsp_place at = irs_dsp_locate(window, pixel, next, pad_top, height);
    int32_t width = window[IRS_DSP_IN_W], channels = window[IRS_DSP_IN_CHANNELS];
    int32_t rows = window[IRS_DSP_ROWS], columns = window[IRS_DSP_COLUMNS], words = window[IRS_DSP_GROUP_IN] / 4;
    if (at.inside) {
        const int8_t *from = x + (at.top * width + at.left) * channels;
        widen(to, from, from + at.apart, from + 2 * at.apart, columns * words, rows,
              window[IRS_DSP_DILATION_H] * width * channels);
        return;
    }
    int32_t top[3], left[3], out_w = window[IRS_DSP_OUT_W];
    for (int32_t p = 0; p < 3; ++p, pixel += next) {
        top[p] = pixel / out_w * window[IRS_DSP_STRIDE_H] - pad_top;
        left[p] = pixel % out_w * window[IRS_DSP_STRIDE_W] - window[IRS_DSP_LEFT];
    }
    for (int32_t ky = 0; ky < rows; ++ky) {
        for (int32_t kx = 0; kx < columns; ++kx, to += 24 * words) {
            const int8_t *from[3];
            for (int32_t p = 0; p < 3; ++p) {
                int32_t row = top[p] + ky * window[IRS_DSP_DILATION_H];
                int32_t column = left[p] + kx * window[IRS_DSP_DILATION_W];
                int32_t within = (uint32_t)row < (uint32_t)height && (uint32_t)column < (uint32_t)width;
                from[p] = within ? x + (row * width + column) * channels : outside;
            }
            widen(to, from[0], from[1], from[2], words, 1, 0);
        }
    }
}

IRS_NOINLINE void irs_dsp_windows(int8_t *to, const int8_t *x, const int8_t *outside, const int32_t *window,
                                  int32_t pixel, int32_t next, int32_t pad_top, int32_t height)
{
    irs_dsp_windows_by(irs_dsp_widen, to, x, outside, window, pixel, next, pad_top, height);
}

/* Windows of any number of channels, widened: the whole words of each row, then the bytes that are left of each row,
 * side by side. `bytes` holds those, and windows at the border. */
IRS_INLINE void irs_dsp_rows_by(irs_dsp_widener widen, int8_t *to, const int8_t *x, int8_t *bytes,
                                const int32_t *window, int32_t pixel, int32_t next, int32_t pad_top, int32_t height)
{
    irs_dsp_place at = irs_dsp_locate(window, pixel, next, pad_top, height);
    int32_t width = window[IRS_DSP_IN_W], channels = window[IRS_DSP_IN_CHANNELS], rows = window[IRS_DSP_ROWS];
    int32_t group = window[IRS_DSP_GROUP_IN], run = window[IRS_DSP_COLUMNS] * group, left = run & 3;
    int32_t pitch = (rows * left + 3) & ~3, apart = at.apart, step = window[IRS_DSP_DILATION_H] * width * channels;
    const int8_t *from = x + (at.top * width + at.left) * channels;
    if (!at.inside) {
        int8_t *border = bytes + 3 * pitch;
        from = border;
        step = run;
        apart = (rows * run + 3) & ~3;
        for (int32_t p = 0; p < 3; ++p, pixel += next, border += apart) {
            int32_t out_w = window[IRS_DSP_OUT_W];
            irs_patch(border, x, pixel / out_w * window[IRS_DSP_STRIDE_H] - pad_top,
                      pixel % out_w * window[IRS_DSP_STRIDE_W] - window[IRS_DSP_LEFT], rows,
                      window[IRS_DSP_COLUMNS], window[IRS_DSP_DILATION_H], window[IRS_DSP_DILATION_W], height,
                      width, channels, group, window[IRS_DSP_OUTSIDE]);
        }
    }
    if (run >= 4) {
        widen(to, from, from + apart, from + 2 * apart, run / 4, rows, step);
    }
    if (left > 0) {
        int8_t *rest = bytes;
        for (int32_t p = 0; p < 3; ++p, rest += pitch) {
            const int8_t *end = from + p * apart + (run & ~3);
            for (int32_t ky = 0; ky < rows * left; ky += left, end += step) {
                for (int32_t i = 0; i < left; ++i) {
                    rest[ky + i] = end[i];
                }
            }
        }
        widen(to + run / 4 * rows * 24, bytes, bytes + pitch, bytes + 2 * pitch, pitch / 4, 1, 0);
    }
}

IRS_NOINLINE void irs_dsp_rows(int8_t *to, const int8_t *x, int8_t *bytes, const int32_t *window, int32_t pixel,
                               int32_t next, int32_t pad_top, int32_t height)
{
    irs_dsp_rows_by(irs_dsp_widen, to, x, bytes, window, pixel, next, pad_top, height);
}

#endif
