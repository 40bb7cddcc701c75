/*
 * guest-frames: how long the longest frames on an interface are while a command runs.
 *
 *	guest-frames INTERFACE COMMAND [ARGUMENT...]
 *
 * When the command has ended: "@frames {"received":N,"sent":N}", lengths with the Ethernet header. A packet socket sees a
 * frame as the driver gives or takes it, before anybody cuts it up or after: one that is longer than the MTU has been
 * carried whole. A receiver's own GRO would join frames before they are seen: who wants to know turns it off.
 *
 * Runs in: the test guest, static; or in the network namespace of a test. Trusts: its arguments.
 * Exit status: the command's; 2 when the interface cannot be watched.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	BUFFER_LEN = 16 << 20, /* of the socket: what finds no place is not seen */
	EXIT_CANNOT = 2,
};

struct longest {
	ssize_t received, sent;
};

static int watch(const char *interface)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET,
				    .sll_protocol = htons(ETH_P_ALL),
				    .sll_ifindex = (int)if_nametoindex(interface) };
	int fd, len = BUFFER_LEN;

	if (link.sll_ifindex == 0)
		return -1;
	/* Without a protocol nothing comes before it is bound: no other interface's frames. */
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0 ||
	    bind(fd, (struct sockaddr *)&link, sizeof(link)) < 0)
		return -1;
	return fd;
}

static void take(int fd, struct longest *longest)
{
	for (;;) {
		struct sockaddr_ll from;
		socklen_t from_len = sizeof(from);
		char byte;
		ssize_t n = recvfrom(fd, &byte, sizeof(byte), MSG_TRUNC, (struct sockaddr *)&from,
				     &from_len),
			*most;

		if (n < 0)
			return;
		most = from.sll_pkttype == PACKET_OUTGOING ? &longest->sent : &longest->received;
		if (n > *most)
			*most = n;
	}
}

static int run(int packets, char **command, struct longest *longest)
{
	pid_t pid = fork();
	struct pollfd fds[2] = { { .fd = packets, .events = POLLIN }, { .events = POLLIN } };
	int status;

	if (pid == 0) {
		(void)execvp(command[0], command);
		perror(command[0]);
		_exit(EXIT_CANNOT);
	}
	fds[1].fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (fds[1].fd < 0)
		return -1;
	do {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -1;
		take(packets, longest);
	} while (!fds[1].revents);
	take(packets, longest);
	if (waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct longest longest = { 0 };
	int packets, status;

	if (argc < 3) {
		fputs("guest-frames: give INTERFACE COMMAND [ARGUMENT...]\n", stderr);
		return EXIT_CANNOT;
	}
	packets = watch(argv[1]);
	if (packets < 0) {
		perror(argv[1]);
		return EXIT_CANNOT;
	}
	status = run(packets, argv + 2, &longest);
	if (status < 0) {
		perror(argv[2]);
		return EXIT_CANNOT;
	}
	printf("@frames {\"received\":%zd,\"sent\":%zd}\n", longest.received, longest.sent);
	return status;
}
