/*
 * guest-sockets: both ends of streams that are checked byte by byte, in a guest or on the host.
 *
 *	guest-sockets serve ADDRESS [OPTION…]	accept, and talk to whoever connects
 *	guest-sockets dial ADDRESS [OPTION…]	connect --streams times, and talk
 *
 *	ADDRESS		vsock:CID:PORT (serve: any CID), unix:PATH, hybrid:PATH:PORT ("CONNECT PORT" first)
 *	--streams=N	dial: at once (1)			--rounds=N	dial: one after the other (1)
 *	--bytes=N	each way; 0: until told to stop (65536)	--seqpacket	messages, not a stream
 *	--chunk=N	largest write (65536)			--seed=N	what the bytes are (1)
 *	--slow=N	stream 0 reads N bytes a second		--idle		send nothing until told to stop
 *	--half		send all, half-close, then read		--seconds=N	end by itself (0: never)
 *
 * Both directions of a stream are pseudo-random bytes that depend on seed, stream and position, in chunks with
 * a length in front; the last one has the number of bytes in all. So a byte that is lost, doubled or changed shows, at the
 * end too. Ends when --bytes have gone each way, or when "stop" comes in on standard input, and prints one JSON line. Exit
 * status: 0 every byte was there once, 1 not so, 2 could not run, 3 stuck.
 *
 * Runs in: the test guest, static; the host.
 * Trusts:  nothing that its peer sends.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_STREAMS = 4096,
	MAX_CHUNK = 256 << 10,
	HEAD_LEN = 4,
	TAIL_LEN = 12,
	HELLO_LEN = 16,
	EXIT_WRONG = 1,
	EXIT_CANNOT = 2,
	EXIT_STUCK = 3,
	STALL_S = 60,
	MAX_COMPLAINTS = 20,
};
#define LAST  UINT32_C(0xffffffff)
#define HELLO UINT64_C(0x766d6465762d7673)

struct options {
	const char *address;
	unsigned long long streams, rounds, bytes, chunk, seed, slow, seconds, idle, half,
		seqpacket;
	bool serve;
};

enum phase { GREETING, TALKING, OVER };

/* One direction of a stream. */
struct way {
	uint64_t key, pos;
	uint32_t left;	/* of the chunk, payload */
	bool last_seen; /* its end has been sent, or received */
	bool eof;
};

struct stream {
	int fd;
	unsigned id;
	enum phase phase;
	bool dialled, failed;
	struct way tx, rx;
	uint8_t *out; /* what is being sent */
	uint32_t out_len, out_at;
	uint8_t in[MAX_CHUNK + TAIL_LEN]; /* not parsed yet: heads and tails may come in pieces */
	uint32_t in_len;
	uint64_t next_read_ns;
	bool has_sender;
	int send_error;
	pthread_t sender;
};

static struct options o = { .streams = 1, .rounds = 1, .bytes = 65536, .chunk = 65536, .seed = 1 };
static struct stream *streams[MAX_STREAMS];
static unsigned n_streams, n_started, n_done;
static volatile bool stopping;
static uint64_t n_sent, n_received, n_mismatches, n_resets, n_lost, n_refused, last_ns, slowest_ns;
static unsigned n_complaints;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void progressed(void)
{
	uint64_t now = now_ns();

	uint64_t last = __atomic_exchange_n(&last_ns, now, __ATOMIC_RELAXED);

	if (last && now > last && now - last > slowest_ns)
		slowest_ns = now - last;
}

static void complain(const struct stream *s, const char *what)
{
	if (n_complaints++ < MAX_COMPLAINTS)
		printf("@wrong stream %u (%s): %s at %llu sent, %llu received\n", s->id,
		       s->dialled ? "dialled" : "accepted", what, (unsigned long long)s->tx.pos,
		       (unsigned long long)s->rx.pos);
	fflush(stdout);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static void pattern(uint64_t key, uint64_t pos, uint8_t *to, uint32_t len)
{
	for (uint32_t i = 0; i < len;) {
		uint64_t word = mix(key + (pos + i) / 8);
		uint32_t at = (pos + i) % 8, n = 8 - at < len - i ? 8 - at : len - i;

		memcpy(to + i, (uint8_t *)&word + at, n);
		i += n;
	}
}

/* Sending */

static uint64_t limit_of(const struct stream *s)
{
	if (stopping)
		return s->tx.pos;
	return o.bytes ? o.bytes : UINT64_MAX;
}

static void next_chunk(struct stream *s)
{
	uint64_t limit = limit_of(s), len = 1 + mix(s->tx.key ^ s->tx.pos) % o.chunk;
	uint32_t head;

	s->out_at = 0;
	if (o.idle && !stopping)
		return;
	if (s->tx.pos >= limit) {
		head = LAST;
		memcpy(s->out, &head, HEAD_LEN);
		memcpy(s->out + HEAD_LEN, &s->tx.pos, sizeof(s->tx.pos));
		s->out_len = TAIL_LEN;
		s->tx.last_seen = true;
		return;
	}
	if (len > limit - s->tx.pos)
		len = limit - s->tx.pos;
	head = (uint32_t)len;
	memcpy(s->out, &head, HEAD_LEN);
	pattern(s->tx.key, s->tx.pos, s->out + HEAD_LEN, head);
	s->tx.pos += len;
	s->out_len = HEAD_LEN + head;
}

static void over(struct stream *s, bool failed)
{
	if (s->phase == OVER)
		return;
	shutdown(s->fd, SHUT_RDWR);
	if (s->has_sender)
		pthread_join(s->sender, NULL);
	close(s->fd);
	s->fd = -1;
	s->phase = OVER;
	s->failed |= failed;
	free(s->out);
	s->out = NULL;
	n_done++;
}

static void lost(struct stream *s, const char *what)
{
	int error = errno;

	if (error == ECONNRESET || error == EPIPE || error == ENOTCONN)
		n_resets++;
	else
		n_lost++;
	complain(s, what);
	over(s, true);
}

static void send_some(struct stream *s)
{
	ssize_t n;

	if (s->out_at == s->out_len && !s->tx.last_seen)
		s->out_len = 0, next_chunk(s);
	if (s->out_at == s->out_len)
		return;
	n = send(s->fd, s->out + s->out_at, s->out_len - s->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		lost(s, strerror(errno));
		return;
	}
	if (n <= 0)
		return;
	progressed();
	n_sent += (uint64_t)n;
	s->out_at += (uint32_t)n;
	if (s->out_at == s->out_len && s->tx.last_seen) {
		shutdown(s->fd, SHUT_WR);
		s->tx.eof = true;
	}
}

/*
 * Messages are sent by a thread of their own that may wait: Linux sends the beginning of a message for which there is
 * no room yet, says EAGAIN to who does not want to wait, and makes another message of the rest.
 */
static void *send_messages(void *arg)
{
	struct stream *s = arg;

	while (!s->tx.last_seen) {
		if (o.idle && !stopping) {
			usleep(10000);
			continue;
		}
		s->out_len = 0;
		next_chunk(s);
		if (send(s->fd, s->out, s->out_len, MSG_NOSIGNAL) != (ssize_t)s->out_len) {
			s->send_error = errno;
			return NULL;
		}
		__atomic_fetch_add(&n_sent, s->out_len, __ATOMIC_RELAXED);
		__atomic_store_n(&last_ns, now_ns(), __ATOMIC_RELAXED);
	}
	shutdown(s->fd, SHUT_WR);
	__atomic_store_n(&s->tx.eof, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Receiving */

/* One part of what is there: its length; 0: it is not complete. */
static uint32_t parse_one(struct stream *s, const uint8_t *p, uint32_t len)
{
	static uint8_t expected[MAX_CHUNK + TAIL_LEN];
	uint32_t head;
	uint64_t total;

	if (s->rx.left > 0) {
		uint32_t n = len < s->rx.left ? len : s->rx.left;

		pattern(s->rx.key, s->rx.pos, expected, n);
		if (memcmp(expected, p, n) != 0) {
			n_mismatches++;
			complain(s, "other bytes than were sent");
			over(s, true);
		}
		s->rx.pos += n;
		s->rx.left -= n;
		return n;
	}
	if (len < HEAD_LEN)
		return 0;
	memcpy(&head, p, HEAD_LEN);
	if (head != LAST) {
		s->rx.left = head;
		if (head == 0 || head > MAX_CHUNK) {
			n_mismatches++;
			complain(s, "no chunk begins here");
			over(s, true);
		}
		return HEAD_LEN;
	}
	if (len < TAIL_LEN)
		return 0;
	memcpy(&total, p + HEAD_LEN, sizeof(total));
	if (total != s->rx.pos || s->rx.last_seen) {
		n_mismatches++;
		complain(s, "another number of bytes than were sent");
	}
	s->rx.last_seen = true;
	return TAIL_LEN;
}

static void parse(struct stream *s)
{
	uint32_t at = 0, n;

	while (s->phase == TALKING && at < s->in_len &&
	       (n = parse_one(s, s->in + at, s->in_len - at)) > 0)
		at += n;
	memmove(s->in, s->in + at, s->in_len - at);
	s->in_len -= at;
}

static void receive_some(struct stream *s)
{
	uint32_t room = (uint32_t)sizeof(s->in) - s->in_len;
	ssize_t n;

	if (o.slow && s->id == 0) {
		if (now_ns() < s->next_read_ns)
			return;
		room = room < 4096 ? room : 4096;
		s->next_read_ns = now_ns() + room * UINT64_C(1000000000) / o.slow;
	}
	n = recv(s->fd, s->in + s->in_len, room, MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		lost(s, strerror(errno));
		return;
	}
	if (n == 0) {
		s->rx.eof = true;
		if (!s->rx.last_seen || s->in_len > 0) {
			errno = 0;
			lost(s, "the stream ended too early");
		}
	}
	if (n <= 0)
		return;
	progressed();
	n_received += (uint64_t)n;
	s->in_len += (uint32_t)n;
	/* A message is a chunk, all of it. */
	if (o.seqpacket && s->rx.left == 0 && n >= HEAD_LEN) {
		uint32_t head;

		memcpy(&head, s->in, HEAD_LEN);
		if (n != (head == LAST ? TAIL_LEN : HEAD_LEN + (ssize_t)head)) {
			n_mismatches++;
			complain(s, "a message of another length than was sent");
		}
	}
	parse(s);
}

/* Beginnings */

static void talk(struct stream *s, uint64_t key)
{
	s->tx.key = mix(key * 2 + s->dialled);
	s->rx.key = mix(key * 2 + !s->dialled);
	s->phase = TALKING;
	if (!o.seqpacket)
		return;
	fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) & ~O_NONBLOCK);
	if (pthread_create(&s->sender, NULL, send_messages, s) != 0) {
		printf("@wrong no thread\n");
		exit(EXIT_CANNOT);
	}
	s->has_sender = true;
}

/* Who has dialled says which stream it is. */
static void greet(struct stream *s, uint64_t key)
{
	uint64_t hello[2] = { HELLO, key };

	if (send(s->fd, hello, HELLO_LEN, MSG_NOSIGNAL) != HELLO_LEN) {
		n_refused++;
		over(s, true);
		return;
	}
	talk(s, key);
}

static void be_greeted(struct stream *s)
{
	uint64_t hello[2];
	ssize_t n = recv(s->fd, (uint8_t *)s->in + s->in_len, HELLO_LEN - s->in_len, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		/* Somebody looked whether we are there. */
		if (s->in_len > 0)
			lost(s, "no greeting");
		over(s, true);
		return;
	}
	if (n > 0)
		s->in_len += (uint32_t)n;
	if (s->in_len < HELLO_LEN)
		return;
	memcpy(hello, s->in, HELLO_LEN);
	s->in_len = 0;
	if (hello[0] != HELLO) {
		n_mismatches++;
		complain(s, "no greeting");
		over(s, true);
		return;
	}
	s->id = (unsigned)hello[1];
	talk(s, hello[1]);
}

static struct stream *stream_new(int fd, bool dialled, unsigned id)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s || !(s->out = malloc(MAX_CHUNK + TAIL_LEN))) {
		printf("@wrong no memory\n");
		exit(EXIT_CANNOT);
	}
	s->fd = fd;
	s->dialled = dialled;
	s->id = id;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	streams[n_streams++] = s;
	return s;
}

static int parse_address(char *text, struct sockaddr_storage *a, socklen_t *len, char **connect_to)
{
	struct sockaddr_un *un = (void *)a;
	struct sockaddr_vm *vm = (void *)a;
	char *word = strchr(text, ':'), *last;

	memset(a, 0, sizeof(*a));
	if (!word)
		return -1;
	*word++ = '\0';
	last = strrchr(word, ':');
	*connect_to = NULL;
	if (strcmp(text, "vsock") == 0 && last) {
		*vm = (struct sockaddr_vm){ .svm_family = AF_VSOCK,
					    .svm_cid = (unsigned)strtoul(word, NULL, 0),
					    .svm_port = (unsigned)strtoul(last + 1, NULL, 0) };
		*len = sizeof(*vm);
		return 0;
	}
	if (strcmp(text, "hybrid") == 0 && last) {
		*last = '\0';
		*connect_to = last + 1;
	} else if (strcmp(text, "unix") != 0) {
		return -1;
	}
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s", word);
	*len = sizeof(*un);
	return 0;
}

static struct sockaddr_storage address;
static socklen_t address_len;
static char *hybrid_port;

static int new_socket(void)
{
	int fd = socket(address.ss_family,
			(o.seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		printf("@wrong no socket: %s\n", strerror(errno));
		exit(EXIT_CANNOT);
	}
	return fd;
}

/* "CONNECT PORT", and the "OK" that answers it. */
static bool ask(int fd)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "CONNECT %s\n", hybrid_port), at = 0;

	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		return false;
	while (at < 63) {
		ssize_t got = recv(fd, line + at, o.seqpacket ? 63 : 1, 0);

		if (got <= 0)
			return false;
		at += (int)got;
		if (line[at - 1] == '\n')
			break;
	}
	return strncmp(line, "OK ", 3) == 0;
}

static void dial_one(unsigned id)
{
	struct stream *s;
	int fd = new_socket();
	bool ok = connect(fd, (struct sockaddr *)&address, address_len) == 0;

	if (ok && hybrid_port)
		ok = ask(fd);
	if (!ok) {
		n_refused++;
		if (n_complaints++ < MAX_COMPLAINTS)
			printf("@wrong stream %u is refused: %s\n", id, strerror(errno));
		close(fd);
		n_started++;
		n_done++;
		return;
	}
	progressed();
	n_started++;
	s = stream_new(fd, true, id);
	greet(s, o.seed * 100000 + id);
}

static int listen_here(void)
{
	struct sockaddr_vm *vm = (void *)&address;
	int fd = new_socket();

	if (address.ss_family == AF_VSOCK)
		vm->svm_cid = VMADDR_CID_ANY;
	else
		unlink(((struct sockaddr_un *)&address)->sun_path);
	if (bind(fd, (struct sockaddr *)&address, address_len) < 0 || listen(fd, 1024) < 0) {
		printf("@wrong cannot listen: %s\n", strerror(errno));
		exit(EXIT_CANNOT);
	}
	printf("@listening\n");
	fflush(stdout);
	return fd;
}

/* The loop */

static short wanted(struct stream *s)
{
	short events = 0;

	if (s->phase == GREETING)
		return POLLIN;
	if (!s->rx.eof && !(o.slow && s->id == 0 && now_ns() < s->next_read_ns) &&
	    !(o.half && s->dialled && !s->tx.eof))
		events |= POLLIN;
	if (!o.seqpacket && !s->tx.eof && (s->out_at < s->out_len || !o.idle || stopping))
		events |= POLLOUT;
	return events;
}

static void serve_stream(struct stream *s, short revents)
{
	if (s->phase == GREETING && revents)
		be_greeted(s);
	if (s->phase == TALKING && (revents & (POLLIN | POLLHUP | POLLERR)))
		receive_some(s);
	if (s->phase == TALKING && s->send_error) {
		errno = s->send_error;
		lost(s, strerror(errno));
	}
	if (s->phase == TALKING && (revents & POLLOUT))
		send_some(s);
	if (s->phase == TALKING && s->tx.eof && s->rx.eof)
		over(s, false);
}

static void forget_done(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_streams; i++)
		if (streams[i]->phase == OVER)
			free(streams[i]);
		else
			streams[n++] = streams[i];
	n_streams = n;
}

static void progress_line(uint64_t now)
{
	static uint64_t next_ns;

	if (now < next_ns)
		return;
	next_ns = now + 500000000;
	printf("@load {\"ios\":%llu,\"errors\":%llu,\"mismatches\":%llu,\"streams\":%u}\n",
	       (unsigned long long)((n_sent + n_received) / 4096),
	       (unsigned long long)(n_resets + n_lost + n_refused),
	       (unsigned long long)n_mismatches, n_streams);
	fflush(stdout);
}

static void read_input(struct pollfd *p)
{
	char text[64];
	ssize_t n = read(0, text, sizeof(text) - 1);

	if (n <= 0) {
		p->fd = -1;
		return;
	}
	text[n] = '\0';
	if (strstr(text, "stop"))
		stopping = true;
}

static int result(bool stuck)
{
	bool wrong = n_mismatches || n_resets || n_lost || n_refused || stuck;

	printf("@done "
	       "{\"kind\":\"sockets\",\"streams\":%u,\"sent\":%llu,\"received\":%llu,"
	       "\"mismatches\":%llu,"
	       "\"resets\":%llu,\"lost\":%llu,\"refused\":%llu,\"errors\":%llu,\"stalled\":%s,"
	       "\"slowest_ms\":%.3f,\"ios\":%llu}\n",
	       n_started, (unsigned long long)n_sent, (unsigned long long)n_received,
	       (unsigned long long)n_mismatches, (unsigned long long)n_resets,
	       (unsigned long long)n_lost, (unsigned long long)n_refused,
	       (unsigned long long)(n_resets + n_lost + n_refused), stuck ? "true" : "false",
	       (double)slowest_ns / 1e6, (unsigned long long)((n_sent + n_received) / 4096));
	fflush(stdout);
	return stuck ? EXIT_STUCK : wrong ? EXIT_WRONG : 0;
}

static bool finished(unsigned to_dial)
{
	if (n_streams > 0)
		return false;
	return o.serve ? stopping || (o.streams > 0 && n_done >= o.streams && !o.idle && o.bytes)
		       : to_dial == 0 || stopping;
}

static int run(void)
{
	static struct pollfd p[MAX_STREAMS + 2];
	static struct stream *of[MAX_STREAMS + 2];
	unsigned to_dial = o.serve ? 0 : (unsigned)(o.streams * o.rounds), next_id = 0;
	int listener = o.serve ? listen_here() : -1;
	uint64_t end_ns = o.seconds ? now_ns() + o.seconds * UINT64_C(1000000000) : 0;

	p[0] = (struct pollfd){ .fd = 0, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
	last_ns = now_ns();
	while (!finished(to_dial)) {
		unsigned n = 2;
		uint64_t now;

		while (to_dial > 0 && n_streams < o.streams && !stopping) {
			dial_one(next_id++);
			to_dial--;
		}
		now = now_ns();
		if (end_ns && now >= end_ns)
			stopping = true;
		if (now > last_ns && now - last_ns > STALL_S * UINT64_C(1000000000) &&
		    n_streams > 0 && !o.idle)
			return result(true);
		for (unsigned i = 0; i < n_streams; i++) {
			of[n] = streams[i];
			p[n++] = (struct pollfd){ .fd = streams[i]->fd,
						  .events = wanted(streams[i]) };
		}
		poll(p, n, o.slow ? 10 : 100);
		if (p[0].revents)
			read_input(&p[0]);
		if (p[1].revents && n_streams < MAX_STREAMS) {
			int fd = accept(listener, NULL, NULL);

			if (fd >= 0) {
				n_started++;
				stream_new(fd, false, 0);
				progressed();
			}
		}
		for (unsigned i = 2; i < n; i++)
			serve_stream(of[i], p[i].revents);
		forget_done();
		progress_line(now);
	}
	return result(false);
}

static int parse_options(int argc, char *argv[])
{
	const struct {
		const char *name;
		unsigned long long *number;
		int has;
	} rows[] = {
		{ "streams", &o.streams, 1 }, { "rounds", &o.rounds, 1 },
		{ "bytes", &o.bytes, 1 },     { "chunk", &o.chunk, 1 },
		{ "seed", &o.seed, 1 },	      { "slow", &o.slow, 1 },
		{ "seconds", &o.seconds, 1 }, { "idle", &o.idle, 0 },
		{ "half", &o.half, 0 },	      { "seqpacket", &o.seqpacket, 0 },
	};
	enum { N_ROWS = sizeof(rows) / sizeof(*rows) };
	struct option options[N_ROWS + 1] = { 0 };
	int idx;

	for (unsigned i = 0; i < N_ROWS; i++)
		options[i] = (struct option){ rows[i].name, rows[i].has, NULL, 1 };
	for (int c; (c = getopt_long(argc, argv, "", options, &idx)) != -1;) {
		if (c != 1)
			return -1;
		*rows[idx].number = optarg ? strtoull(optarg, NULL, 10) : 1;
	}
	if (argc - optind != 2)
		return -1;
	o.serve = strcmp(argv[optind], "serve") == 0;
	if (!o.serve && strcmp(argv[optind], "dial") != 0)
		return -1;
	if (o.streams > MAX_STREAMS || o.chunk < 1 || o.chunk > MAX_CHUNK - HEAD_LEN)
		return -1;
	return parse_address(argv[optind + 1], &address, &address_len, &hybrid_port);
}

int main(int argc, char *argv[])
{
	struct rlimit files = { 8192, 8192 };

	if (parse_options(argc, argv) < 0) {
		fprintf(stderr, "usage: see the head of tests/e2e/guest/sockets.c\n");
		return EXIT_CANNOT;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	return run();
}
