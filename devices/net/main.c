/*
 * vmdev-net: a vhost-user network device.
 *
 * Runs in: every process of the device. Trusts: its arguments.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "devices/base/log.h"
#include "devices/base/parse.h"
#include "devices/net/net.h"
#include "devices/process/contract.h"
#include "devices/process/program.h"

static int set_side(void *config, const char *value)
{
	((struct net_config *)config)->host.side = value;
	return host_side_find(value) ? 0 : -EINVAL;
}

static int set_number(const char *value, uint64_t min, uint64_t max, uint32_t *ret)
{
	uint64_t v;
	int r = parse_u64(value, min, max, &v);

	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

static int set_tap(void *config, const char *value)
{
	((struct net_config *)config)->host.path = value;
	return 0;
}

static int set_generate(void *config, const char *value)
{
	return set_number(value, NET_ETH_LEN, NET_MAX_FRAME_LEN,
			  &((struct net_config *)config)->host.generate_len);
}

/* "52:54:00:12:34:56", of one station: neither a group's nor zero. */
static int set_mac(void *config, const char *value)
{
	uint8_t *mac = ((struct net_config *)config)->mac;
	int end = 0;

	if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &end) != 6 ||
	    strlen(value) != 17 || end != 17 || (mac[0] & 1))
		return -EINVAL;
	return 0;
}

static int set_bound(void *config, const char *value)
{
	((struct net_config *)config)->bound = true;
	return 0;
}

/* As filter.h has them: IPv4 as ::ffff:a.b.c.d. */
static int set_address(void *config, const char *value)
{
	struct net_config *c = config;
	uint8_t *address = c->addresses[c->n_addresses];

	if (c->n_addresses == CONTRACT_SWITCH_MAX_ADDRESSES)
		return -E2BIG;
	if (inet_pton(AF_INET, value, address + 12) == 1)
		address[10] = address[11] = 0xff;
	else if (inet_pton(AF_INET6, value, address) != 1)
		return -EINVAL;
	c->n_addresses++;
	return 0;
}

static int set_port(void *config, const char *value)
{
	((struct net_config *)config)->host.port = value;
	return 0;
}

static int set_mtu(void *config, const char *value)
{
	return set_number(value, NET_MTU_MIN, NET_MTU_MAX, &((struct net_config *)config)->mtu);
}

static int set_speed(void *config, const char *value)
{
	return set_number(value, 0, NET_SPEED_MAX, &((struct net_config *)config)->speed);
}

static int set_iops(void *config, const char *value)
{
	return parse_u64(value, 1, CONTRACT_IOPS_MAX, &((struct net_config *)config)->iops);
}

static int set_bandwidth(void *config, const char *value)
{
	return parse_u64(value, CONTRACT_BANDWIDTH_MIN, CONTRACT_BANDWIDTH_MAX,
			 &((struct net_config *)config)->bandwidth);
}

static const struct options_row rows[] = {
	{ "side", "NAME", "where frames go and come from: null, tap, switch or user", set_side },
	{ "tap", "NAME", "tap: the interface, made if it is not there", set_tap },
	{ "generate", "LEN", "null: make frames of so many bytes without end", set_generate },
	{ "port", "FD,FD,...", "switch, user: memory, eventfd, and an eventfd a queue", set_port },
	{ "mac", "MAC", "the guest's address", set_mac },
	{ "mac-filter", NULL, "frames from other addresses than --mac's are dropped", set_bound },
	{ "address", "IP",
	  "with --mac-filter: an IP address that the guest may use, up to 16, no others",
	  set_address },
	{ "mtu", "N", "the MTU that the guest is told", set_mtu },
	{ "speed", "MBIT", "the speed that the guest is told (default: unknown)", set_speed },
	{ "iops", "N", "packets per second, at most, each way", set_iops },
	{ "bandwidth", "BYTES", "bytes per second, at most, each way (4000 or more)",
	  set_bandwidth },
	{ NULL, NULL, NULL, NULL },
};

static int arrange(void *config, const struct options *o)
{
	struct net_config *c = config;

	if (!c->host.side) {
		log_error("give --side=NAME (see --help)");
		return -EINVAL;
	}
	c->host.n_queues = net_n_pairs(o);
	return host_side_find(c->host.side)->arrange(&c->host);
}

int main(int argc, char **argv)
{
	static struct net_config config = { .mac = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 },
					    .speed = NET_SPEED_UNKNOWN };
	static struct program program = {
		.type = "net",
		.capabilities = "{\"type\": \"net\", \"features\": []}",
		.options = rows,
		.config = &config,
		.fd_limit = CONTRACT_FD_LIMIT,
		.n_rings_each = 2,
		.n_extra_queues = NET_EXTRA_QUEUES,
		.thread_of = net_thread_of,
		.arrange = arrange,
		.create = net_create,
	};

	program.state_len = net_state_len();
	return argc > 0 ? program_main(&program, argv) : 2;
}
