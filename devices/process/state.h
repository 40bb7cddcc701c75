/*
 * The state memfd: all that outlives a worker and is not a file descriptor.
 *
 * Runs in: keeper (thread words, end, fault: single loads of fixed places) and worker (everything).
 * Trusts:  nothing; an earlier worker wrote it, and a guest may have taken that worker over. The
 * keeper never follows an index or a length from here; the worker checks each part before it uses
 * it (image_check, uring_take_over, inflight_attach).
 *
 * Who writes what, and what a reader sees if the writer is killed at any point:
 *
 *  threads[b][i]    a worker's threads use bank b = generation mod 2, so that the next worker's can
 *                   register while this one's are at work (process/standby.h). The keeper clears a
 *                   bank before it clones for it, when the last that used it is seen dead.
 *     word          the thread itself, once, with its thread id; then the kernel, which sets
 *                   FUTEX_OWNER_DIED as the thread dies, before the address space is torn down
 *                   (robust futex, set_robust_list(2)). 0: not registered yet; death is then
 *                   noticed by SIGCHLD.
 *     beat, idle, suspect, completed
 *                   the thread itself; single stores, each meaningful alone.
 *  end              the worker, once, just before exit_group: why it left. STATE_END_NONE in a
 *                   killed worker.
 *  fault            the fault handler, fields first, then signo (release); the keeper's watchdog
 *                   for a worker that hangs. It keeps what the thread had in hand, for its bank may
 *                   be another's when it is read. counted: the next worker, after raising
 *                   suspicion.
 *  ring[i][]        the worker's main thread before it is confined; params first, then present
 *                   (release).
 *  aside            see process/aside.h.
 *  went_aside       by head, a bit: some of the request's I/O has been prepared for the second
 *                   ring. Set by the I/O thread before it shows the entry to the companion, cleared
 *                   by it when it answers; set for too long it only makes a successor wait
 *                   (uring.h).
 *  suspicion        the worker's main thread at its start, and when it starts a ring afresh; reset
 *                   by the I/O thread that answers the request.
 *  ready, session_begun, session_faults, message_in_hand
 *                   the worker's main thread; single stores.
 *  session_over     the worker's main thread; the keeper, when guest memory has vanished, or a
 *                   worker does not stop.
 *  session          see vhost/image.h.
 *  the part of the device type, after this structure
 *                   by its own rules.
 *  generation, died_ns
 *                   the keeper, while no worker runs.
 */
#pragma once

#include <linux/futex.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/process/contract.h"
#include "devices/vhost/image.h"
#include "devices/virtio/queue.h"

#define STATE_MAGIC   UINT64_C(0x766d6465762d7331) /* "vmdev-s1" */
#define STATE_VERSION 3u

enum { STATE_RINGS = 2 }; /* of an I/O thread: for transfers, and for what is done aside */

enum { STATE_THREADS = CONTRACT_MAX_THREADS + 1 }; /* thread 0 is the worker's main thread */
enum { STATE_BANKS = 2 };
enum { STATE_COMPANIONS = 4 }; /* slots: process/aside.h */

/* Why a worker left by itself. (Its exit status comes only when all its memory is gone.) */
enum state_end {
	STATE_END_NONE = 0, /* killed */
	STATE_END_STOPPED,
	STATE_END_SESSION,
	STATE_END_FAULT,
	STATE_END_MEMORY, /* guest memory vanished (SIGBUS): the session is over, I/O not drained */
	STATE_END_STATE,
	STATE_END_HOST,
};

struct state_thread {
	_Alignas(64) struct robust_list_head head;
	struct robust_list node;
	uint32_t word;
	uint32_t beat;	    /* counts turns of the thread's loop */
	uint32_t idle;	    /* 1: waiting: not hanging, however long it takes */
	uint32_t suspect;   /* 1 + queue << 16 | head of the request in hand; 0: none */
	uint64_t completed; /* requests answered */
};

struct state_fault {
	uint32_t signo; /* 0: none */
	uint32_t thread;
	int32_t code;
	uint32_t syscall; /* 1 + number refused by the filter; 0: none */
	uint64_t address;
	uint32_t suspect; /* what the thread had in hand, as in struct state_thread */
	uint32_t counted; /* suspicion has been raised for it */
};

struct state_ring {
	uint32_t present;
	struct io_uring_params params;
};

/* See process/aside.h. */
struct state_aside {
	uint32_t gate;			 /* generation whose companion may submit */
	uint32_t last;			 /* slot of the last worker's companion */
	uint32_t started;		 /* slot of the companion that was started last */
	uint32_t busy[STATE_COMPANIONS]; /* by slot: its companion is submitting */
	struct state_thread thread[STATE_COMPANIONS];
};

struct state {
	uint64_t magic;
	uint32_t version;
	uint32_t generation; /* of the worker; the keeper counts */
	uint64_t died_ns;    /* CLOCK_MONOTONIC: last death noticed; 0: none in this session */
	uint32_t end;
	uint32_t ready;		 /* this generation serves */
	uint32_t session_begun;	 /* session is initialised */
	uint32_t session_faults; /* faults in a row while a front-end's message was in hand */
	uint32_t message_in_hand;
	uint32_t session_over; /* drain and leave: nothing of this session may go on */
	uint32_t crash_hits;   /* base/crash.h */
	struct state_fault fault;
	struct state_thread threads[STATE_BANKS][STATE_THREADS];
	struct state_ring ring[CONTRACT_MAX_THREADS][STATE_RINGS];
	struct state_aside aside;
	uint64_t went_aside[CONTRACT_MAX_QUEUES][QUEUE_MAX_SIZE / 64];
	uint8_t suspicion[CONTRACT_MAX_QUEUES][QUEUE_MAX_SIZE];
	struct image_store session;
};

/*
 * Map the state memfd on CONTRACT_FD_STATE, populated. NULL and errno if that is not possible:
 * EBADMSG if it is not a state of this version, with device_len bytes for the device type. Nothing
 * else is checked here.
 */
struct state *state_map(uint64_t device_len);

/*
 * Map the device type's part, len bytes, which begin at the next page. It is sparse: memory is used
 * as it is written, and nothing of it is populated. NULL and errno if that is not possible.
 */
void *state_map_device(uint64_t len);

/*
 * Give back the memory of len bytes at offset of the device type's part: they are zero afterwards.
 * 0 or a negative errno.
 */
int state_give_back(uint64_t offset, uint64_t len);

/*
 * A fresh state memfd at CONTRACT_FD_STATE with device_len bytes for the device type, and a fresh
 * in-flight memfd of inflight_len bytes at CONTRACT_FD_INFLIGHT; earlier ones are closed. 0 or a
 * negative errno. Only in the keeper, with no worker.
 */
int state_create(uint64_t device_len, uint64_t inflight_len, uint32_t generation);

/* The threads of the worker of this generation. */
static inline struct state_thread *state_threads(struct state *s, uint32_t generation)
{
	return s->threads[generation % STATE_BANKS];
}

/* The calling thread is t: its death shows in t->word. 0 or a negative errno. */
int state_register(struct state_thread *t);

static inline bool state_thread_dead(const struct state_thread *t)
{
	return (__atomic_load_n(&t->word, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED) != 0;
}

/*
 * A thread around whatever may take long and is no fault of its own (waiting for work, for the
 * disk, for other threads): the watchdog does not count the time in between. To be killed would not
 * end such a call sooner.
 */
static inline void state_thread_blocks(struct state_thread *t)
{
	__atomic_store_n(&t->idle, 1, __ATOMIC_RELAXED);
}

static inline void state_thread_goes_on(struct state_thread *t)
{
	__atomic_store_n(&t->idle, 0, __ATOMIC_RELAXED);
}

/*
 * The worker at its start: what the last one's thread had in hand when it faulted becomes a
 * suspect, a request or the front-end's message. What other threads had in hand does not: they may
 * have been in a long system call all the time.
 */
void state_raise_suspicion(struct state *s, uint32_t n_queues);

/* The keeper, before it clones a worker for this generation: its bank is empty. */
void state_clear_threads(struct state *s, uint32_t generation);

/*
 * The keeper, when the last worker is dead: its end is forgotten, the next one's generation begins.
 */
void state_begin_generation(struct state *s, uint32_t generation);
