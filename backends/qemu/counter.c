/* Counts the instructions of one inference under QEMU: a plugin of its code translator.
 *
 *     -plugin counter.so,out=FILE,entry=ADDRESS,end=ADDRESS,caller_begin=ADDRESS,caller_end=ADDRESS
 *
 * Counting goes from the block at `entry`, the model's function, up to the block in which its caller goes on.
 * [entry, end) are the function's own addresses: every time that execution leaves them and comes back is one
 * line "call ADDRESS COUNT" in FILE, callees included, and after it one line "block ADDRESS BYTES TIMES" for
 * every block that ran in it. The last line is "instructions COUNT".
 *
 * QEMU's header is not in every distribution, so what is used of it is declared here (QEMU's plugin interface,
 * docs/devel/tcg-plugins). A block runs from its first instruction to its last, so its length is what it adds.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*call)(unsigned, void *), int flags,
                                          void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

typedef struct block {
    uint64_t address;
    uint64_t instructions;
    uint64_t bytes;
    uint64_t times; /* in this call */
    struct block *next;
} block;

static block *blocks;
static uint64_t entry, end, caller_begin, caller_end;
static FILE *out;
static bool counting, inside, finished;
static uint64_t total, left_at, left_total;

static void came_back(void)
{
    fprintf(out, "call %" PRIu64 " %" PRIu64 "\n", left_at, total - left_total);
    for (block *b = blocks; b != NULL; b = b->next) {
        if (b->times == 0) continue;
        fprintf(out, "block %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->bytes, b->times);
        b->times = 0;
    }
}

static void on_block(unsigned core, void *data)
{
    block *b = data;
    (void)core;
    if (!counting) {
        counting = inside = b->address == entry && !finished;
    } else if (b->address >= caller_begin && b->address < caller_end) {
        if (!inside) came_back();
        counting = false;
        finished = true;
        return;
    }
    if (!counting) return;
    const bool now = b->address >= entry && b->address < end;
    if (inside && !now) {
        left_at = b->address;
        left_total = total;
    } else if (!inside && now) {
        came_back();
    }
    inside = now;
    b->times += !now;
    total += b->instructions;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    block *b = malloc(sizeof *b); /* lives as long as the translated code, which is until the end */
    (void)id;
    if (b == NULL) abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->instructions = qemu_plugin_tb_n_insns(tb);
    b->bytes = b->times = 0;
    for (size_t i = 0; i < b->instructions; i++) b->bytes += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, i));
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, b);
}

static void on_end(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    if (finished) fprintf(out, "instructions %" PRIu64 "\n", total);
    fclose(out);
}

static void address(const char *argument, const char *name, uint64_t *value)
{
    const size_t length = strlen(name);
    if (strncmp(argument, name, length) == 0 && argument[length] == '=') {
        *value = strtoull(argument + length + 1, NULL, 0);
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments)
{
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "out=", 4) == 0) out = fopen(arguments[i] + 4, "w");
        address(arguments[i], "entry", &entry);
        address(arguments[i], "end", &end);
        address(arguments[i], "caller_begin", &caller_begin);
        address(arguments[i], "caller_end", &caller_end);
    }
    if (out == NULL) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
