/* Threads that share the work of an inference.
 *
 * The thread that calls the model goes through the operators. An operator that is split is offered to the team:
 * each thread that is free takes a part that nobody has taken yet, the caller as well, until none is left. What
 * a part is depends on its number alone, so the bytes are the same for any number of threads, whoever computes
 * it; and a thread that the system does not let run holds up nobody.
 *
 * No thread exists until irs_pool_resize() makes it. A thread without work spins for some microseconds, then
 * sleeps until it is woken (futex). One inference uses the team; others that run meanwhile use their caller's
 * thread only.
 *
 * For Linux: of the C library it takes pthread_create, pthread_join and syscall. IRS_MAX_THREADS is the size
 * of the largest team.
 */
#ifndef IRSHRINK_POOL_H
#define IRSHRINK_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "irshrink_share.h"

/* Nanoseconds for which a thread looks for work before it sleeps: some times what waking it takes. */
#ifndef IRS_PATIENCE
#define IRS_PATIENCE 50000
#endif

enum { IRS_FUTEX_WAIT = 128, IRS_FUTEX_WAKE = 129 }; /* private to the process */
#if defined(SYS_futex)
#define IRS_FUTEX SYS_futex
#else /* 32-bit processors that never had 32-bit times */
#define IRS_FUTEX SYS_futex_time64
#endif
#if defined(SYS_clock_gettime32) /* what musl calls the one with two longs */
#define IRS_CLOCK SYS_clock_gettime32
#else
#define IRS_CLOCK SYS_clock_gettime
#endif

typedef struct {
    /* What is offered: a number that never comes back (48 bits), how many parts (8), the next one (8). */
    _Alignas(64) _Atomic uint64_t offer;
    _Atomic(const irs_step *) step; /* of the offer; while parts are left, neither changes */
    _Atomic(void *) arena;
    _Alignas(64) _Atomic uint32_t done; /* parts of the offer */
    _Atomic uint32_t waiting;           /* the caller sleeps until `done` changes */
    _Alignas(64) _Atomic uint32_t sleeping; /* threads that sleep until `bell` changes */
    _Atomic uint32_t bell;
    _Atomic uint32_t stop;
    _Alignas(64) _Atomic int32_t threads; /* of the team, the caller's included; 0 means 1 */
    atomic_flag taken;                    /* an inference has the team, or its size changes */
    int32_t spins;
    long process; /* that made the team: a fork has none of its threads */
    pthread_t made[IRS_MAX_THREADS];
} irs_pool;

IRS_INLINE void irs_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` takes no time on most cores */
#elif defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

IRS_INLINE int32_t irs_parts(uint64_t offer) { return (int32_t)(offer >> 8 & 255); }
IRS_INLINE int32_t irs_next(uint64_t offer) { return (int32_t)(offer & 255); }

static void irs_sleep(_Atomic uint32_t *word, uint32_t value)
{
    syscall(IRS_FUTEX, word, IRS_FUTEX_WAIT, value, NULL, NULL, 0);
}

static void irs_wake(_Atomic uint32_t *word)
{
    syscall(IRS_FUTEX, word, IRS_FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Takes parts of what is offered, until there is none. */
static void irs_help(irs_pool *pool)
{
    uint64_t offer = atomic_load_explicit(&pool->offer, memory_order_acquire);
    while (irs_next(offer) < irs_parts(offer)) {
        const irs_step *step = atomic_load_explicit(&pool->step, memory_order_relaxed);
        void *arena = atomic_load_explicit(&pool->arena, memory_order_relaxed);
        /* If the part is still there, step and arena are those of this offer. */
        if (!atomic_compare_exchange_weak_explicit(&pool->offer, &offer, offer + 1, memory_order_acquire,
                                                   memory_order_acquire)) {
            continue;
        }
        step->run(arena, irs_next(offer), irs_parts(offer));
        atomic_fetch_add(&pool->done, 1);
        if (atomic_load(&pool->waiting)) irs_wake(&pool->done);
        offer = atomic_load_explicit(&pool->offer, memory_order_acquire);
    }
}

/* One operator in several parts: returns when all of them are done. */
static void irs_offer(irs_pool *pool, const irs_step *step, uint32_t parts, void *arena)
{
    const uint64_t number = atomic_load_explicit(&pool->offer, memory_order_relaxed) >> 16;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->step, step, memory_order_relaxed);
    atomic_store_explicit(&pool->arena, arena, memory_order_relaxed);
    atomic_store(&pool->offer, (number + 1) << 16 | (uint64_t)parts << 8);
    /* Either a thread sees the offer before it sleeps, or it is seen to sleep: both orders are total. */
    if (atomic_load(&pool->sleeping) > 0) {
        atomic_fetch_add(&pool->bell, 1);
        irs_wake(&pool->bell);
    }
    irs_help(pool);
    for (int32_t i = 0; i < pool->spins; ++i) {
        if (atomic_load_explicit(&pool->done, memory_order_acquire) == parts) return;
        irs_pause();
    }
    atomic_store(&pool->waiting, 1);
    for (uint32_t done; (done = atomic_load(&pool->done)) != parts;) irs_sleep(&pool->done, done);
    atomic_store_explicit(&pool->waiting, 0, memory_order_relaxed);
}

/* Returns when there may be work, or the team ends. Yields, lest it keeps the caller from running. */
static void irs_wait(irs_pool *pool)
{
    for (int32_t i = 0; i < pool->spins; ++i) {
        const uint64_t offer = atomic_load_explicit(&pool->offer, memory_order_relaxed);
        if (irs_next(offer) < irs_parts(offer)) return;
        if (i % 64 == 63) syscall(SYS_sched_yield);
        irs_pause();
    }
    atomic_fetch_add(&pool->sleeping, 1);
    const uint32_t bell = atomic_load(&pool->bell);
    const uint64_t offer = atomic_load(&pool->offer);
    if (irs_next(offer) == irs_parts(offer) && !atomic_load(&pool->stop)) irs_sleep(&pool->bell, bell);
    atomic_fetch_sub(&pool->sleeping, 1);
}

static void *irs_work(void *argument)
{
    irs_pool *pool = argument;
    /* Signals are the program's own threads' business, but for those that C libraries set threads with. */
    const uint64_t signals = ~(UINT64_C(7) << 31);
    syscall(SYS_rt_sigprocmask, 0, &signals, NULL, sizeof signals);
    while (!atomic_load(&pool->stop)) {
        irs_help(pool);
        irs_wait(pool);
    }
    return NULL;
}

/* Processors that this process may run on. */
static int32_t irs_processors(void)
{
    unsigned long set[1024 / (8 * sizeof(unsigned long))] = {0};
    int32_t count = 0;
    if (syscall(SYS_sched_getaffinity, 0, sizeof set, set) <= 0) return 1;
    for (size_t i = 0; i < sizeof set / sizeof *set; ++i) {
        for (unsigned long rest = set[i]; rest != 0; rest &= rest - 1) ++count;
    }
    return count;
}

/* How many pauses are the patience of a thread on this processor. */
static int32_t irs_spins(void)
{
    long before[2] = {0}, after[2] = {0};
    syscall(IRS_CLOCK, 1, before);
    for (int32_t i = 0; i < 256; ++i) irs_pause();
    syscall(IRS_CLOCK, 1, after);
    const long took = (after[0] - before[0]) * 1000000000 + after[1] - before[1];
    return took < 256 ? IRS_PATIENCE : took > IRS_PATIENCE ? 256 : (int32_t)(IRS_PATIENCE * 256LL / took);
}

static void irs_dismiss(irs_pool *pool)
{
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->bell, 1);
    irs_wake(&pool->bell);
    for (int32_t i = 1; i < threads; ++i) pthread_join(pool->made[i], NULL);
}

static int32_t irs_hire(irs_pool *pool, int32_t wanted)
{
    int32_t have = 1;
    atomic_store_explicit(&pool->sleeping, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->waiting, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->stop, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->offer, 0, memory_order_relaxed);
    pool->process = syscall(SYS_getpid);
    /* More threads than processors must not keep each other from running. */
    pool->spins = wanted <= irs_processors() ? irs_spins() : 0;
    while (have < wanted && pthread_create(&pool->made[have], NULL, irs_work, pool) == 0) ++have;
    atomic_store_explicit(&pool->threads, have, memory_order_relaxed);
    return have;
}

/* Makes the team `wanted` threads large, between 1 and IRS_MAX_THREADS. Returns how many there are: fewer
 * where the system makes no more; 0 when an inference runs, and nothing has changed. */
static int irs_pool_resize(irs_pool *pool, int wanted)
{
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    const int forked = threads > 1 && pool->process != syscall(SYS_getpid);
    if (atomic_flag_test_and_set_explicit(&pool->taken, memory_order_acquire) && !forked) return 0;
    wanted = wanted < 1 ? 1 : wanted > IRS_MAX_THREADS ? IRS_MAX_THREADS : wanted;
    if (forked || wanted != threads) {
        if (!forked) irs_dismiss(pool);
        wanted = irs_hire(pool, wanted);
    }
    atomic_flag_clear_explicit(&pool->taken, memory_order_release);
    return wanted;
}

/* Whether this inference has the team; if so, irs_pool_run() gives it back. */
IRS_INLINE int irs_pool_take(irs_pool *pool)
{
    if (atomic_load_explicit(&pool->threads, memory_order_relaxed) <= 1) return 0;
    if (pool->process != syscall(SYS_getpid)) return 0;
    return !atomic_flag_test_and_set_explicit(&pool->taken, memory_order_acquire);
}

/* All operators in order. */
static void irs_pool_run(irs_pool *pool, const irs_step *steps, int32_t count, void *arena)
{
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    for (int32_t i = 0; i < count; ++i) {
        const int32_t parts = irs_min_i32(steps[i].most, threads);
        if (parts > 1) {
            irs_offer(pool, &steps[i], (uint32_t)parts, arena);
        } else {
            steps[i].run(arena, 0, 1);
        }
    }
    atomic_flag_clear_explicit(&pool->taken, memory_order_release);
}

#endif
