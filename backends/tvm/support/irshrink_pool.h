/* Threads that share the work of an inference.
 *
 * A team is the thread that calls the model and some more that wait for it. All of them go through the same
 * list of operators; of each operator every thread computes one part, which depends on its number alone, and
 * a barrier follows. So the bytes are the same for any number of threads.
 *
 * No thread exists until irs_pool_resize() makes it. At a barrier a thread spins for some microseconds, then
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

/* Looks at a barrier before a thread sleeps. */
#ifndef IRS_SPINS
#define IRS_SPINS 2000
#endif

enum { IRS_FUTEX_WAIT = 128, IRS_FUTEX_WAKE = 129 }; /* private to the process */
#if defined(SYS_futex)
#define IRS_FUTEX SYS_futex
#else /* 32-bit processors that never had 32-bit times */
#define IRS_FUTEX SYS_futex_time64
#endif

typedef struct irs_pool irs_pool;
typedef struct {
    irs_pool *pool;
    int32_t share;
    pthread_t thread;
} irs_member;

struct irs_pool {
    _Alignas(64) _Atomic uint32_t missing; /* threads that are not at the barrier yet */
    _Alignas(64) _Atomic uint32_t phase;   /* barriers passed */
    _Atomic uint32_t sleeping;             /* threads that wait for the next phase without spinning */
    _Alignas(64) _Atomic int32_t threads;  /* of the team, the caller's included; 0 means 1 */
    atomic_flag taken;                     /* an inference has the team, or its size changes */
    long process;                          /* that made the team: a fork has none of its threads */
    int32_t spins;
    const irs_step *steps; /* of the inference; NULL ends the team */
    int32_t count;
    void *arena;
    irs_member members[IRS_MAX_THREADS];
};

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

static void irs_wait(irs_pool *pool, uint32_t phase)
{
    for (int32_t i = 0; i < pool->spins; ++i) {
        if (atomic_load_explicit(&pool->phase, memory_order_acquire) != phase) return;
        irs_pause();
    }
    /* Either the last thread sees this one sleep, or this one sees the new phase: both orders are total. */
    atomic_fetch_add(&pool->sleeping, 1);
    while (atomic_load(&pool->phase) == phase) {
        syscall(IRS_FUTEX, &pool->phase, IRS_FUTEX_WAIT, phase, NULL, NULL, 0);
    }
    atomic_fetch_sub(&pool->sleeping, 1);
}

/* Returns when all threads of the team are here. */
static void irs_barrier(irs_pool *pool)
{
    const uint32_t phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&pool->missing, 1, memory_order_acq_rel) > 1) {
        irs_wait(pool, phase);
        return;
    }
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    atomic_store_explicit(&pool->missing, (uint32_t)threads, memory_order_relaxed);
    atomic_store(&pool->phase, phase + 1);
    if (atomic_load(&pool->sleeping) > 0) {
        syscall(IRS_FUTEX, &pool->phase, IRS_FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

/* What one thread does of an inference. Operators on one thread need no barrier between them. */
static void irs_run_share(irs_pool *pool, int32_t share)
{
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    int32_t before = 1;
    for (int32_t i = 0; i < pool->count; ++i) {
        const int32_t shares = irs_min_i32(pool->steps[i].most, threads);
        if (before > 1 || (shares > 1 && i > 0)) irs_barrier(pool);
        if (share < shares) pool->steps[i].run(pool->arena, share, shares);
        before = shares;
    }
    irs_barrier(pool);
}

static void *irs_work(void *argument)
{
    const irs_member *member = argument;
    irs_pool *pool = member->pool;
    /* Signals are the program's own threads' business, but for those that C libraries set threads with. */
    const uint64_t signals = ~(UINT64_C(7) << 31);
    syscall(SYS_rt_sigprocmask, 0, &signals, NULL, sizeof signals);
    for (;;) {
        irs_barrier(pool);
        if (pool->steps == NULL) return NULL;
        irs_run_share(pool, member->share);
    }
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

static void irs_dismiss(irs_pool *pool)
{
    const int32_t threads = atomic_load_explicit(&pool->threads, memory_order_relaxed);
    pool->steps = NULL;
    if (threads > 1) irs_barrier(pool);
    for (int32_t i = 1; i < threads; ++i) pthread_join(pool->members[i].thread, NULL);
}

static int32_t irs_hire(irs_pool *pool, int32_t wanted)
{
    int32_t have = 1;
    atomic_store_explicit(&pool->sleeping, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->threads, wanted, memory_order_relaxed);
    atomic_store_explicit(&pool->missing, (uint32_t)wanted, memory_order_relaxed);
    pool->process = syscall(SYS_getpid);
    /* More threads than processors must not keep each other from running. */
    pool->spins = wanted <= irs_processors() ? IRS_SPINS : 0;
    for (; have < wanted; ++have) {
        irs_member *member = &pool->members[have];
        member->pool = pool;
        member->share = have;
        if (pthread_create(&member->thread, NULL, irs_work, member) != 0) break;
    }
    /* This thread is at no barrier, so none has been passed without those that could not be made. */
    atomic_fetch_sub_explicit(&pool->missing, (uint32_t)(wanted - have), memory_order_relaxed);
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

static void irs_pool_run(irs_pool *pool, const irs_step *steps, int32_t count, void *arena)
{
    pool->steps = steps;
    pool->count = count;
    pool->arena = arena;
    irs_barrier(pool);
    irs_run_share(pool, 0);
    atomic_flag_clear_explicit(&pool->taken, memory_order_release);
}

#endif
