/* A second start of the program in the same process. See renew.h. */
#include "devices/process/renew.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/process/contract.h"

#if defined(__x86_64__) && !defined(__GLIBC__)

enum {
	PAGE = 4096,
	STACK_LEN = 1 << 20,
	KERNEL_STACK_LEN = 8 << 20, /* more than the keeper ever uses of the one it began with */
	CANARY_LEN = 16,
	TRIES = 16,
	VVAR_PAGES = 16, /* of a map of the vDSO's data, at most */
	HOLE_MAX = 64 << 20,
	MAX_AUX = 64,
	AUX_HANDED = 0x766d6465, /* an entry of ours: struct handed * */
};

#define PLACE_LOW  (UINT64_C(1) << 32)
#define PLACE_HIGH (UINT64_C(1) << 46) /* the kernel's own choices are above */
#define GAP_MAX	   (UINT64_C(1) << 44) /* so below it is still above PLACE_HIGH */

struct block {
	void *start;
	size_t len;
};

/* What the former program tells the new one: what to unmap, and where it stands. */
struct handed {
	struct block image, stack, gap, map; /* the former program's */
	struct block shown;		     /* to be read-only from now on */
	struct block my_stack;
};

struct stack {
	struct block block; /* guard page included */
	uint8_t *top;	    /* of what is free yet */
};

/* The linker's: first and last byte of this program in memory. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));
extern const uint8_t _end[] __attribute__((visibility("hidden")));

extern char **environ;

static struct block my_stack; /* empty: it is the one that the kernel made */
static struct block my_gap;

static size_t page_down(size_t n)
{
	return n & ~(size_t)(PAGE - 1);
}

static size_t page_up(size_t n)
{
	return page_down(n + PAGE - 1);
}

static void drop(struct block b)
{
	if (b.len > 0)
		munmap(b.start, b.len);
}

static struct block my_image(void)
{
	uint8_t *start = (uint8_t *)(uintptr_t)&__ehdr_start;

	return (struct block){ start, page_up((size_t)(_end - start)) };
}

/* Address space at a random place, inaccessible. */
static int reserve(size_t len, struct block *ret)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t r;
		void *want, *got;

		if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
			return -EAGAIN;
		want = (void *)page_down(PLACE_LOW + r % (PLACE_HIGH - PLACE_LOW));
		got = mmap(want, len, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
			   0);
		if (got == want) {
			*ret = (struct block){ got, len };
			return 0;
		}
		if (got != MAP_FAILED)
			munmap(got, len);
		else if (errno != EEXIST)
			return -errno;
	}
	return -EADDRINUSE;
}

/* The image */

static int protection(const Elf64_Phdr *p)
{
	return (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
	       (p->p_flags & PF_X ? PROT_EXEC : 0);
}

/* What the file does not hold of a segment is zero. */
static int map_zeroes(uint8_t *base, const Elf64_Phdr *p)
{
	uint8_t *file_end = base + p->p_vaddr + p->p_filesz;
	uint8_t *end = base + page_up(p->p_vaddr + p->p_memsz);
	uint8_t *page = (uint8_t *)page_up((uintptr_t)file_end);

	memset(file_end, 0, (size_t)(page - file_end));
	if (end > page && mmap(page, (size_t)(end - page), protection(p),
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

static int map_segment(uint8_t *base, const Elf64_Phdr *p)
{
	size_t slack = p->p_vaddr % PAGE;

	if (mmap(base + p->p_vaddr - slack, p->p_filesz + slack, protection(p),
		 MAP_PRIVATE | MAP_FIXED, CONTRACT_FD_PROGRAM,
		 (off_t)(p->p_offset - slack)) == MAP_FAILED)
		return -errno;
	return p->p_memsz > p->p_filesz ? map_zeroes(base, p) : 0;
}

static int map_image(struct block *ret)
{
	const Elf64_Ehdr *e = &__ehdr_start;
	const Elf64_Phdr *p = (const void *)((const uint8_t *)e + e->e_phoff);
	struct block image;
	int r = reserve(my_image().len, &image);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < e->e_phnum && r == 0; i++)
		if (p[i].p_type == PT_LOAD)
			r = map_segment(image.start, &p[i]);
	if (r < 0)
		drop(image);
	else
		*ret = image;
	return r;
}

/*
 * The stack, from its top down: strings, canary, struct handed, and the vectors of a new program.
 */

static void *push(struct stack *s, const void *bytes, size_t len, size_t align)
{
	s->top = (uint8_t *)((uintptr_t)(s->top - len) & ~(uintptr_t)(align - 1));
	memcpy(s->top, bytes, len);
	return s->top;
}

static int make_stack(struct stack *s)
{
	int r = reserve(STACK_LEN + PAGE, &s->block);

	if (r < 0)
		return r;
	s->top = (uint8_t *)s->block.start + s->block.len;
	if (mprotect((uint8_t *)s->block.start + PAGE, STACK_LEN, PROT_READ | PROT_WRITE) < 0) {
		r = -errno;
		drop(s->block);
	}
	return r;
}

static size_t count(char *const *vector)
{
	size_t n = 0;

	while (vector[n])
		n++;
	return n;
}

static Elf64_auxv_t *my_aux(void)
{
	return (Elf64_auxv_t *)(void *)(environ + count(environ) + 1);
}

static size_t fill_aux(struct stack *s, const struct block *image, const struct handed *h,
		       Elf64_auxv_t *ret)
{
	const uint8_t *base = image->start;
	uint8_t canary[CANARY_LEN];
	size_t n = 0;

	if (getrandom(canary, sizeof(canary), GRND_NONBLOCK) != sizeof(canary))
		return 0;
	for (const Elf64_auxv_t *a = my_aux(); a->a_type != AT_NULL; a++) {
		if (n >= MAX_AUX - 2)
			return 0;
		if (a->a_type == AUX_HANDED || a->a_type == AT_PLATFORM)
			continue;
		ret[n] = *a;
		if (a->a_type == AT_PHDR)
			ret[n].a_un.a_val = (uintptr_t)(base + __ehdr_start.e_phoff);
		else if (a->a_type == AT_ENTRY)
			ret[n].a_un.a_val = (uintptr_t)(base + __ehdr_start.e_entry);
		else if (a->a_type == AT_RANDOM)
			ret[n].a_un.a_val = (uintptr_t)push(s, canary, sizeof(canary), 16);
		n++;
	}
	ret[n++] = (Elf64_auxv_t){ AUX_HANDED, { (uintptr_t)push(s, h, sizeof(*h), 16) } };
	ret[n++] = (Elf64_auxv_t){ AT_NULL, { 0 } };
	return n;
}

static void push_strings(struct stack *s, char *const *vector, uintptr_t *ret)
{
	size_t n = count(vector);

	for (size_t i = 0; i < n; i++)
		ret[i] = (uintptr_t)push(s, vector[i], strlen(vector[i]) + 1, 1);
	ret[n] = 0;
}

/* argc, argv, NULL, environment, NULL, auxiliary vector: System V ABI, AMD64, §3.4.1. */
static int fill_stack(struct stack *s, char *const *argv, const struct block *image,
		      const struct handed *h)
{
	uintptr_t vectors[STACK_LEN / PAGE];
	Elf64_auxv_t aux[MAX_AUX];
	size_t n_args = count(argv), n_env = count(environ), n = 0, n_aux;

	if (n_args + n_env + 3 > sizeof(vectors) / sizeof(*vectors))
		return -E2BIG;
	vectors[n++] = n_args;
	push_strings(s, argv, vectors + n);
	n += n_args + 1;
	push_strings(s, environ, vectors + n);
	n += n_env + 1;
	n_aux = fill_aux(s, image, h, aux);
	if (n_aux == 0)
		return -EAGAIN;
	/* Together a multiple of 16 bytes below an aligned address, for the entry point's sake. */
	s->top = (uint8_t *)((uintptr_t)s->top & ~(uintptr_t)15);
	if (n % 2)
		s->top -= sizeof(*vectors);
	push(s, aux, n_aux * sizeof(*aux), 8);
	push(s, vectors, n * sizeof(*vectors), 8);
	return 0;
}

static _Noreturn void jump(const struct stack *s, const struct block *image)
{
	const uint8_t *entry = (const uint8_t *)image->start + __ehdr_start.e_entry;

	__asm__ volatile("mov %0, %%rsp\n\t"
			 "xor %%edx, %%edx\n\t" /* no function to be called at exit */
			 "xor %%ebp, %%ebp\n\t"
			 "jmp *%1"
			 :
			 : "r"(s->top), "r"(entry)
			 : "memory", "rdx");
	__builtin_unreachable();
}

/*
 * The stack that the kernel made: strings above AT_RANDOM, the name of the program and 8 bytes
 * last; all else is below.
 */
static void hand_kernel_stack(struct handed *h)
{
	uintptr_t name = getauxval(AT_EXECFN);
	uint8_t *first = (uint8_t *)page_down(getauxval(AT_RANDOM));
	uint8_t *end = (uint8_t *)page_up(name + strlen((const char *)name) + 1 + sizeof(uint64_t));

	h->stack = (struct block){ first - KERNEL_STACK_LEN, KERNEL_STACK_LEN };
	h->shown = (struct block){ first, (size_t)(end - first) };
}

int renew_in_place(char *const *argv, void *map, size_t map_len)
{
	struct handed h = {
		.image = my_image(), .stack = my_stack, .gap = my_gap, .map = { map, map_len }
	};
	struct block image;
	struct stack s;
	int r;

	if (my_stack.len == 0)
		hand_kernel_stack(&h);
	r = make_stack(&s);
	if (r < 0)
		return r;
	h.my_stack = s.block;
	r = map_image(&image);
	if (r == 0) {
		r = fill_stack(&s, argv, &image, &h);
		if (r == 0)
			jump(&s, &image);
		drop(image);
	}
	drop(s.block);
	return r;
}

/* The new program */

/*
 * The maps of the vDSO's data, which lie below it, to another place, in the same order; they cannot
 * be moved in parts. from: the end of what has not been moved. Stops where nothing is mapped, and
 * returns what is still free of the room.
 */
static struct block move_data(uint8_t *from, struct block room)
{
	for (size_t len = PAGE; len <= VVAR_PAGES * PAGE && len < room.len; len += PAGE) {
		uint8_t *to = (uint8_t *)room.start + room.len - len;

		if (mremap(from - len, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
			continue;
		from -= len;
		room.len -= len;
		len = 0;
	}
	return room;
}

static size_t vdso_len(const Elf64_Ehdr *e)
{
	const Elf64_Phdr *p = (const void *)((const uint8_t *)e + e->e_phoff);
	size_t len = 0;

	for (unsigned i = 0; i < e->e_phnum; i++)
		if (p[i].p_type == PT_LOAD && p[i].p_vaddr + p[i].p_memsz > len)
			len = p[i].p_vaddr + p[i].p_memsz;
	return page_up(len);
}

/*
 * A vDSO that cannot be moved (a kernel may seal it) is not used: system calls tell the time too.
 */
static int move_vdso(void)
{
	Elf64_auxv_t *a = my_aux();
	struct block room, left;
	uint8_t *from, *to;
	size_t len;
	int r;

	while (a->a_type != AT_NULL && a->a_type != AT_SYSINFO_EHDR)
		a++;
	if (a->a_type == AT_NULL)
		return 0;
	from = (uint8_t *)a->a_un.a_val;
	len = vdso_len((const void *)from);
	r = reserve(2 * VVAR_PAGES * PAGE + len, &room);
	if (r < 0)
		return r;
	room.len -= len;
	left = room;
	to = (uint8_t *)room.start + room.len;
	if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED)
		left = move_data(from, room);
	drop(left);
	a->a_un.a_val = (uintptr_t)to;
	if (left.len == room.len) {
		drop((struct block){ from, len });
		drop((struct block){ to, len });
		a->a_type = AT_IGNORE;
	}
	return 0;
}

/*
 * The kernel maps at the highest place that is free. What is free above the gap, where the first
 * program was and where it is aligned downwards, is used up for good.
 */
static void fill_holes(const uint8_t *gap)
{
	for (size_t len = HOLE_MAX; len >= PAGE; len /= 2) {
		for (;;) {
			uint8_t *p = mmap(NULL, len, PROT_NONE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

			if (p == MAP_FAILED)
				return;
			if (p < gap) {
				munmap(p, len);
				break;
			}
		}
	}
}

/*
 * The kernel would let the heap go on from where it was: a page in its way makes brk fail, and the
 * C library maps memory instead.
 */
static void end_heap(void)
{
	uintptr_t end = (uintptr_t)syscall(SYS_brk, 0);

	mmap((void *)page_up(end), PAGE, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

static int make_gap(void)
{
	uint64_t r;
	void *gap;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		return -EAGAIN;
	my_gap.len = page_down(r % GAP_MAX) + HOLE_MAX;
	gap = mmap(NULL, my_gap.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (gap == MAP_FAILED)
		return -errno;
	my_gap.start = gap;
	return 0;
}

int renew_settle(void)
{
	const struct handed *h = (const struct handed *)getauxval(AUX_HANDED);
	int r;

	if (!h)
		return 0;
	my_stack = h->my_stack;
	drop(h->image);
	drop(h->stack);
	drop(h->gap);
	drop(h->map);
	r = move_vdso();
	if (r == 0)
		r = make_gap();
	if (r < 0)
		return r;
	fill_holes(my_gap.start);
	if (h->shown.len == 0)
		return 0;
	end_heap();
	return mprotect(h->shown.start, h->shown.len, PROT_READ) < 0 ? -errno : 0;
}

#else

int renew_in_place(char *const *argv, void *map, size_t map_len)
{
	return -ENOSYS;
}

int renew_settle(void)
{
	return 0;
}

#endif
