// SPDX-License-Identifier: GPL-2.0-only
/*
 * A writer whose every sector says which write it is of, and a check that knows
 * which writes a device must, and which it may show after power loss.
 *
 * Writes come in epochs, each ended by fsync. The journal, kept where the power
 * loss does not reach, holds a line for each write before it is issued, and one
 * for each epoch that is durable. So after a loss each sector shows the last
 * write of the durable epochs, or one of the epoch that was under way.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char usage[] =
	"Usage: stamps write DEV JOURNAL BYTES WRITES EPOCHS SEED [LOG]\n"
	"         WRITES random writes, zeroings and discards an epoch in the first BYTES; EPOCHS 0: until SIGTERM.\n"
	"         With LOG, the name of a dm-log-writes device, a mark eN in its log for each durable epoch.\n"
	"       stamps fill DEV JOURNAL OFFSET BYTES\n"
	"         writes what may turn into zeros at any time\n"
	"       stamps verify DEV JOURNAL [EPOCH]\n"
	"         What was never written is zeros. With EPOCH: the power went after that epoch and before the next was durable.\n"
	"       stamps last JOURNAL\n"
	"         the last durable epoch\n";

#include "dm.h"
#include "model.h"

#define VERIFY_CHUNK	(1u << 20)
#define MAX_COMPLAINTS	8

/* --- writing */

/* SIGTERM is blocked, so that no epoch is left without its end */
static bool told_to_stop(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM);
}

struct random_write {
	uint64_t offset;
	uint32_t len;
	char kind;	/* as in the journal */
};

/* blocks and whole clusters; one of ten a zeroing, which frees or hides what is below, and as many are discards */
static struct random_write random_write(uint64_t bytes, uint64_t *state)
{
	const uint64_t x = *state = mix(*state);
	const uint32_t len = x % 3 ? BLOCK : CLUSTER;

	return (struct random_write) {
		.offset = (x >> 16) % (bytes / len) * len,
		.len = len,
		.kind = (x >> 8) % 10 == 0 ? 'z' : (x >> 8) % 10 == 1 ? 'd' : 'w',
	};
}

static void issue(int dev, const struct random_write *w, uint32_t epoch, void *buf)
{
	uint64_t range[2] = { w->offset, w->len };

	if (w->kind != 'w') {
		if (ioctl(dev, w->kind == 'z' ? BLKZEROOUT : BLKDISCARD, range))
			die(w->kind == 'z' ? "zeroing" : "discard");
		return;
	}
	for (uint32_t done = 0; done < w->len; done += SECTOR)
		stamp((uint64_t *)((char *)buf + done), (w->offset + done) / SECTOR, epoch);
	if (pwrite(dev, buf, w->len, w->offset) != (ssize_t)w->len)
		die("write");
}

/* each line is one write(): it is in the journal before the device sees anything */
static void note(int journal, char kind, uint64_t block, uint32_t blocks, uint32_t epoch)
{
	if (dprintf(journal, "%c %u %llu %u\n", kind, epoch, (unsigned long long)block, blocks) < 0)
		die("journal");
}

static void write_epoch(int dev, int journal, uint64_t bytes, unsigned int writes, uint32_t epoch,
			uint64_t *state)
{
	void *buf = aligned(CLUSTER);

	while (writes--) {
		struct random_write w = random_write(bytes, state);

		note(journal, w.kind, w.offset / BLOCK, w.len / BLOCK, epoch);
		issue(dev, &w, epoch, buf);
	}
	if (fsync(dev))
		die("fsync");
	note(journal, 'c', 0, 0, epoch);
	free(buf);
}

/* --- the check */

/* Return: wrong sectors, counted up to a limit */
static unsigned int compare(int dev, const struct model *m)
{
	char *buf = aligned(VERIFY_CHUNK);
	unsigned int wrong = 0;
	uint64_t pos = 0;
	ssize_t len;

	while (pos < m->blocks * BLOCK) {
		len = pread(dev, buf, VERIFY_CHUNK, pos);
		if (len <= 0 || len % SECTOR)
			die("read");
		for (ssize_t i = 0; i < len && wrong < MAX_COMPLAINTS; i += SECTOR)
			wrong += !sector_is_right(m, (uint64_t *)(buf + i), (pos + i) / SECTOR,
						  false);
		pos += len;
	}
	free(buf);
	return wrong;
}

/* --- the commands */

static int cmd_write(int argc, char *argv[])
{
	const char *log = argc == 9 ? argv[8] : NULL;
	const uint64_t bytes = number(argv[4]), epochs = number(argv[6]);
	const unsigned int writes = number(argv[5]);
	uint32_t epoch = last_epoch(argv[3], 0) + 1;
	uint64_t state = number(argv[7]);
	int dev = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
	int journal = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	sigset_t blocked;

	if (dev < 0 || journal < 0)
		die(dev < 0 ? argv[2] : argv[3]);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (uint64_t n = 0; !told_to_stop() && (!epochs || n < epochs); n++, epoch++) {
		write_epoch(dev, journal, bytes, writes, epoch, &state);
		if (log) {
			char mark[32];

			sprintf(mark, "mark e%u", epoch);
			dm_message(log, mark);
		}
	}
	return 0;
}

/* an epoch that is never durable as far as the journal knows: each sector shows it, or zeros */
static int cmd_fill(char *argv[])
{
	const uint64_t offset = number(argv[4]), bytes = number(argv[5]);
	const uint32_t epoch = last_epoch(argv[3], 0) + 1;
	int dev = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
	int journal = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	void *buf = aligned(CLUSTER);

	if (dev < 0 || journal < 0)
		die(dev < 0 ? argv[2] : argv[3]);
	note(journal, 'w', offset / BLOCK, bytes / BLOCK, epoch);
	for (uint64_t done = 0; done < bytes; done += CLUSTER) {
		struct random_write w = { .offset = offset + done, .len = CLUSTER, .kind = 'w' };

		issue(dev, &w, epoch, buf);
	}
	if (fsync(dev))
		die("fsync");
	free(buf);
	return 0;
}

static int cmd_verify(int argc, char *argv[])
{
	int dev = open(argv[2], O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t bytes;
	struct journal j;
	struct model m;
	unsigned int wrong;

	if (dev < 0 || ioctl(dev, BLKGETSIZE64, &bytes))
		die(argv[2]);
	j = journal_read(argv[3]);
	m = model_make(&j, bytes, argc == 5 ? number(argv[4]) : UINT32_MAX);
	wrong = compare(dev, &m);
	printf("%llu MiB compared, %u%s sectors wrong\n", (unsigned long long)bytes >> 20, wrong,
	       wrong == MAX_COMPLAINTS ? " or more" : "");
	model_free(&m);
	free(j.line);
	return wrong != 0;
}

int main(int argc, char *argv[])
{
	const char *op = argc > 1 ? argv[1] : "";

	if (!strcmp(op, "write") && (argc == 8 || argc == 9))
		return cmd_write(argc, argv);
	if (!strcmp(op, "fill") && argc == 6)
		return cmd_fill(argv);
	if (!strcmp(op, "verify") && (argc == 4 || argc == 5))
		return cmd_verify(argc, argv);
	if (!strcmp(op, "last") && argc == 3)
		return printf("%u\n", last_epoch(argv[2], 'c')) < 0;
	bad_usage();
}
