/* A stream of frames, given in pieces: the first byte of each says how long it is. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/switch/stream.h"
#include "tests/hostile/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int pair[2];
	struct stream *s;
	enum stream_verdict v = STREAM_AGAIN;
	size_t written = 0, seen = 0;

	CLAIM(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	s = stream_new(pair[0]);
	CLAIM(s);
	while (len > 1 && v == STREAM_AGAIN) {
		size_t n = data[0] < len - 1 ? data[0] : len - 1;

		CLAIM(write(pair[1], data + 1, n) == (ssize_t)n);
		written += n;
		data += 1 + n;
		len -= 1 + n;
		while ((v = stream_receive(s)) == STREAM_OK) {
			const void *record;
			uint32_t record_len;

			while ((v = stream_look(s, &record, &record_len)) == STREAM_OK) {
				uint8_t sum = 0;

				CLAIM(record_len >= LANE_MIN_LEN && record_len <= LANE_MAX_LEN);
				for (uint32_t i = 0; i < record_len; i++)
					sum ^= ((const uint8_t *)record)[i];
				seen += STREAM_PREFIX_LEN + record_len - LANE_HEADER_LEN +
					(sum & 0);
				stream_next(s);
			}
			if (v == STREAM_BAD_LEN)
				break;
		}
	}
	CLAIM(seen <= written);
	CLAIM(v == STREAM_AGAIN || v == STREAM_BAD_LEN);
	stream_free(s);
	close(pair[1]);
	return 0;
}
