// SPDX-License-Identifier: GPL-2.0-only
#include "gpt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libfdisk.h>

#include "report.h"
#include "size.h"

#define LINUX_FILESYSTEM	"0FC63DAF-8483-4772-8E79-3D69D8477DE4"
/* protective MBR and header come before the entries of the table */
#define FIRST_ENTRY_BLOCK	2
/* 128 entries of 128 bytes, as everybody makes it */
#define TABLE_BYTES		(128 * 128)
/* room for a decimal number */
#define NUMBER_SIZE		24

/*
 * The partition begins one cluster from the start and ends at least one from
 * the end of the disk, on cluster borders: both copies of the table fit
 * outside, and blocks of the filesystem never straddle clusters.
 */

/**
 * ploop_gpt_partition_sectors() - size of the partition on a disk
 * @cluster_sectors: cluster size of the disk
 * @sectors: size of the disk
 *
 * Return: the size in sectors; 0 when the disk is too small for a partition.
 */
uint64_t ploop_gpt_partition_sectors(uint32_t cluster_sectors, uint64_t sectors)
{
	const uint64_t clusters = sectors / cluster_sectors;

	return clusters > 2 ? (clusters - 2) * cluster_sectors : 0;
}

static struct fdisk_partition *describe_partition(struct fdisk_context *context,
						  uint32_t cluster_sectors, uint64_t sectors)
{
	struct fdisk_partition *part = fdisk_new_partition();
	const unsigned long unit = fdisk_get_sector_size(context) >> PLOOP_SECTOR_SHIFT;
	struct fdisk_parttype *type;

	if (!part)
		return NULL;
	type = fdisk_label_get_parttype_from_string(fdisk_get_label(context, NULL),
						    LINUX_FILESYSTEM);
	if (!type || fdisk_partition_set_type(part, type) || fdisk_partition_set_partno(part, 0) ||
	    fdisk_partition_set_start(part, cluster_sectors / unit) ||
	    fdisk_partition_set_size(part, sectors / unit)) {
		fdisk_unref_partition(part);
		return NULL;
	}
	return part;
}

/*
 * An empty table. libfdisk would let no partition begin below 1 MiB, but
 * clusters are as small as 32 KiB: a script can say it otherwise.
 * Returns 0 or a negative errno.
 */
static int create_table(struct fdisk_context *context)
{
	const unsigned long blocks = TABLE_BYTES / fdisk_get_sector_size(context);
	struct fdisk_script *script = fdisk_new_script(context);
	char number[NUMBER_SIZE];
	int error;

	if (!script)
		return -ENOMEM;
	snprintf(number, sizeof(number), "%lu", FIRST_ENTRY_BLOCK + blocks);
	error = fdisk_script_set_header(script, "label", "gpt");
	if (!error)
		error = fdisk_script_set_header(script, "first-lba", number);
	if (!error)
		error = fdisk_apply_script_headers(context, script);
	/* context and script hold each other, else neither would be freed */
	fdisk_set_script(context, NULL);
	fdisk_unref_script(script);
	return error;
}

/* returns 0 or a negative errno */
static int write_table(struct fdisk_context *context, uint32_t cluster_sectors, uint64_t sectors)
{
	struct fdisk_partition *part;
	int error;

	error = create_table(context);
	if (error)
		return error;
	part = describe_partition(context, cluster_sectors, sectors);
	if (!part)
		return -ENOMEM;
	error = fdisk_add_partition(context, part, NULL);
	fdisk_unref_partition(part);
	return error ? error : fdisk_write_disklabel(context);
}

/**
 * ploop_gpt_make() - write a GPT with one partition for a Linux filesystem
 * @disk: node of the disk
 * @cluster_sectors: cluster size of the disk
 * @sectors: size of the disk
 *
 * The kernel is not told: see ploop_node_wait_partition().
 *
 * Return: 0 or an exit code.
 */
int ploop_gpt_make(const char *disk, uint32_t cluster_sectors, uint64_t sectors)
{
	const uint64_t length = ploop_gpt_partition_sectors(cluster_sectors, sectors);
	struct fdisk_context *context = fdisk_new_context();
	int error;

	if (!context)
		return ploop_fail_memory();
	fdisk_disable_dialogs(context, 1);
	error = fdisk_assign_device(context, disk, 0);
	if (!error) {
		error = write_table(context, cluster_sectors, length);
		fdisk_deassign_device(context, 1);
	}
	fdisk_unref_context(context);
	if (error)
		return ploop_fail(PLOOP_EXIT_GPT, "cannot write a partition table to %s: %s", disk,
				  strerror(-error));
	return 0;
}
