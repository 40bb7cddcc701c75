/* A file whose reads and writes land late on demand: a FUSE file system of one file, served by a
 * child process. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Shared between the test and the serving child. */
struct slowfs_control {
	_Atomic unsigned delay_ms;     /* how long a chosen request is held back */
	_Atomic int n_writes_to_delay; /* how many of the next writes are chosen */
	_Atomic int n_reads_to_delay;  /* how many of the next reads are chosen */
	_Atomic int n_others_to_delay; /* how many of the next of other_opcode are chosen */
	_Atomic unsigned other_opcode; /* FUSE_OPEN, say */
	_Atomic unsigned n_held;       /* chosen requests now held back */
	_Atomic unsigned n_landed;     /* chosen requests that have landed */
	_Atomic unsigned n_writes;     /* all writes that have landed */
	_Atomic unsigned n_reads;      /* all reads that were answered */
	_Atomic unsigned
		write_flags; /* open(2) flags that all writes had, since it was set to ~0 */
	_Atomic unsigned n_interrupts; /* FUSE_INTERRUPT requests seen */
};

struct slowfs {
	char dir[128];	/* mount point, in a mount namespace of the caller's own from then on */
	char path[160]; /* the file */
	pid_t pid;
	struct slowfs_control *control;
};

/* 0, or negative errno; -ENOENT and -ENODEV mean that this kernel has no FUSE. */
int slowfs_start(struct slowfs *s, uint64_t size);
void slowfs_stop(struct slowfs *s);
