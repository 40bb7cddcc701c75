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
 *  thread[i].word   the thread itself, once, with its thread id; then the kernel, which sets
 *                   FUTEX_OWNER_DIED as the thread dies, before the address space is torn down
 *                   (robust futex, set_robust_list(2)). 0: not registered yet; death is then
 *                   noticed by SIGCHLD.
 *  thread[i].beat, idle, suspect, completed
 *                   the thread itself; single stores, each meaningful alone.
 *  end              the worker, once, just before exit_group: why it left. STATE_END_NONE in a
 *                   killed worker.
 *  fault            the fault handler, fields first, then signo (release); the keeper's watchdog
 *                   for a worker that hangs. counted: the next worker, after raising suspicion.
 *  ring[i][]        I/O thread i before it is confined; params first, then present (release).
 *  aside            see process/aside.h.
 *  suspicion        the worker's main thread at its start, and when it starts a ring afresh; reset
 *                   by the I/O thread that answers the request.
 *  ready, session_begun, session_faults, message_in_hand
 *                   the worker's main thread; single stores.
 *  session_over     the worker's main thread; the keeper, when guest memory has vanished.
 *  session          see vhost/image.h.
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
#define STATE_VERSION 1u

enum { STATE_RINGS = 2 }; /* of an I/O thread: for transfers, and for what is done aside */

enum { STATE_THREADS = CONTRACT_MAX_THREADS + 1 }; /* thread 0 is the worker's main thread */

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
	uint32_t idle;	    /* 1: waiting for something to do */
	uint32_t suspect;   /* 1 + queue << 16 | head of the request in hand; 0: none */
	uint64_t completed; /* requests answered */
};

struct state_fault {
	uint32_t signo; /* 0: none */
	uint32_t thread;
	int32_t code;
	uint32_t syscall; /* 1 + number refused by the filter; 0: none */
	uint64_t address;
	uint32_t counted; /* suspicion has been raised for it */
};

struct state_ring {
	uint32_t present;
	struct io_uring_params params;
};

/* See process/aside.h. */
struct state_aside {
	uint32_t gate;		       /* generation whose companion may submit */
	uint32_t busy;		       /* generation of the companion that is submitting */
	struct state_thread thread[2]; /* of the companion, by generation modulo 2 */
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
	struct state_thread thread[STATE_THREADS];
	struct state_ring ring[CONTRACT_MAX_THREADS][STATE_RINGS];
	struct state_aside aside;
	uint8_t suspicion[CONTRACT_MAX_QUEUES][QUEUE_MAX_SIZE];
	struct image_store session;
};

/* Map the state memfd on CONTRACT_FD_STATE, populated. NULL and errno if that is not possible. */
struct state *state_map(void);

/*
 * A fresh state memfd at CONTRACT_FD_STATE, and a fresh in-flight memfd of inflight_len bytes at
 * CONTRACT_FD_INFLIGHT; earlier ones are closed. 0 or a negative errno. Only in the keeper, with no
 * worker.
 */
int state_create(uint64_t inflight_len, uint32_t generation);

/* Is it a state of this version? Nothing else is checked here. */
bool state_check(const struct state *s);

/* The calling thread is thread i: its death shows in thread[i].word. 0 or a negative errno. */
int state_thread_register(struct state *s, uint32_t i);

/* The same for any slot. */
int state_register(struct state_thread *t);

static inline bool state_thread_dead(const struct state *s, uint32_t i)
{
	return (__atomic_load_n(&s->thread[i].word, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED) != 0;
}

/* Forget the threads, end and fault of the last worker, before the next one. */
void state_next_generation(struct state *s);
