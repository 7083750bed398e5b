// SPDX-License-Identifier: GPL-2.0-only
#include "mkfs.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "report.h"

#define BLOCK_SIZE	4096u
/* blocks of 32 bits, the most that resize_inode can prepare for: 16 TiB */
#define RESIZE_MAX	UINT32_MAX
/* smaller filesystems get mke2fs's own choice: room to grow by a factor of 1024 */
#define RESIZE_MIN_BYTES	(256ull << 20)
/* a journal that is right also when the filesystem has grown, where it costs little */
#define JOURNAL_MIB	"128"
#define JOURNAL_MIN_BYTES	(4ull << 30)
/* one inode for this many bytes, where their number fits 32 bits */
#define INODE_RATIO	"16384"
/* longest argument we make */
#define ARGUMENT_SIZE	128
#define MAX_ARGUMENTS	24

/**
 * ploop_mkfs_check() - is this a filesystem that we make
 * @fstype: its name
 *
 * Return: 0 or PLOOP_EXIT_PARAM.
 */
int ploop_mkfs_check(const char *fstype)
{
	if (!strcmp(fstype, "ext4") || !strcmp(fstype, "ext3"))
		return 0;
	return ploop_fail(PLOOP_EXIT_PARAM,
			  "-t %s: unknown filesystem; give ext4, ext3 or none (and make others with mkfs on the device)",
			  fstype);
}

static int run_tool(char *const argv[])
{
	int status, rc;

	rc = ploop_process_run(argv, &status);
	if (rc)
		return rc;
	if (status)
		return ploop_fail(PLOOP_EXIT_MKFS, "%s failed with status %d, see above", argv[0],
				  status);
	return 0;
}

static int run_mkfs(const char *partition, const char *fstype, uint64_t bytes)
{
	const bool fits = bytes / BLOCK_SIZE < RESIZE_MAX;
	char extended[ARGUMENT_SIZE];
	char *argv[MAX_ARGUMENTS];
	int n = 0, used;

	/* a new image reads as zeros: there is nothing to discard or to clear */
	used = snprintf(extended, sizeof(extended),
			"nodiscard,lazy_itable_init=1,lazy_journal_init=1");
	if (fits && bytes >= RESIZE_MIN_BYTES)
		snprintf(extended + used, sizeof(extended) - (size_t)used, ",resize=%u",
			 RESIZE_MAX);
	argv[n++] = "mke2fs";
	argv[n++] = "-q";
	argv[n++] = "-F";
	argv[n++] = "-t";
	argv[n++] = (char *)fstype;
	argv[n++] = "-b";
	argv[n++] = "4096";
	argv[n++] = "-E";
	argv[n++] = extended;
	if (fits) {
		argv[n++] = "-i";
		argv[n++] = INODE_RATIO;
	}
	argv[n++] = "-j";
	if (bytes >= JOURNAL_MIN_BYTES) {
		argv[n++] = "-J";
		argv[n++] = "size=" JOURNAL_MIB;
	}
	argv[n++] = (char *)partition;
	argv[n] = NULL;
	return run_tool(argv);
}

/**
 * ploop_mkfs_make() - make a filesystem with room for online growth
 * @partition: node of the partition
 * @fstype: "ext4" or "ext3"
 * @bytes: size of the partition
 *
 * Return: 0 or an exit code.
 */
int ploop_mkfs_make(const char *partition, const char *fstype, uint64_t bytes)
{
	char *const tune[] = {
		"tune2fs", "-o", "user_xattr,acl", "-c", "0", "-i", "0", "-e", "remount-ro",
		(char *)partition, NULL,
	};
	int rc;

	rc = run_mkfs(partition, fstype, bytes);
	return rc ? rc : run_tool(tune);
}
