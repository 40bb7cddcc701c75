/* Values that a person wrote: the first byte chooses the parser, the rest is the text. */
#include <errno.h>
#include <string.h>

#include "devices/base/parse.h"
#include "tests/hostile/fuzz/fuzz.h"

static int parse(uint8_t which, const char *text, uint64_t *ret_v)
{
	bool b = false;
	int r;

	switch (which % 4) {
	case 0:
		r = parse_u64(text, 10, UINT64_C(1) << 60, ret_v);
		CLAIM(r < 0 || (*ret_v >= 10 && *ret_v <= UINT64_C(1) << 60));
		return r;
	case 1:
		return parse_size(text, ret_v);
	case 2:
		return parse_time_usec(text, ret_v);
	default:
		r = parse_bool(text, &b);
		if (r == 0)
			*ret_v = b;
		return r;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint64_t untouched = UINT64_C(0x5ca1ab1e5ca1ab1e);
	uint64_t v = untouched;
	char *text;
	int r;

	if (len == 0)
		return 0;
	text = strndup((const char *)data + 1, len - 1);
	CLAIM(text);
	r = parse(data[0], text, &v);
	CLAIM(r == 0 || r == -EINVAL || r == -ERANGE);
	CLAIM(r == 0 || v == untouched);
	free(text);
	return 0;
}
