/*
 * The switch, given: what vmdevd says of a port, the words of that port's memory, and records in
 * it. The second port is honest: what reaches it is a frame, and one that its port may have.
 */
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/net/switch/control.h"
#include "devices/net/switch/fabric.h"
#include "tests/hostile/fuzz/fuzz.h"

static struct fabric fabric;

/* What the fuzzer says of its port, cut down to what can be opened. */
static struct port_spec said(const uint8_t **data, size_t *len)
{
	struct control_message m = { .n_fds = 3 };
	size_t n = *len < 80 ? *len : 80;

	if (!control_parse(&m, *data, n) || m.type != CONTRACT_SWITCH_MSG_PORT)
		m.port = (struct port_spec){ .flags = n > 0 ? **data : 0,
					     .n_vlans = 1,
					     .vlans = { { 1, 4094 } },
					     .mac = { 2 } };
	m.port.n_queues = 1;
	m.port.id = 1;
	*data += n;
	*len -= n;
	return m.port;
}

static int add(const struct port_spec *spec, int memory)
{
	int fds[3], r = 0;
	struct port *p;

	fds[0] = dup(memory);
	fds[1] = eventfd(0, EFD_NONBLOCK);
	fds[2] = eventfd(0, EFD_NONBLOCK);
	p = port_new(spec, fds, &r);
	CLAIM(p);
	return fabric_add(&fabric, p);
}

static void check_honest(struct lane *in)
{
	const uint8_t *record;
	uint32_t len;

	while ((record = lane_look(in, &len)) != NULL) {
		struct virtio_net_hdr_v1 v;

		memcpy(&v, record, sizeof(v));
		CLAIM(len >= LANE_MIN_LEN);
		CLAIM(v.num_buffers == 0 && !(v.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM));
		if (v.flags)
			CLAIM(v.csum_start + v.csum_offset + 2u <= len - LANE_HEADER_LEN);
		/* An access port: no tag but one that was hidden behind another. */
		CLAIM(!(record[LANE_HEADER_LEN + 6] & 1)); /* a group is no source */
		lane_next(in);
	}
	CLAIM(in->n_resets == 0);
	lane_release(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int memory = -1, honest = -1;
	static struct lane_map map, honest_map;
	struct port_spec spec = said(&data, &len);
	struct port_spec other = { .id = 2, .flags = CONTRACT_PORT_UNTAGGED, .n_queues = 1 };
	struct lane_words *words;
	struct lane in;

	if (memory < 0) {
		memory = fd_open_memfd("hostile", contract_port_len(1), 0);
		honest = fd_open_memfd("honest", contract_port_len(1), 0);
		CLAIM(memory >= 0 && honest >= 0);
		CLAIM(lane_map(&map, memory, 1) == 0 && lane_map(&honest_map, honest, 1) == 0);
	}
	words = map.area->words[0];
	memset(words, 0, sizeof(map.area->words[0]));
	lane_open_reader(&in, &honest_map, 0, LANE_TO_DEVICE);
	fabric_init(&fabric, 1);
	CLAIM(add(&other, honest) == 0);
	add(&spec, memory);
	/* The rest: a word of the positions at a time, then records. */
	for (uint32_t turn = 0; len > 8 && turn < 16; turn++) {
		uint32_t n = data[0] % 200u, head;

		n = n < len - 8 ? n : (uint32_t)(len - 8);
		head = __atomic_load_n(&words[LANE_TO_SWITCH].head, __ATOMIC_RELAXED) %
		       (LANE_RING_LEN - 1024);
		memcpy(map.rings + (head & ~15u), data + 8, n);
		memcpy(map.rings + (head & ~15u), data + 4, 4);
		if (data[1] & 1)
			memcpy(&words[data[1] >> 1 & 1].head, data + 2, 2);
		__atomic_store_n(&words[LANE_TO_SWITCH].tail,
				 data[1] & 4 ? head + data[2] * 257u
					     : words[LANE_TO_SWITCH].head + ((n + 19) & ~15u),
				 __ATOMIC_RELEASE);
		fabric_turn(&fabric, turn);
		check_honest(&in);
		data += 8 + n;
		len -= 8 + n;
	}
	fabric_remove(&fabric, 1);
	fabric_remove(&fabric, 2);
	return 0;
}
