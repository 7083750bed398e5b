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
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char usage[] =
	"Usage: stamps write DEV JOURNAL BYTES WRITES EPOCHS SEED [LOG]\n"
	"         WRITES random writes and zeroings an epoch in the first BYTES; EPOCHS 0: until SIGTERM.\n"
	"         With LOG, the name of a dm-log-writes device, a mark eN in its log for each durable epoch.\n"
	"       stamps fill DEV JOURNAL OFFSET BYTES\n"
	"         writes what may turn into zeros at any time\n"
	"       stamps verify DEV JOURNAL [EPOCH]\n"
	"         What was never written is zeros. With EPOCH: the power went after that epoch and before the next was durable.\n"
	"       stamps last JOURNAL\n"
	"         the last durable epoch\n";

#include "../util.h"

#define SECTOR		512u
#define BLOCK		4096u
#define CLUSTER		32768u
#define WORDS		(SECTOR / sizeof(uint64_t))
#define VERIFY_CHUNK	(1u << 20)
#define MAX_COMPLAINTS	8
#define MAX_CHOICES	8

/* the first word is the epoch, so that a wrong sector tells where it is from */
static void stamp(uint64_t *word, uint64_t sector, uint32_t epoch)
{
	const uint64_t x = mix(sector ^ (uint64_t)epoch << 40);

	word[0] = htole64(epoch);
	for (size_t i = 1; i < WORDS; i++)
		word[i] = htole64(x + i * 0x9e3779b97f4a7c15);
}

/* --- writing */

/* SIGTERM is blocked, so that no epoch is left without its end */
static bool told_to_stop(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM);
}

static void mark_log(const char *name, uint32_t epoch)
{
	static int control = -1;
	union {
		struct dm_ioctl head;
		char bytes[sizeof(struct dm_ioctl) + sizeof(struct dm_target_msg) + 64];
	} request = { 0 };
	struct dm_ioctl *head = &request.head;
	char *text = request.bytes + sizeof(*head) + offsetof(struct dm_target_msg, message);

	if (control < 0)
		control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	head->version[0] = DM_VERSION_MAJOR;
	head->data_size = sizeof(request);
	head->data_start = sizeof(*head);
	snprintf(head->name, sizeof(head->name), "%s", name);
	sprintf(text, "mark e%u", epoch);
	if (ioctl(control, DM_TARGET_MSG, head))
		die("mark in the log");
}

struct random_write {
	uint64_t offset;
	uint32_t len;
	bool zeros;
};

/* blocks and whole clusters; one of five a zeroing, which frees or hides what is below */
static struct random_write random_write(uint64_t bytes, uint64_t *state)
{
	const uint64_t x = *state = mix(*state);
	const uint32_t len = x % 3 ? BLOCK : CLUSTER;

	return (struct random_write) {
		.offset = (x >> 16) % (bytes / len) * len,
		.len = len,
		.zeros = (x >> 8) % 5 == 0,
	};
}

static void issue(int dev, const struct random_write *w, uint32_t epoch, void *buf)
{
	uint64_t range[2] = { w->offset, w->len };

	if (w->zeros) {
		if (ioctl(dev, BLKZEROOUT, range))
			die("zeroing");
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

		note(journal, w.zeros ? 'z' : 'w', w.offset / BLOCK, w.len / BLOCK, epoch);
		issue(dev, &w, epoch, buf);
	}
	if (fsync(dev))
		die("fsync");
	note(journal, 'c', 0, 0, epoch);
	free(buf);
}

/* --- the journal */

struct line {
	char kind;	/* w data, z zeros, c the epoch is durable */
	unsigned int epoch, blocks;
	unsigned long long block;
};

static bool next_line(FILE *journal, struct line *line)
{
	return fscanf(journal, " %c %u %llu %u", &line->kind, &line->epoch, &line->block,
		      &line->blocks) == 4;
}

/* the highest epoch with a line of this kind, or of any; 0: none */
static uint32_t last_epoch(const char *path, char kind)
{
	FILE *journal = fopen(path, "re");
	struct line line;
	uint32_t last = 0;

	if (!journal)
		return 0;
	while (next_line(journal, &line))
		if ((!kind || line.kind == kind) && line.epoch > last)
			last = line.epoch;
	fclose(journal);
	return last;
}

/* --- what must be there */

/* what a block of 4 KiB may show, each sector for itself; epoch 0 is zeros */
struct block {
	uint32_t may[MAX_CHOICES];
	uint32_t n;
};

struct model {
	uint64_t blocks;
	uint32_t limit;		/* epochs up to this one were durable */
	bool *durable;		/* by epoch */
	struct block *block;
};

static void read_epochs(struct model *m, FILE *journal, uint32_t last)
{
	struct line line;

	m->durable = calloc(last + 1, sizeof(*m->durable));
	if (!m->durable)
		die("memory");
	while (next_line(journal, &line))
		if (line.kind == 'c' && line.epoch <= m->limit)
			m->durable[line.epoch] = true;
	rewind(journal);
}

/* A durable write replaces what was there. One that was under way when the power went adds a choice, for good. */
static void apply(struct model *m, const struct line *line)
{
	const uint32_t epoch = line->kind == 'z' ? 0 : line->epoch;

	for (uint64_t i = line->block; i < line->block + line->blocks; i++) {
		struct block *b = &m->block[i];

		if (i >= m->blocks) {
			printf("block %llu is beyond the device\n", (unsigned long long)i);
			exit(1);
		}
		if (m->durable[line->epoch])
			b->n = 0;
		if (b->n == MAX_CHOICES) {
			printf("block %llu: too many choices\n", (unsigned long long)i);
			exit(2);
		}
		b->may[b->n++] = epoch;
	}
}

static struct model load(const char *path, uint64_t bytes, uint32_t limit)
{
	struct model m = { .blocks = bytes / BLOCK, .limit = limit };
	FILE *journal = fopen(path, "re");
	struct line line;

	if (!journal)
		die(path);
	m.block = calloc(m.blocks, sizeof(*m.block));
	if (!m.block)
		die("memory");
	for (uint64_t i = 0; i < m.blocks; i++)
		m.block[i].n = 1;
	read_epochs(&m, journal, last_epoch(path, 0));
	while (next_line(journal, &line))
		if (line.kind != 'c' && line.epoch <= (uint64_t)limit + 1)
			apply(&m, &line);
	fclose(journal);
	return m;
}

static bool is(const uint64_t *got, uint64_t sector, uint32_t epoch)
{
	static const uint64_t zeros[WORDS];
	uint64_t want[WORDS];

	if (!epoch)
		return !memcmp(got, zeros, SECTOR);
	if (got[0] != htole64(epoch))
		return false;
	stamp(want, sector, epoch);
	return !memcmp(got, want, SECTOR);
}

static bool sector_is_right(const struct model *m, const uint64_t *got, uint64_t sector)
{
	const struct block *b = &m->block[sector / (BLOCK / SECTOR)];

	for (uint32_t i = 0; i < b->n; i++)
		if (is(got, sector, b->may[i]))
			return true;
	printf("sector %llu: epoch %llu%s instead of", (unsigned long long)sector,
	       (unsigned long long)le64toh(got[0]),
	       is(got, sector, le64toh(got[0])) ? "" : " (torn or foreign)");
	for (uint32_t i = 0; i < b->n; i++)
		printf(" %u", b->may[i]);
	putchar('\n');
	return false;
}

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
			wrong += !sector_is_right(m, (uint64_t *)(buf + i), (pos + i) / SECTOR);
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
		if (log)
			mark_log(log, epoch);
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
		struct random_write w = { .offset = offset + done, .len = CLUSTER };

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
	struct model m;
	unsigned int wrong;

	if (dev < 0 || ioctl(dev, BLKGETSIZE64, &bytes))
		die(argv[2]);
	m = load(argv[3], bytes, argc == 5 ? number(argv[4]) : UINT32_MAX);
	wrong = compare(dev, &m);
	printf("%llu MiB compared, %u%s sectors wrong\n", (unsigned long long)bytes >> 20, wrong,
	       wrong == MAX_COMPLAINTS ? " or more" : "");
	free(m.block);
	free(m.durable);
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
