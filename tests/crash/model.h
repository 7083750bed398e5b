/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What must be on a disk after power loss.
 *
 * Writes come in epochs, each ended by fsync. The journal, kept where the power
 * loss does not reach, holds a line for each write before it is issued, and one
 * for each epoch that is durable. So after a loss each sector shows the last
 * write of the durable epochs, or one of the epoch that was under way.
 */
#ifndef PLOOP_TESTS_CRASH_MODEL_H
#define PLOOP_TESTS_CRASH_MODEL_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util.h"

#define SECTOR		512u
#define BLOCK		4096u
#define CLUSTER		32768u
#define WORDS		(SECTOR / sizeof(uint64_t))
#define MAX_CHOICES	8

/* the first word is the epoch, so that a wrong sector tells where it is from */
static inline void stamp(uint64_t *word, uint64_t sector, uint32_t epoch)
{
	const uint64_t x = mix(sector ^ (uint64_t)epoch << 40);

	word[0] = htole64(epoch);
	for (size_t i = 1; i < WORDS; i++)
		word[i] = htole64(x + i * 0x9e3779b97f4a7c15);
}

/* --- the journal */

struct line {
	char kind;	/* w data, z zeros, d discard, c the epoch is durable */
	unsigned int epoch, blocks;
	unsigned long long block;
};

static inline bool next_line(FILE *journal, struct line *line)
{
	return fscanf(journal, " %c %u %llu %u", &line->kind, &line->epoch, &line->block,
		      &line->blocks) == 4;
}

/* the highest epoch with a line of this kind, or of any; 0: none */
static inline uint32_t last_epoch(const char *path, char kind)
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

/* all of it: reading takes longer than all that is done with it */
struct journal {
	struct line *line;
	size_t n;
	uint32_t last;		/* the highest epoch */
};

static inline struct journal journal_read(const char *path)
{
	struct journal j = { .last = last_epoch(path, 0) };
	FILE *file = fopen(path, "re");
	struct line line;

	if (!file)
		die(path);
	while (next_line(file, &line)) {
		/* doubled when it is a power of two */
		if (!(j.n & (j.n - 1)))
			j.line = reallocarray(j.line, j.n ? j.n * 2 : 1, sizeof(line));
		if (!j.line)
			die("memory");
		j.line[j.n++] = line;
	}
	fclose(file);
	return j;
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

static inline bool may_show(const struct block *b, uint32_t epoch)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (b->may[i] == epoch)
			return true;
	return false;
}

static inline void read_epochs(struct model *m, const struct journal *j)
{
	m->durable = calloc(j->last + 1, sizeof(*m->durable));
	if (!m->durable)
		die("memory");
	for (size_t i = 0; i < j->n; i++)
		if (j->line[i].kind == 'c' && j->line[i].epoch <= m->limit)
			m->durable[j->line[i].epoch] = true;
}

/*
 * A durable write replaces what was there. One that was under way when the power
 * went adds a choice, for good; so does a discard, which need not do anything.
 */
static inline void apply(struct model *m, const struct line *line)
{
	const uint32_t epoch = line->kind == 'w' ? line->epoch : 0;

	for (uint64_t i = line->block; i < line->block + line->blocks; i++) {
		struct block *b = &m->block[i];

		if (i >= m->blocks) {
			printf("block %llu is beyond the device\n", (unsigned long long)i);
			exit(1);
		}
		if (m->durable[line->epoch] && line->kind != 'd')
			b->n = 0;
		if (may_show(b, epoch))
			continue;
		if (b->n == MAX_CHOICES) {
			printf("block %llu: too many choices\n", (unsigned long long)i);
			exit(2);
		}
		b->may[b->n++] = epoch;
	}
}

static inline struct model model_make(const struct journal *j, uint64_t bytes, uint32_t limit)
{
	struct model m = { .blocks = bytes / BLOCK, .limit = limit };

	m.block = calloc(m.blocks, sizeof(*m.block));
	if (!m.block)
		die("memory");
	for (uint64_t i = 0; i < m.blocks; i++)
		m.block[i].n = 1;
	read_epochs(&m, j);
	for (size_t i = 0; i < j->n; i++)
		if (j->line[i].kind != 'c' && j->line[i].epoch <= (uint64_t)limit + 1)
			apply(&m, &j->line[i]);
	return m;
}

static inline void model_free(struct model *m)
{
	free(m->block);
	free(m->durable);
	memset(m, 0, sizeof(*m));
}

/* Word by word: this is where replay spends its time, and memcmp is slow where each instruction is emulated. */
static inline bool is(const uint64_t *got, uint64_t sector, uint32_t epoch)
{
	uint64_t x = epoch ? mix(sector ^ (uint64_t)epoch << 40) : 0, differ = got[0] ^ htole64(epoch);

	for (size_t i = 1; i < WORDS && !differ; i++)
		differ = le64toh(got[i]) ^ (epoch ? x + i * 0x9e3779b97f4a7c15 : 0);
	return !differ;
}

static inline bool sector_is_right(const struct model *m, const uint64_t *got, uint64_t sector,
				   bool quiet)
{
	const struct block *b = &m->block[sector / (BLOCK / SECTOR)];

	for (uint32_t i = 0; i < b->n; i++)
		if (is(got, sector, b->may[i]))
			return true;
	if (quiet)
		return false;
	printf("sector %llu: epoch %llu%s instead of", (unsigned long long)sector,
	       (unsigned long long)le64toh(got[0]),
	       is(got, sector, le64toh(got[0])) ? "" : " (torn or foreign)");
	for (uint32_t i = 0; i < b->n; i++)
		printf(" %u", b->may[i]);
	putchar('\n');
	return false;
}

/* may these blocks be zeros */
static inline bool hole_is_right(const struct model *m, uint64_t block, uint32_t blocks, bool quiet)
{
	for (uint64_t i = block; i < block + blocks; i++) {
		if (may_show(&m->block[i], 0))
			continue;
		if (!quiet)
			printf("block %llu: a hole instead of epoch %u\n", (unsigned long long)i,
			       m->block[i].may[0]);
		return false;
	}
	return true;
}

#endif /* PLOOP_TESTS_CRASH_MODEL_H */
