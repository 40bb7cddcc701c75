/*
 * Documents: what is accepted, and that each bad one is refused with its file, line, key and the
 * accepted form.
 *
 * Runs in: the test. Trusts: nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/syntax.h"
#include "tests/unit/unit.h"

#define RUNTIME_DIR "/run/vmdev"

/* A whole document around the members of its only device, which begin in line 4. */
#define BLK(members)                                                                               \
	"{\n\"vm\": \"web1\",\n\"devices\": { \"root\": {\n\"type\": \"blk\",\n\"path\": "         \
	"\"/a\"" members "\n} } }\n"

#define VSOCK(more)                                                                                \
	"{\n\"vm\": \"web1\",\n\"devices\": {\n\"root\": {\"type\": \"vsock\",\n\"uds\": "         \
	"\"/run/bus\"" more "}}}"

#define FS(members)                                                                                \
	"{\n\"vm\": \"web1\",\n\"devices\": { \"root\": {\n\"type\": \"fs\",\n\"path\": "          \
	"\"/a\", \"tag\": \"t\"" members "\n} } }\n"

static int parse(const char *text, size_t len, struct vm_config **ret, struct config_errors *errors)
{
	struct config_source source = {
		.file = "web1.json",
		.text = text,
		.len = len,
		.runtime_dir = RUNTIME_DIR,
	};

	return config_parse(&source, ret, errors);
}

static struct vm_config *parse_good(const char *text)
{
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	int r = parse(text, strlen(text), &vm, &errors);

	if (errors.n)
		print_error("%s\n", errors.lines[0]);
	assert_int_equal(r, 0);
	assert_int_equal(errors.n, 0);
	assert_non_null(vm);
	return vm;
}

#define NET(keys) "{\"vm\": \"a\",\n\"devices\": {\"x\": {\"type\": \"net\", " keys "}}}"

static const struct bad {
	const char *text;
	size_t len; /* 0: to the NUL */
	unsigned line;
	const char *key;  /* "": none, the text is not JSON */
	const char *form; /* a part of the message */
} bad_documents[] = {
	/* not JSON */
	{ "", 0, 1, "", "the document ends here" },
	{ "{", 0, 1, "", "the document ends here" },
	{ "{\n\"vm\": \"a\",\n}", 0, 3, "", "a key in double quotes" },
	{ "{\n\"vm\" \"a\"}", 0, 2, "", "':'" },
	{ "{\"vm\": 'a'}", 0, 1, "", "a string in double quotes" },
	{ "{ // a comment\n}", 0, 1, "", "a key in double quotes" },
	{ "{\"vm\": \"a\nb\"}", 0, 1, "", "a string ends on its own line" },
	{ "{\"vm\": \"a\\q\"}", 0, 1, "", "after a backslash" },
	{ "{\"vm\": \"\\u12g4\"}", 0, 1, "", "four hexadecimal digits" },
	{ "{\"vm\": \"\\u0000\"}", 0, 1, "", "NUL" },
	{ "{\"vm\": \"\\ud800\"}", 0, 1, "", "write the character itself" },
	{ "{\"v\\u006d\": \"a\"}", 0, 1, "", "a key without escapes" },
	{ "{\"vm\": \"\xff\"}", 0, 1, "", "not UTF-8" },
	{ "{\"vm\": \"\xc0\xaf\"}", 0, 1, "", "not UTF-8" },
	{ "{\"vm\": \"\xed\xa0\x80\"}", 0, 1, "", "not UTF-8" },
	{ "\xef\xbb\xbf{}", 0, 1, "", "expected a value" },
	{ "{\"vm\": \"a\0b\"}", 13, 1, "", "a string ends on its own line" },
	{ "{\"vm\": NaN}", 0, 1, "", "a value" },
	{ "{\"vm\": 0660}", 0, 1, "", "leading zero" },
	{ "{\"vm\": 1.}", 0, 1, "", "a digit" },
	{ "[[[[[[[[[[]]]]]]]]]]", 0, 1, "", "at most 8 levels" },
	{ BLK("") "{}", 0, 7, "", "nothing after the document" },
	{ "{\"vm\": \"a\",\n\"devices\": {},\n\"vm\": \"b\"}", 0, 3, "vm", "each key once" },
	{ BLK(",\n\"queues\": 1,\n\"queues\": 1"), 0, 7, "devices.root.queues", "each key once" },
	/* not a document of ours */
	{ "null", 0, 1, "", "an object with vm and devices" },
	{ "[]", 0, 1, "", "an object with vm and devices" },
	{ "42", 0, 1, "", "an object with vm and devices" },
	{ "{\n}", 0, 1, "", "\"vm\" is missing" },
	{ "{\n\"vm\": \"a\"\n}", 0, 1, "", "\"devices\" is missing" },
	{ "{\"vm\": \"a\",\n\"devices\": {}}", 0, 2, "devices", "1 to 64 devices" },
	{ "{\"vm\": \"a\",\n\"devices\": []}", 0, 2, "devices", "an object of" },
	{ "{\n\n\"vm\": \"a/b\"}", 0, 3, "vm", "letters, digits" },
	{ "{\"vm\": \"..\"}", 0, 1, "vm", "letters, digits" },
	{ "{\"vm\": \"\"}", 0, 1, "vm", "letters, digits" },
	{ "{\"vm\": \"bus\"}", 0, 1, "vm", "the daemon's own" },
	{ "{\"vm\": \"cids\"}", 0, 1, "vm", "the daemon's own" },
	{ "{\"vm\": \"cids.new\"}", 0, 1, "vm", "the daemon's own" },
	{ "{\"vm\": 7}", 0, 1, "vm", "letters, digits" },
	{ "{\"vm\": "
	  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
	  0, 1, "vm", "1 to 63" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"-x\": {}}}", 0, 3, "devices.-x", "1 to 63" },
	{ "{\"vm\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\n\"devices\": {\n"
	  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\": "
	  "{\"type\": \"blk\", \"path\": \"/a\"}}}",
	  0, 3, "devices.bbbb", "at most 107" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": \"blk\"}}", 0, 3, "devices.x", "an object" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {}}}", 0, 3, "devices.x",
	  "\"type\" is missing" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\n\"type\": \"disk\"}}}", 0, 4,
	  "devices.x.type", "expected \"blk\"" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\n\"type\": \"net\"}}}", 0, 3, "devices.x",
	  "connected to nothing; expected one of the keys \"tap\", \"switch\"" },
	/* what a net device is connected to */
	{ NET("\"switch\": {}"), 0, 2, "devices.x.switch", "\"name\" is missing" },
	{ NET("\"switch\": {\"name\": \"a/b\"}"), 0, 2, "devices.x.switch.name", "letters" },
	{ NET("\"switch\": {\"name\": \"l\", \"vlans\": 3}"), 0, 2, "devices.x.switch.vlans",
	  "unknown key" },
	{ NET("\"switch\": {\"name\": \"l\", \"vlan\": 0}"), 0, 2, "devices.x.switch.vlan",
	  "from 1 to 4094" },
	{ NET("\"switch\": {\"name\": \"l\", \"vlan\": 4095}"), 0, 2, "devices.x.switch.vlan",
	  "from 1 to 4094" },
	{ NET("\"switch\": {\"name\": \"l\", \"vlan\": 3, \"native\": 3}"), 0, 2, "devices.x",
	  "for a port that has one VLAN" },
	{ NET("\"switch\": {\"name\": \"l\", \"native\": 3}"), 0, 2, "devices.x", "for a trunk" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": []}"), 0, 2, "devices.x.switch.trunk",
	  "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": [\"9-5\"]}"), 0, 2,
	  "devices.x.switch.trunk", "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": [\"5-4095\"]}"), 0, 2,
	  "devices.x.switch.trunk", "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": [\"5-\"]}"), 0, 2, "devices.x.switch.trunk",
	  "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": [{}]}"), 0, 2, "devices.x.switch.trunk",
	  "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"trunk\": [null]}"), 0, 2, "devices.x.switch.trunk",
	  "1 to 64 numbers" },
	{ NET("\"switch\": {\"name\": \"l\", \"addresses\": [\"10.0.0.256\"]}"), 0, 2,
	  "devices.x.switch.addresses", "IP addresses" },
	{ NET("\"switch\": {\"name\": \"l\", \"bind\": false, \"addresses\": [\"10.0.0.1\"]}"), 0,
	  2, "devices.x", "bound to its MAC address" },
	{ NET("\"tap\": {\"name\": \"l\", \"addresses\": [\"10.0.0.1\"]}"), 0, 2, "devices.x",
	  "\"mac-filter\": true with it" },
	{ NET("\"tap\": {\"name\": \"l\", \"addresses\": []}"), 0, 2, "devices.x.tap.addresses",
	  "IP addresses" },
	{ NET("\"switch\": {\"name\": \"l\"}, \"user\": {}"), 0, 2, "devices.x.user",
	  "has \"switch\" already" },
	{ NET("\"user\": {\"address\": \"10.0.2.15\"}"), 0, 2, "devices.x.user.address",
	  "with a prefix" },
	{ NET("\"user\": {\"address\": \"10.0.2.15/33\"}"), 0, 2, "devices.x.user.address",
	  "with a prefix" },
	{ NET("\"user\": {\"gateway\": \"::1\"}"), 0, 2, "devices.x.user.gateway", "an IPv4" },
	{ NET("\"user\": {\"interface\": \"a/b\"}"), 0, 2, "devices.x.user.interface",
	  "1 to 15 bytes" },
	{ NET("\"user\": {\"interface\": \"abcdefghijklmnop\"}"), 0, 2, "devices.x.user.interface",
	  "1 to 15 bytes" },
	{ NET("\"user\": {\"dns\": [\"localhost\"]}"), 0, 2, "devices.x.user.dns", "IP addresses" },
	{ NET("\"user\": {\"forward\": [{}]}"), 0, 2, "devices.x.user.forward", "host, a port" },
	{ NET("\"user\": {\"forward\": [{\"host\": 0}]}"), 0, 2, "devices.x.user.forward",
	  "host, a port" },
	{ NET("\"user\": {\"forward\": [{\"host\": 65536}]}"), 0, 2, "devices.x.user.forward",
	  "host, a port" },
	{ NET("\"user\": {\"forward\": [{\"host\": 1, \"to\": 2}]}"), 0, 2,
	  "devices.x.user.forward", "host, a port" },
	{ NET("\"user\": {\"forward\": [{\"host\": 1, \"protocol\": \"sctp\"}]}"), 0, 2,
	  "devices.x.user.forward", "host, a port" },
	{ NET("\"user\": {\"forward\": [{\"host\": 1}, {\"host\": 1, \"guest\": 2}]}"), 0, 2,
	  "devices.x.user.forward", "no port of the host's twice" },
	{ NET("\"user\": {}, \"mtu\": 32769"), 0, 2, "devices.x", "at most 32768" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\n\"type\": \"fs\"}}}", 0, 3, "devices.x",
	  "the key \"tag\" is missing" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\"}}}", 0, 3,
	  "devices.x", "the key \"tag\" is missing" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"a\", \"tag\": "
	  "\"t\"}}}",
	  0, 4, "devices.x.path", "the absolute path of the directory" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"\"}}}",
	  0, 4, "devices.x.tag", "1 to 36 bytes" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"0123456789012345678901234567890123456\"}}}",
	  0, 4, "devices.x.tag", "1 to 36 bytes" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"cache\": \"writeback\"}}}",
	  0, 4, "devices.x.cache", "\"none\", \"auto\"" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"serial\": \"x\"}}}",
	  0, 4, "devices.x.serial", "unknown key; expected one of type, " },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"xattr-map\": \"trusted.\"}}}",
	  0, 4, "devices.x.xattr-map", "the prefix of a user attribute" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"xattr\": false, \"acl\": true}}}",
	  0, 3, "devices.x", "expected \"xattr\": true" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"ids\": \"guest\"}}}",
	  0, 4, "devices.x.ids", "\"host\" or \"own\"" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"ids\": \"own\", \"device-nodes\": true}}}",
	  0, 3, "devices.x", "expected \"ids\": \"host\"" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", "
	  "\"ids\": \"own\"}}}",
	  0, 3, "devices.x", "expected \"id-map\" with it" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"id-map\": []}}}",
	  0, 4, "devices.x.id-map", "an array of 1 to 8 objects" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"id-map\": [{\"guest\": 0, \"host\": 5, \"count\": 0}]}}}",
	  0, 4, "devices.x.id-map", "an array of 1 to 8 objects" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"id-map\": [{\"guest\": 0, \"host\": 5, \"count\": 9}, {\"guest\": 9, \"host\": "
	  "13, \"count\": 1}]}}}",
	  0, 4, "devices.x.id-map", "do not overlap" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"id-map\": [{\"guest\": 0, \"host\": 5, \"size\": 1}]}}}",
	  0, 4, "devices.x.id-map", "guest, host and count" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"fs\",\n\"path\": \"/a\", \"tag\": "
	  "\"t\", \"ids\": \"own\", \"id-map\": [{\"guest\": 65535, \"host\": 5, \"count\": 1}]}}}",
	  0, 3, "devices.x", "the guest has the ids 0 to 65534" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\n\"type\": \"vsock\"}}}", 0, 3, "devices.x",
	  "expected \"uds\", \"listen\", \"group\" or \"forward\"" },
	{ VSOCK(",\n\"cid\": 2"), 0, 6, "devices.root.cid", "from 3 to 4294967294, or \"auto\"" },
	{ VSOCK(",\n\"cid\": 4294967295"), 0, 6, "devices.root.cid", "from 3 to 4294967294" },
	{ VSOCK(",\n\"cid\": \"any\""), 0, 6, "devices.root.cid", "or \"auto\"" },
	{ VSOCK(",\n\"queues\": 2"), 0, 6, "devices.root.queues", "unknown key" },
	{ VSOCK(",\n\"listen\": [{\"port\": 1}]"), 0, 6, "devices.root.listen", "port and path" },
	{ VSOCK(",\n\"listen\": [{\"port\": 1, \"path\": \"a\"}]"), 0, 6, "devices.root.listen",
	  "port and path" },
	{ VSOCK(",\n\"listen\": [{\"port\": 1, \"path\": \"/a\"}, {\"port\": 1, \"fd\": \"b\"}]"),
	  0, 6, "devices.root.listen", "port 1 is there twice" },
	{ VSOCK(",\n\"ports\": {\n\"host\": [\"5-1\"]}"), 0, 7, "devices.root.ports.host",
	  "and ranges, such as" },
	{ VSOCK(",\n\"ports\": {\n\"guest\": 5}"), 0, 7, "devices.root.ports.guest", "an array" },
	{ VSOCK(",\n\"group\": \"a b\""), 0, 6, "devices.root.group", "1 to 63 letters" },
	{ VSOCK(",\n\"forward\": [2]"), 0, 6, "devices.root.forward", "none of them 2" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"vsock\", \"cid\": 7, \"group\": "
	  "\"g\"},\n\"y\": {\"type\": \"vsock\",\n\"cid\": 7, \"group\": \"g\"}}}",
	  0, 5, "devices.y.cid", "7 is the CID of device \"x\" already" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"vsock\", \"uds\": \"/u\"},\n\"y\": "
	  "{\"type\": \"vsock\",\n\"uds\": \"/u\"}}}",
	  0, 5, "devices.y.uds", "\"/u\" is the socket of device \"x\" already" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"net\", \"tap\": {\"name\": \"t\"}},"
	  "\n\"y\": {\"type\": \"net\",\n\"tap\": {\"name\": \"t\"}}}}",
	  0, 5, "devices.y.tap", "\"t\" is the interface of device \"x\" already" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\n\"type\": \"blk\"}}}", 0, 3, "devices.x",
	  "\"path\" is missing; expected the absolute path" },
	/* bad keys and values of a device */
	{ BLK(",\n\"quues\": 1"), 0, 6, "devices.root.quues",
	  "unknown key; expected one of type, " },
	{ BLK(",\n\"mac\": \"52:54:00:12:34:56\""), 0, 6, "devices.root.mac", "unknown key" },
	{ BLK(",\n\"queues\": 0"), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queues\": 65"), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queues\": -1"), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queues\": 1.5"), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queues\": \"2\""), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queues\": 99999999999999999999999"), 0, 6, "devices.root.queues", "1 to 64" },
	{ BLK(",\n\"queues\": null"), 0, 6, "devices.root.queues", "from 1 to 64" },
	{ BLK(",\n\"queue-size\": 100"), 0, 6, "devices.root.queue-size", "a power of two" },
	{ BLK(",\n\"queue-size\": 2"), 0, 6, "devices.root.queue-size", "from 4 to 1024" },
	{ BLK(",\n\"queue-size\": 2048"), 0, 6, "devices.root.queue-size", "from 4 to 1024" },
	{ FS(",\n\"queues\": 64"), 0, 6, "devices.root.queues", "from 1 to 63" },
	{ FS(",\n\"limits\": {\n\"iops\": 5}"), 0, 7, "devices.root.limits.iops",
	  "unknown key; expected one of cpu, memory, pids" },
	{ FS(",\n\"limits\": {\n\"bandwidth\": \"1M\"}"), 0, 7, "devices.root.limits.bandwidth",
	  "unknown key" },
	{ BLK(",\n\"cache\": \"unsafe\""), 0, 6, "devices.root.cache", "\"writethrough\"" },
	{ BLK(",\n\"cache\": true"), 0, 6, "devices.root.cache", "\"writethrough\"" },
	{ BLK(",\n\"readonly\": \"yes\""), 0, 6, "devices.root.readonly", "true or false" },
	{ BLK(",\n\"readonly\": 1"), 0, 6, "devices.root.readonly", "true or false" },
	{ BLK(",\n\"discard\": 0"), 0, 6, "devices.root.discard", "true or false" },
	{ BLK(",\n\"serial\": \"123456789012345678901\""), 0, 6, "devices.root.serial", "1 to 20" },
	{ BLK(",\n\"serial\": \"\""), 0, 6, "devices.root.serial", "1 to 20" },
	{ BLK(",\n\"serial\": \"\xc3\xa4\""), 0, 6, "devices.root.serial", "ASCII" },
	{ BLK(",\n\"policy\": \"../blk\""), 0, 6, "devices.root.policy", "the name of a policy" },
	{ BLK(",\n\"policy\": []"), 0, 6, "devices.root.policy", "the name of a policy" },
	{ "{\"vm\": \"a\",\n\"devices\": {\"x\": {\"type\": \"blk\",\n\"path\": \"a.raw\"}}}", 0, 3,
	  "devices.x.path", "the absolute path" },
	{ "{\"vm\": \"a\",\n\"devices\": {\"x\": {\"type\": \"blk\",\n\"path\": \"/srv/\"}}}", 0, 3,
	  "devices.x.path", "a directory's name; expected the absolute path" },
	{ "{\"vm\": \"a\",\n\"devices\": {\"x\": {\"type\": \"blk\",\n\"path\": \"/a\\n\"}}}", 0, 3,
	  "devices.x.path", "the absolute path" },
	{ "{\"vm\": \"a\",\n\"devices\": {\n\"x\": {\"type\": \"blk\", \"path\": \"/a\"},\n"
	  "\"y\": {\"type\": \"blk\", \"path\": \"/a\", \"readonly\": true}}}",
	  0, 4, "devices.y.path", "expected an image of its own" },
	/* limits and restart */
	{ BLK(",\n\"limits\": 5"), 0, 6, "devices.root.limits", "an object with cpu" },
	{ BLK(",\n\"limits\": {\n\"disk\": 5}"), 0, 7, "devices.root.limits.disk", "unknown key" },
	{ BLK(",\n\"limits\": {\n\"cpu\": \"2\"}"), 0, 7, "devices.root.limits.cpu", "50%" },
	{ BLK(",\n\"limits\": {\n\"cpu\": \"0%\"}"), 0, 7, "devices.root.limits.cpu", "50%" },
	{ BLK(",\n\"limits\": {\n\"memory\": \"1K\"}"), 0, 7, "devices.root.limits.memory",
	  "from 16M" },
	{ BLK(",\n\"limits\": {\n\"memory\": \"64 MB\"}"), 0, 7, "devices.root.limits.memory",
	  "from 16M" },
	{ BLK(",\n\"limits\": {\n\"pids\": 63}"), 0, 7, "devices.root.limits.pids", "from 64" },
	{ BLK(",\n\"limits\": {\n\"cpu\": \"12.345%\"}"), 0, 7, "devices.root.limits.cpu",
	  "12.5%" },
	{ BLK(",\n\"limits\": {\n\"memory\": \"101%\"}"), 0, 7, "devices.root.limits.memory",
	  "a percentage or \"infinity\"" },
	{ BLK(",\n\"limits\": {\n\"iops\": \"5k\"}"), 0, 7, "devices.root.limits.iops", "5K" },
	{ BLK(",\n\"limits\": {\n\"bandwidth\": 3999}"), 0, 7, "devices.root.limits.bandwidth",
	  "bytes per second" },
	{ BLK(",\n\"restart\": []"), 0, 6, "devices.root.restart", "an object with limit" },
	{ BLK(",\n\"restart\": {\n\"limit\": -1}"), 0, 7, "devices.root.restart.limit", "from 0" },
	{ BLK(",\n\"restart\": {\n\"interval\": \"5 parsecs\"}"), 0, 7,
	  "devices.root.restart.interval", "from 1s to 1d" },
	{ BLK(",\n\"restart\": {\n\"interval\": 0}"), 0, 7, "devices.root.restart.interval",
	  "from 1s to 1d" },
	{ BLK(",\n\"restart\": {\n\"backoff\": \"2min\"}"), 0, 7, "devices.root.restart.backoff",
	  "from 0 to 1min" },
	{ BLK(",\n\"restart\": {\n\"hang-timeout\": \"1us\"}"), 0, 7,
	  "devices.root.restart.hang-timeout", "from 100ms to 1h" },
	/* the socket */
	{ "{\n\"socket\": 1}", 0, 2, "socket", "user, group and mode" },
	{ "{\n\"socket\": {\n\"owner\": \"root\"}}", 0, 3, "socket.owner", "unknown key" },
	{ "{\n\"socket\": {\n\"user\": \"no-such-user-here\"}}", 0, 3, "socket.user",
	  "there is no such user" },
	{ "{\n\"socket\": {\n\"user\": 0}}", 0, 3, "socket.user", "the name of a user" },
	{ "{\n\"socket\": {\n\"group\": \"no-such-group-here\"}}", 0, 3, "socket.group",
	  "there is no such group" },
	{ "{\n\"socket\": {\n\"mode\": \"660\"}}", 0, 3, "socket.mode", "0660" },
	{ "{\n\"socket\": {\n\"mode\": 432}}", 0, 3, "socket.mode", "0660" },
	{ "{\n\"socket\": {\n\"mode\": \"0668\"}}", 0, 3, "socket.mode", "0660" },
	{ "{\n\"socket\": {\n\"mode\": \"4660\"}}", 0, 3, "socket.mode", "0660" },
};

/* Is there a line that begins with the file, the line and the key, and has the form in it? */
static bool is_told(const struct config_errors *errors, const struct bad *bad)
{
	char start[160];

	(void)snprintf(start, sizeof(start), "web1.json:%u: %s", bad->line, bad->key);
	for (size_t i = 0; i < errors->n; i++)
		if (strncmp(errors->lines[i], start, strlen(start)) == 0 &&
		    strstr(errors->lines[i], bad->form))
			return true;
	print_error("wanted \"%s ... %s\", got:\n", start, bad->form);
	for (size_t i = 0; i < errors->n; i++)
		print_error("  %s\n", errors->lines[i]);
	return false;
}

static void each_bad_document_is_refused_with_file_line_key_and_form(void **state)
{
	unsigned n_not_told = 0;

	assert_true(UNIT_N(bad_documents) >= 40);
	for (size_t i = 0; i < UNIT_N(bad_documents); i++) {
		const struct bad *bad = &bad_documents[i];
		struct vm_config *untouched = (struct vm_config *)&bad_documents, *vm = untouched;
		struct config_errors errors = { 0 };

		assert_int_equal(
			parse(bad->text, bad->len ? bad->len : strlen(bad->text), &vm, &errors),
			-EINVAL);
		assert_ptr_equal(vm, untouched);
		n_not_told += !is_told(&errors, bad);
		config_errors_done(&errors);
	}
	assert_int_equal(n_not_told, 0);
}

static void a_port_of_a_switch_is_what_the_document_says(void **state)
{
	static const char text[] =
		NET("\"switch\": {\"name\": \"lan0\", \"trunk\": [7, \"10-19\"], \"native\": "
		    "5, \"addresses\": [\"10.0.0.1\", \"2001:db8::1\"]}");
	static const uint8_t ipv4[16] = { [10] = 0xff, [11] = 0xff, 10, 0, 0, 1 };
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	const struct switch_config *c;

	assert_int_equal(parse(text, strlen(text), &vm, &errors), 0);
	c = &vm->devices[0].lan;
	assert_string_equal(c->name, "lan0");
	assert_true(c->bind);
	assert_int_equal(c->access, 0);
	assert_int_equal(c->native, 5);
	assert_int_equal(c->n_trunk, 2);
	assert_int_equal(c->trunk[0].first, 7);
	assert_int_equal(c->trunk[0].last, 7);
	assert_int_equal(c->trunk[1].first, 10);
	assert_int_equal(c->trunk[1].last, 19);
	assert_int_equal(c->n_addresses, 2);
	assert_memory_equal(c->addresses[0], ipv4, 16);
	assert_int_equal(c->addresses[1][0], 0x20);
	vm_config_free(vm);
}

static void a_user_mode_network_is_what_the_document_says(void **state)
{
	static const char text[] =
		NET("\"user\": {\"address\": \"10.0.2.15/24\", \"gateway\": \"10.0.2.2\", "
		    "\"dns\": [], \"host-loopback\": true, \"forward\": [{\"host\": 8080, "
		    "\"guest\": 80, \"address\": \"127.0.0.1\"}, {\"host\": 8080, \"protocol\": "
		    "\"udp\"}]}");
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	const struct user_config *c;

	assert_int_equal(parse(text, strlen(text), &vm, &errors), 0);
	c = &vm->devices[0].user;
	assert_string_equal(c->address, "10.0.2.15");
	assert_int_equal(c->prefix, 24);
	assert_string_equal(c->gateway, "10.0.2.2");
	assert_true(c->has_dns && c->n_dns == 0 && c->host_loopback);
	assert_int_equal(c->n_forwards, 2);
	assert_int_equal(c->forward[0].guest, 80);
	assert_string_equal(c->forward[0].address, "127.0.0.1");
	assert_true(c->forward[1].udp);
	assert_int_equal(c->forward[1].guest, 8080);
	vm_config_free(vm);
}

static void every_prefix_of_a_document_is_refused(void **state)
{
	static const char text[] =
		BLK(",\n\"limits\": {\"cpu\": \"50%\"}, \"serial\": \"\\u00e4\"");

	for (size_t len = 0; len + 2 < sizeof(text) - 1; len++) {
		struct config_errors errors = { 0 };
		struct vm_config *vm = NULL;

		assert_int_equal(parse(text, len, &vm, &errors), -EINVAL);
		assert_null(vm);
		config_errors_done(&errors);
	}
}

static void a_document_that_is_too_large_is_refused(void **state)
{
	size_t len = SYNTAX_MAX_LEN + 1;
	char *text = malloc(len);
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;

	assert_non_null(text);
	memset(text, ' ', len);
	assert_int_equal(parse(text, len, &vm, &errors), -EINVAL);
	assert_non_null(strstr(errors.lines[0], "at most 262144"));
	config_errors_done(&errors);
	free(text);
}

static void more_devices_than_64_are_refused(void **state)
{
	char text[8192] = "{\"vm\": \"a\", \"devices\": {";
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	size_t at = strlen(text);

	for (unsigned i = 0; i < 65; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at,
				       "%s\"d%u\": {\"type\": \"blk\", \"path\": \"/i%u\"}",
				       i ? "," : "", i, i);
	(void)snprintf(text + at, sizeof(text) - at, "}}");
	assert_int_equal(parse(text, strlen(text), &vm, &errors), -EINVAL);
	assert_non_null(strstr(errors.lines[0], "1 to 64 devices"));
	config_errors_done(&errors);
}

static void all_errors_of_a_document_are_told(void **state)
{
	static const char text[] = BLK(",\n\"queues\": 0,\n\"quues\": 1,\n\"cache\": 1");
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	char *all;

	assert_int_equal(parse(text, sizeof(text) - 1, &vm, &errors), -EINVAL);
	assert_int_equal(errors.n, 3);
	all = config_errors_to_text(&errors);
	assert_non_null(strstr(all, "web1.json:6: devices.root.queues: 0 is not usable"));
	assert_non_null(strstr(all, "web1.json:7: devices.root.quues: unknown key"));
	assert_non_null(strstr(all, "web1.json:8: devices.root.cache: 1 is not usable"));
	free(all);
	config_errors_done(&errors);
}

static void defaults_are_those_of_the_documentation(void **state)
{
	struct vm_config *vm = parse_good(BLK(""));
	const struct device_config *d = &vm->devices[0];

	assert_string_equal(vm->name, "web1");
	assert_int_equal(vm->n_devices, 1);
	assert_string_equal(d->full_name, "web1/root");
	assert_string_equal(d->path, "/a");
	assert_string_equal(d->cache, "writeback");
	assert_null(d->serial);
	assert_null(d->policy);
	assert_true(d->discard);
	assert_false(d->readonly);
	assert_int_equal(d->queues, 1);
	assert_int_equal(d->queue_size, 256);
	assert_int_equal(d->socket.mode, 0660);
	assert_int_equal(d->restart.limit, 10);
	assert_int_equal(d->restart.interval_usec, 60000000);
	assert_int_equal(d->restart.backoff_usec, 100000);
	assert_int_equal(d->restart.hang_timeout_usec, 10000000);
	vm_config_free(vm);
}

static void every_key_is_taken(void **state)
{
	struct vm_config *vm = parse_good(
		"{\"$schema\": \"vm.schema.json\", \"devices\": {\"d.1_x-y\": {\"policy\": "
		"\"/etc/p.json\",\"type\": \"blk\", \"path\": \"/srv/\xc3\xa4 b.raw\", "
		"\"readonly\": true, \"cache\": \"none\", \"serial\": \"12345678901234567890\", "
		"\"queues\": 64, \"queue-size\": 1024, \"discard\": false, \"limits\": {\"cpu\": "
		"\"150%\", \"memory\": \"64M\", \"pids\": 64, \"iops\": \"5K\", \"bandwidth\": "
		"\"100M\"}, \"restart\": {\"limit\": 3, \"interval\": \"2min\", \"backoff\": "
		"\"50ms\", \"hang-timeout\": 5}}}, \"vm\": \"a\", \"socket\": {\"user\": \"root\", "
		"\"group\": \"4711\", \"mode\": \"0600\"}}");
	const struct device_config *d = &vm->devices[0];

	assert_string_equal(d->full_name, "a/d.1_x-y");
	assert_string_equal(d->policy, "/etc/p.json");
	assert_string_equal(d->path, "/srv/\xc3\xa4 b.raw");
	assert_true(d->readonly);
	assert_false(d->discard);
	assert_string_equal(d->limits.cpu, "150%");
	assert_string_equal(d->limits.memory, "64M");
	assert_string_equal(d->limits.pids, "64");
	assert_int_equal(d->limits.iops, 5000);
	assert_int_equal(d->limits.bandwidth, 100000000);
	assert_int_equal(d->restart.interval_usec, 120000000);
	assert_int_equal(d->restart.backoff_usec, 50000);
	assert_int_equal(d->restart.hang_timeout_usec, 5000000);
	assert_int_equal(d->socket.uid, 0);
	assert_int_equal(d->socket.gid, 4711);
	assert_int_equal(d->socket.mode, 0600);
	vm_config_free(vm);
}

static void arguments_say_all_of_the_configuration(void **state)
{
	struct vm_config *vm = parse_good(
		BLK(", \"serial\": \"s 1\", \"readonly\": true, \"limits\": {\"iops\": 7}"));
	char **argv = device_config_argv(&vm->devices[0]);
	static const char *const wanted[] = {
		"vmdev-blk",
		"--contract",
		"--name=web1/root",
		"--queues=1",
		"--queue-size=256",
		"--cache=writeback",
		"--read-only",
		"--serial=s 1",
		"--discard=on",
		"--iops=7",
		"--restart-limit=10",
		"--restart-interval=60000000",
		"--restart-backoff=100000",
		"--hang-timeout=10000000",
	};

	for (size_t i = 0; i < UNIT_N(wanted); i++)
		assert_string_equal(argv[i], wanted[i]);
	assert_null(argv[UNIT_N(wanted)]);
	strv_free(argv);
	vm_config_free(vm);
}

/* The ends of each range, which a document may name. */
static const char *const extremes[] = {
	BLK(", \"queues\": 1, \"queue-size\": 4, \"limits\": {\"iops\": 1, \"bandwidth\": \"4K\"}, "
	    "\"restart\": {\"limit\": 0, \"interval\": 1, \"backoff\": 0, \"hang-timeout\": "
	    "\"100ms\"}, \"cache\": \"none\", \"serial\": \"1\", \"discard\": false"),
	BLK(", \"queues\": 64, \"queue-size\": 1024, \"limits\": {\"iops\": 1000000000, "
	    "\"bandwidth\": \"1T\"}, \"restart\": {\"limit\": 100000, \"interval\": \"1d\", "
	    "\"backoff\": \"1min\", \"hang-timeout\": \"1h\"}, \"cache\": \"writethrough\", "
	    "\"serial\": \"12345678901234567890\", \"readonly\": true"),
	FS(", \"queues\": 1, \"queue-size\": 4, \"xattr\": false, \"cache\": \"none\", "
	   "\"direct-io\": true, \"locks\": \"guest\""),
	FS(", \"queues\": 63, \"queue-size\": 1024, \"xattr-map\": \"user.vmdev.\", \"acl\": true, "
	   "\"cache\": \"metadata\", \"writeback\": true, \"device-nodes\": true, "
	   "\"announce-submounts\": true, \"readonly\": true"),
	FS(", \"cache\": \"auto\", \"ids\": \"own\", "
	   "\"id-map\": [{\"guest\": 0, \"host\": 100000, \"count\": 65535}]"),
	FS(", \"cache\": \"always\", \"locks\": \"shared\", \"direct-io\": false"),
	VSOCK(", \"cid\": 3, \"group\": \"g\", \"forward\": [1], \"ports\": {\"host\": [], "
	      "\"guest\": []}"),
	VSOCK(", \"cid\": 4294967294, \"queue-size\": 1024, \"ports\": {\"guest\": [0, "
	      "\"1-4294967294\"], \"host\": [\"5-5\"]}, \"listen\": [{\"port\": 4294967294, "
	      "\"path\": "
	      "\"/a\"}, {\"port\": 0, \"fd\": \"b\"}]"),
};

/* Does the device program take the arguments that are made of a document? */
static bool program_takes(char **argv)
{
	char path[4096];
	int status;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/%s/%s", getenv("VMDEV_PROGRAM_DIR"),
		       strchr(argv[0], '-') + 1, argv[0]);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *all[64] = { 0 };
		size_t n = 0;

		for (; argv[n]; n++)
			all[n] = argv[n];
		all[n] = (char *)"--print-capabilities";
		(void)freopen("/dev/null", "w", stdout);
		execv(path, all);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static void what_a_document_may_say_the_program_takes(void **state)
{
	if (!getenv("VMDEV_PROGRAM_DIR"))
		unit_skip("VMDEV_PROGRAM_DIR does not say where the programs are");
	for (size_t i = 0; i < UNIT_N(extremes); i++) {
		struct vm_config *vm = parse_good(extremes[i]);
		char **argv = device_config_argv(&vm->devices[0]);

		if (!program_takes(argv))
			fail_msg("the device program does not take: %s", extremes[i]);
		strv_free(argv);
		vm_config_free(vm);
	}
}

static void compare_names_the_keys_that_differ(void **state)
{
	struct vm_config *a = parse_good(BLK(""));
	struct vm_config *b = parse_good(BLK(", \"queues\": 2, \"serial\": \"x\""));
	struct device_config *copy = device_config_copy(&b->devices[0]);
	const char *keys[N_DEVICE_CONFIG_KEYS + 1];

	assert_int_equal(device_config_compare(&b->devices[0], copy, keys), 0);
	assert_int_equal(device_config_compare(&a->devices[0], copy, keys), 2);
	assert_string_equal(keys[0], "queues");
	assert_string_equal(keys[1], "serial");
	assert_null(keys[2]);
	device_config_free(copy);
	vm_config_free(a);
	vm_config_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_bad_document_is_refused_with_file_line_key_and_form),
		cmocka_unit_test(a_port_of_a_switch_is_what_the_document_says),
		cmocka_unit_test(a_user_mode_network_is_what_the_document_says),
		cmocka_unit_test(every_prefix_of_a_document_is_refused),
		cmocka_unit_test(a_document_that_is_too_large_is_refused),
		cmocka_unit_test(more_devices_than_64_are_refused),
		cmocka_unit_test(all_errors_of_a_document_are_told),
		cmocka_unit_test(defaults_are_those_of_the_documentation),
		cmocka_unit_test(every_key_is_taken),
		cmocka_unit_test(arguments_say_all_of_the_configuration),
		cmocka_unit_test(what_a_document_may_say_the_program_takes),
		cmocka_unit_test(compare_names_the_keys_that_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
