/*
 * The verb attach: the arguments with which a VMM attaches a VM's devices.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 *
 * Each VMM has a function that makes an array of words. It is printed as JSON, or so that a shell
 * takes it: an option and its value on one line, and each line goes on to the next. libvirt's are
 * elements of a domain, one a line.
 *
 * No VMM is told to reconnect: vmdev keeps the connection over every recovery. All have to share
 * the guest's memory with the back-end; its SIZE is for whoever starts it to say.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "daemon/config.h"
#include "devices/base/scope.h"

static void add(json_object *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(json_object *words, const char *format, ...)
{
	scope_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text)
		json_object_array_add(words, json_object_new_string(text));
}

/* As the value of one of QEMU's options: a comma would end it, two are one. */
static char *qemu_value(const char *text)
{
	char *value = malloc(2 * strlen(text) + 1), *p = value;

	for (; value && *text; text++) {
		if (*text == ',')
			*p++ = ',';
		*p++ = *text;
	}
	if (value)
		*p = '\0';
	return value;
}

/* A network card of QEMU's is always the same device; the back-end belongs to its netdev. */
static void add_qemu_net(json_object *words, json_object *device, const char *name)
{
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");

	if (size < CONFIG_NET_MIN_QUEUE_SIZE) /* QEMU would refuse it */
		size = CONFIG_NET_MIN_QUEUE_SIZE;
	add(words, "-netdev");
	add(words, "vhost-user,id=vmdev-net-%s,chardev=vmdev-%s,queues=%lld", name, name, queues);
	add(words, "-device");
	add(words,
	    "virtio-net-pci,netdev=vmdev-net-%s,mac=%s,mq=%s,rx_queue_size=%lld,tx_queue_size=%lld",
	    name, ctl_text(device, "mac", "?"), queues > 1 ? "on" : "off", size, size);
}

static void add_qemu_device(json_object *words, json_object *device, const char *name)
{
	const char *type = ctl_text(device, "type", "?");
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");
	scope_free char *tag = qemu_value(ctl_text(device, "tag", "?"));

	if (strcmp(type, "net") == 0) {
		add_qemu_net(words, device, name);
		return;
	}
	add(words, "-device");
	if (strcmp(type, "blk") == 0)
		add(words, "vhost-user-blk-pci,chardev=vmdev-%s,num-queues=%lld,queue-size=%lld",
		    name, queues, size);
	else if (strcmp(type, "fs") == 0)
		add(words,
		    "vhost-user-fs-pci,chardev=vmdev-%s,tag=%s,num-request-queues=%lld,"
		    "queue-size=%lld",
		    name, tag ? tag : "?", queues, size);
	else
		add(words, "vhost-user-%s-pci,chardev=vmdev-%s", type, name);
}

static void add_qemu(json_object *words, json_object *devices)
{
	add(words, "-object");
	add(words, "memory-backend-memfd,id=mem,size=SIZE,share=on");
	add(words, "-machine");
	add(words, "memory-backend=mem");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		const char *name = ctl_text(device, "device", "?");
		scope_free char *socket = qemu_value(ctl_text(device, "socket", "?"));

		/* An id of QEMU's begins with a letter, a device's name need not. */
		add(words, "-chardev");
		add(words, "socket,id=vmdev-%s,path=%s", name, socket ? socket : "?");
		add_qemu_device(words, device, name);
	}
}

/* VIRTIO 1.3 §5. */
static int virtio_id(const char *type)
{
	static const struct {
		const char *type;
		int id;
	} rows[] = { { "net", 1 }, { "blk", 2 }, { "vsock", 19 }, { "fs", 26 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].type, type) == 0)
			return rows[i].id;
	return 0;
}

/* The number behind the colon is the device type. */
static void add_uml(json_object *words, json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		add(words, "virtio_uml.device=%s:%d", ctl_text(device, "socket", "?"),
		    virtio_id(ctl_text(device, "type", "?")));
	}
}

/* For Cloud Hypervisor: in double quotes a comma or bracket is the value's own, "" is a quote. */
static char *cloud_hypervisor_value(const char *text)
{
	char *value, *p;

	if (!strpbrk(text, ",[]\""))
		return strdup(text);
	value = p = malloc(2 * strlen(text) + 3);
	if (!value)
		return NULL;
	*p++ = '"';
	for (; *text; text++) {
		if (*text == '"')
			*p++ = '"';
		*p++ = *text;
	}
	*p++ = '"';
	*p = '\0';
	return value;
}

/* Its own vsock device is no vhost-user device; the generic one takes any type. */
static void add_cloud_hypervisor_device(json_object *words, json_object *device, const char *socket)
{
	const char *type = ctl_text(device, "type", "?");
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");
	scope_free char *tag = cloud_hypervisor_value(ctl_text(device, "tag", "?"));

	if (strcmp(type, "blk") == 0) {
		add(words, "--disk");
		add(words, "vhost_user=on,socket=%s,num_queues=%lld,queue_size=%lld", socket,
		    queues, size);
	} else if (strcmp(type, "net") == 0) {
		add(words, "--net");
		add(words, "vhost_user=on,socket=%s,num_queues=%lld,queue_size=%lld,mac=%s", socket,
		    2 * queues, size, ctl_text(device, "mac", "?"));
	} else if (strcmp(type, "fs") == 0) {
		add(words, "--fs");
		add(words, "socket=%s,tag=%s,num_queues=%lld,queue_size=%lld", socket,
		    tag ? tag : "?", queues, size);
	} else {
		add(words, "--generic-vhost-user");
		add(words, "socket=%s,device_type=%d,queue_sizes=[%lld,%lld,%lld]", socket,
		    virtio_id(type), size, size, size);
	}
}

static void add_cloud_hypervisor(json_object *words, json_object *devices)
{
	add(words, "--memory");
	add(words, "size=SIZE,shared=on");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		scope_free char *socket = cloud_hypervisor_value(ctl_text(device, "socket", "?"));

		add_cloud_hypervisor_device(words, device, socket ? socket : "?");
	}
}

/* Without max-queue-size crosvm lets a driver have queues of 32,768. */
static void add_crosvm(json_object *words, json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		const char *type = ctl_text(device, "type", "?");

		add(words, "--vhost-user");
		add(words, "type=%s,socket=%s,max-queue-size=%lld",
		    strcmp(type, "blk") == 0 ? "block" : type, ctl_text(device, "socket", "?"),
		    (long long)ctl_number(device, "queue_size"));
	}
}

static char *xml_value(const char *text)
{
	enum { LONGEST = 6 };
	char *value = malloc(LONGEST * strlen(text) + 1), *p = value;

	for (; value && *text; text++) {
		if (*text == '&')
			p = stpcpy(p, "&amp;");
		else if (*text == '<')
			p = stpcpy(p, "&lt;");
		else if (*text == '\'')
			p = stpcpy(p, "&apos;");
		else
			*p++ = *text;
	}
	if (value)
		*p = '\0';
	return value;
}

/* The n-th disk's name is the domain's to choose; each needs one. */
static void add_libvirt_device(json_object *words, json_object *device, const char *socket, int n)
{
	const char *type = ctl_text(device, "type", "?");
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");
	scope_free char *tag = xml_value(ctl_text(device, "tag", "?")), *arg = qemu_value(socket);

	if (strcmp(type, "blk") == 0)
		add(words,
		    "<disk type='vhostuser' device='disk'>"
		    "<driver name='qemu' type='raw' queues='%lld' queue_size='%lld'/>"
		    "<source type='unix' path='%s'/><target dev='vd%c' bus='virtio'/></disk>",
		    queues, size, socket, 'a' + n % 26);
	else if (strcmp(type, "net") == 0)
		add(words,
		    "<interface type='vhostuser'><mac address='%s'/>"
		    "<source type='unix' path='%s' mode='client'/><model type='virtio'/>"
		    "<driver queues='%lld'/></interface>",
		    ctl_text(device, "mac", "?"), socket, queues);
	else if (strcmp(type, "fs") == 0)
		add(words,
		    "<filesystem type='mount'><driver type='virtiofs' queue='%lld'/>"
		    "<source socket='%s'/><target dir='%s'/></filesystem>",
		    size, socket, tag ? tag : "?");
	else
		add(words,
		    "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		    "<qemu:arg value='-chardev'/><qemu:arg value='socket,id=vmdev%d,path=%s'/>"
		    "<qemu:arg value='-device'/>"
		    "<qemu:arg value='vhost-user-%s-pci,chardev=vmdev%d'/></qemu:commandline>",
		    n, arg ? arg : "?", type, n);
}

static void add_libvirt(json_object *words, json_object *devices)
{
	add(words, "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		scope_free char *socket = xml_value(ctl_text(device, "socket", "?"));

		add_libvirt_device(words, device, socket ? socket : "?", (int)i);
	}
}

static void print_lines(json_object *lines)
{
	for (size_t i = 0; i < json_object_array_length(lines); i++)
		puts(json_object_get_string(json_object_array_get_idx(lines, i)));
}

static void print_words(json_object *words)
{
	bool is_option = false;

	for (size_t i = 0; i < json_object_array_length(words); i++) {
		const char *word = json_object_get_string(json_object_array_get_idx(words, i));
		scope_free char *quoted = ctl_quote(word);

		printf("%s%s", i == 0 ? "" : is_option ? " " : " \\\n", quoted ? quoted : word);
		is_option = word[0] == '-';
	}
	putchar('\n');
}

static enum ctl_exit run_attach(struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *vmm;
		void (*add)(json_object *words, json_object *devices);
		void (*print)(json_object *words);
	} rows[] = { { "qemu", add_qemu, print_words },
		     { "cloud-hypervisor", add_cloud_hypervisor, print_words },
		     { "crosvm", add_crosvm, print_words },
		     { "uml", add_uml, print_words },
		     { "libvirt", add_libvirt, print_lines } };
	json_object *devices, *words;
	enum ctl_exit exit;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].vmm, argv[0]) != 0)
			continue;
		exit = ctl_call(ctl, "List", argv[1], &devices);
		if (exit)
			return exit;
		words = json_object_new_array();
		rows[i].add(words, devices);
		if (ctl->json)
			ctl_print_json(words);
		else
			rows[i].print(words);
		json_object_put(words);
		json_object_put(devices);
		return CTL_DONE;
	}
	ctl_error("attach: \"%s\" is no VMM that is known here; expected qemu, cloud-hypervisor, "
		  "crosvm, uml or libvirt",
		  argv[0]);
	return CTL_USAGE;
}

const struct verb attach_verbs[] = {
	{ "attach", "qemu|cloud-hypervisor|crosvm|uml|libvirt VM[/DEVICE]",
	  "print how a VMM attaches devices", 2, 2, run_attach, .takes_json = true,
	  .only_prints = true },
	{ 0 },
};
