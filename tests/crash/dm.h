/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Device mapper without dmsetup: a process for each call would take longer than
 * all that is done with the device.
 */
#ifndef PLOOP_TESTS_CRASH_DM_H
#define PLOOP_TESTS_CRASH_DM_H

#include <linux/dm-ioctl.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "../util.h"

#define DM_PAYLOAD	512

struct dm_request {
	struct dm_ioctl head;
	char payload[DM_PAYLOAD];
};

/* Return: 0, or -1 with errno */
static inline int dm_call(struct dm_request *request, unsigned long command, const char *name)
{
	static int control = -1;
	struct dm_ioctl *head = &request->head;

	if (control < 0)
		control = xopen("/dev/mapper/control", O_RDWR);
	head->version[0] = DM_VERSION_MAJOR;
	head->data_size = sizeof(*request);
	head->data_start = offsetof(struct dm_request, payload);
	snprintf(head->name, sizeof(head->name), "%s", name);
	return ioctl(control, command, head);
}

static inline void dm_message(const char *name, const char *text)
{
	struct dm_request request = { 0 };
	struct dm_target_msg *message = (struct dm_target_msg *)request.payload;

	snprintf(message->message, DM_PAYLOAD - sizeof(*message), "%s", text);
	if (dm_call(&request, DM_TARGET_MSG, name))
		die(name);
}

/* makes a device of one target; node: out: where it is */
static inline void dm_create(const char *name, const char *type, uint64_t sectors,
			     const char *params, char node[32])
{
	struct dm_request create = { 0 }, load = { .head.target_count = 1 }, resume = { 0 };
	struct dm_target_spec *spec = (struct dm_target_spec *)load.payload;

	spec->length = sectors;
	snprintf(spec->target_type, sizeof(spec->target_type), "%s", type);
	snprintf((char *)(spec + 1), DM_PAYLOAD - sizeof(*spec), "%s", params);
	if (dm_call(&create, DM_DEV_CREATE, name) || dm_call(&load, DM_TABLE_LOAD, name) ||
	    dm_call(&resume, DM_DEV_SUSPEND, name))
		die(name);
	snprintf(node, 32, "/dev/dm-%u",
		 (unsigned int)((create.head.dev & 0xff) | (create.head.dev >> 12 & 0xfff00)));
}

static inline void dm_remove(const char *name)
{
	/* who looks at new devices holds it for a moment */
	for (int i = 0; i < 500; i++) {
		struct dm_request request = { 0 };

		if (!dm_call(&request, DM_DEV_REMOVE, name))
			return;
		if (errno != EBUSY)
			break;
		usleep(10000);
	}
	die(name);
}

#endif /* PLOOP_TESTS_CRASH_DM_H */
