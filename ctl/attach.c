/*
 * The verb attach: the arguments with which a VMM attaches a VM's devices.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <string.h>

#include "ctl/ctl.h"

/* A network card of QEMU's is always the same device; the back-end belongs to its netdev. */
static void print_qemu_net(json_object *device, const char *name, long long queues, long long size)
{
	printf("-netdev vhost-user,id=vmdev-net-%s,chardev=vmdev-%s,queues=%lld \\\n", name, name,
	       queues);
	printf("-device virtio-net-pci,netdev=vmdev-net-%s,mac=%s,mq=%s,rx_queue_size=%lld,"
	       "tx_queue_size=%lld\n",
	       name, ctl_text(device, "mac", "?"), queues > 1 ? "on" : "off", size, size);
}

static void print_qemu_device(json_object *device, const char *name)
{
	const char *type = ctl_text(device, "type", "?");
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");

	if (strcmp(type, "net") == 0) {
		print_qemu_net(device, name, queues, size);
		return;
	}
	printf("-device vhost-user-%s-pci,chardev=vmdev-%s", type, name);
	if (strcmp(type, "blk") == 0)
		printf(",num-queues=%lld,queue-size=%lld\n", queues, size);
	else if (strcmp(type, "fs") == 0)
		printf(",tag=%s,num-request-queues=%lld,queue-size=%lld\n",
		       ctl_text(device, "tag", "?"), queues, size);
	else
		putchar('\n');
}

/*
 * QEMU shares the guest's memory with the back-end, so it has to be a memfd. SIZE is the guest's to
 * say. vmdev keeps the connection over every recovery: no reconnect option is needed.
 */
static void print_qemu(json_object *devices)
{
	puts("-object memory-backend-memfd,id=mem,size=SIZE,share=on \\\n"
	     "-machine memory-backend=mem");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		const char *name = ctl_text(device, "device", "?");

		/* An id of QEMU's begins with a letter, a device's name need not. */
		printf("-chardev socket,id=vmdev-%s,path=%s \\\n", name,
		       ctl_text(device, "socket", "?"));
		print_qemu_device(device, name);
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
static void print_uml(json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		printf("virtio_uml.device=%s:%d\n", ctl_text(device, "socket", "?"),
		       virtio_id(ctl_text(device, "type", "?")));
	}
}

static enum ctl_exit run_attach(struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *vmm;
		void (*print)(json_object *devices);
	} rows[] = { { "qemu", print_qemu }, { "uml", print_uml } };
	json_object *devices;
	enum ctl_exit exit;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].vmm, argv[0]) != 0)
			continue;
		exit = ctl_call(ctl, "List", argv[1], &devices);
		if (exit)
			return exit;
		rows[i].print(devices);
		json_object_put(devices);
		return CTL_DONE;
	}
	ctl_error("attach: \"%s\" is no VMM that is known here; expected qemu or uml", argv[0]);
	return CTL_USAGE;
}

const struct verb attach_verbs[] = {
	{ "attach", "qemu|uml VM[/DEVICE]", "print the arguments that attach devices to a VMM", 2,
	  2, run_attach },
	{ 0 },
};
