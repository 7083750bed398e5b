// SPDX-License-Identifier: GPL-2.0-only
/*
 * The states that power loss may leave of a recording, each made and judged.
 *
 * dm-log-writes has recorded what the images' file system wrote while a writer
 * and an operation ran. At every flush and FUA write of it the disk may be
 * - all that was written up to there, the flush included, or
 * - what former flushes covered, and of the writes since then any: each is
 *   there, lost or torn, as a random choice says. FUA writes are there.
 *
 * What makes a state cheap: BASE has all that is durable for good and only ever
 * gets the writes since the flush before; a state is a dm snapshot of it with
 * the chosen writes, in RAM. The kernel replays the file system's journal by a
 * read-only mount, ext4 and xfs alike. Then no driver runs: the images are
 * opened, checked and read as a stack by the format code of userspace/, and
 * each sector is compared with the model of the writer's journal (model.h).
 * One of so many states is also mounted for writing and handed to a command
 * that attaches the images, in the kernel.
 */
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

static const char usage[] =
	"Usage: replay list LOG\n"
	"         each entry: number, flags, sector, sectors, mark\n"
	"       replay run NAME=VALUE...\n"
	"         log= base= changes= (devices; base is as log was when its recording began) fs= at= (where to mount)\n"
	"         journal= (of stamps) chains= (a file) seed= samples= (choices for each flush) states= (at most, 0: all)\n"
	"         attach= (one of so many, 0: none) command= (called with: number epoch mark; wrong when it fails)\n"
	"         keep= (where the disk of the first wrong state goes)\n"
	"         Chains: lines MARK IMAGE..., base first. Of those for the last mark that is no epoch, the first\n"
	"         whose files are there must be right. Marks of epochs are eN.\n";

#include "dm.h"
#include "log.h"
#include "model.h"
#include "view.h"

#define TEAR		4096u	/* what a disk writes as one */
#define MAX_CHAINS	16
#define MAX_COMPLAINTS	4
#define OVERLAY		"moment"
#define TRIES		100

struct chain {
	char mark[16], images[112];
};

/* to: the first entry that is not there; seed 0: everything before is there */
struct state {
	uint64_t to, seed;
};

struct run {
	const char *log_path, *base_path, *changes, *fs, *at, *journal, *chains_path, *command, *keep;
	unsigned long long seed, samples, max_states, attach;
	struct log log;
	int base;
	uint64_t applied;	/* entries that BASE has */
	uint64_t sectors;
	struct chain chain[MAX_CHAINS];
	unsigned int n_chains;
	struct journal lines;
	struct model model;
	struct state *state;
	uint64_t n_states, flushes, possible;
	uint64_t wrong, attached;
	double attaching;	/* seconds */
};

static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
	return (random_state = mix(random_state)) % limit;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- which states there are */

static bool is_epoch(const char *mark)
{
	return mark[0] == 'e' && mark[1] >= '0' && mark[1] <= '9';
}

/* the last marks before an entry; epoch 0 when there is none */
static const char *marks_before(const struct log *log, uint64_t to, uint32_t *epoch)
{
	const char *mark = "none";

	*epoch = 0;
	for (uint64_t i = 0; i < to; i++) {
		const struct entry *e = &log->entry[i];

		if (e->flags & FLAG_MARK && is_epoch(e->mark))
			*epoch = atoi(e->mark + 1);
		else if (e->flags & FLAG_MARK)
			mark = e->mark;
	}
	return mark;
}

static uint64_t losable(const struct log *log, uint64_t to)
{
	uint64_t n = 0;

	for (uint64_t i = log_flushed(log, to); i < to; i++)
		n += log_may_lose(&log->entry[i]);
	return n;
}

static void add_state(struct run *run, uint64_t to, uint64_t seed)
{
	run->state = reallocarray(run->state, run->n_states + 1, sizeof(*run->state));
	if (!run->state)
		die("memory");
	run->state[run->n_states++] = (struct state) { .to = to, .seed = seed };
}

static void list_states(struct run *run)
{
	const struct log *log = &run->log;
	const uint64_t first = log_find_mark(log, "begin"), last = log_find_mark(log, "end");

	for (uint64_t i = first; i < last; i++) {
		uint64_t n;

		if (!(log->entry[i].flags & (FLAG_FLUSH | FLAG_FUA)))
			continue;
		run->flushes++;
		/* there are 2^n subsets, and one is the state without loss */
		n = losable(log, i);
		n = n < 8 && run->samples > (1u << n) ? (1u << n) : run->samples * !!n;
		while (n--)
			add_state(run, i, random_below(UINT32_MAX) + 1);
		add_state(run, i + 1, 0);
	}
	run->possible = run->n_states;
}

/* some of them, each with the same chance, in their order */
static void choose_states(struct run *run)
{
	uint64_t kept = 0;

	if (!run->max_states || run->n_states <= run->max_states)
		return;
	for (uint64_t i = 0; i < run->n_states; i++)
		if (random_below(run->n_states - i) < run->max_states - kept)
			run->state[kept++] = run->state[i];
	run->n_states = kept;
}

/* --- a state on a disk */

/*
 * How much of a write is there. By the plan of the state a write is lost with
 * even chances, seldom, mostly, or torn as well.
 */
static uint64_t survives(const struct entry *e, unsigned int plan)
{
	static const unsigned int lost[] = { 50, 15, 85, 30 };

	if (random_below(100) < lost[plan])
		return 0;
	if (plan == 3 && random_below(3) == 0)
		return random_below(e->len / TEAR + 1) * TEAR;
	return e->len;
}

/* applies entries up to the state; what no flush covers by choice */
static void apply_state(const struct run *run, const struct state *state, uint64_t from, int dev)
{
	const struct log *log = &run->log;
	unsigned int plan;

	random_state = state->seed;
	plan = random_below(4);
	for (uint64_t i = from; i < state->to; i++) {
		const struct entry *e = &log->entry[i];

		log_apply(log, e, dev,
			  state->seed && log_may_lose(e) ? survives(e, plan) : e->len);
	}
}

static void advance_base(struct run *run, uint64_t to)
{
	for (; run->applied < to; run->applied++)
		log_apply(&run->log, &run->log.entry[run->applied], run->base,
			  run->log.entry[run->applied].len);
	if (fsync(run->base))
		die(run->base_path);
}

/* base has what is durable in it */
static void make_state(const struct run *run, const struct state *state, char node[32])
{
	char table[160];
	int dev;

	snprintf(table, sizeof(table), "%s %s N 8", run->base_path, run->changes);
	dm_create(OVERLAY, "snapshot", run->sectors, table, node);
	dev = xopen(node, O_WRONLY | O_DIRECT);
	apply_state(run, state, run->applied, dev);
	if (fsync(dev))
		die(node);
	close(dev);
}

static void unmount_state(const struct run *run)
{
	for (int i = 0; umount(run->at); i++) {
		if (errno != EBUSY || i == TRIES)
			die(run->at);
		usleep(10000);
	}
}

/* --- is it right */

static bool is_there(const struct run *run, const char *names)
{
	char path[256], name[64];
	int len;

	for (; sscanf(names, " %63s%n", name, &len) == 1; names += len) {
		snprintf(path, sizeof(path), "%s/%s", run->at, name);
		if (access(path, F_OK))
			return false;
	}
	return true;
}

static const char *find_chain(const struct run *run, const char *mark)
{
	for (unsigned int i = 0; i < run->n_chains; i++)
		if (!strcmp(run->chain[i].mark, mark) && is_there(run, run->chain[i].images))
			return run->chain[i].images;
	printf("none of the images are there that should be after mark %s\n", mark);
	return NULL;
}

static void want_model(struct run *run, uint64_t bytes, uint32_t epoch)
{
	if (run->model.block && run->model.limit == epoch && run->model.blocks == bytes / BLOCK)
		return;
	model_free(&run->model);
	run->model = model_make(&run->lines, bytes, epoch);
}

/* a model that expects what was not written yet must find the disk wrong */
static bool notices_loss(struct run *run, const struct view *view, uint32_t epoch)
{
	if (run->lines.last < epoch + 2)
		return true;
	want_model(run, view->bytes, epoch + 2);
	if (!run->model.durable[epoch + 2] || view_compare(view, &run->model, 1, true))
		return true;
	printf("epoch %u is there before it was written\n", epoch + 2);
	return false;
}

static bool images_are_right(struct run *run, const char *mark, uint32_t epoch, bool first)
{
	const char *names = find_chain(run, mark);
	struct view view;
	bool right;

	if (!names || !view_open(&view, run->at, names))
		return false;
	want_model(run, view.bytes, epoch);
	right = !view_compare(&view, &run->model, MAX_COMPLAINTS, false);
	if (right && first)
		right = notices_loss(run, &view, epoch);
	view_close(&view);
	return right;
}

/* the command mounts nothing: it finds the disk at its place, for writing */
static bool attaches(struct run *run, const char *node, uint64_t n, uint32_t epoch,
		     const char *mark)
{
	char number_text[24], epoch_text[24];
	double start = seconds();
	int status;
	pid_t pid;

	run->attached++;
	if (mount(node, run->at, run->fs, 0, ""))
		die(run->at);
	snprintf(number_text, sizeof(number_text), "%llu", (unsigned long long)n);
	snprintf(epoch_text, sizeof(epoch_text), "%u", epoch);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", run->command, "sh", number_text, epoch_text, mark,
		      NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die(run->command);
	unmount_state(run);
	run->attaching += seconds() - start;
	return !status;
}

/* as power loss left it: whoever judged it has changed it since */
static void keep_state(const struct run *run, const struct state *state, uint64_t n)
{
	char node[32], command[512];

	make_state(run, state, node);
	snprintf(command, sizeof(command), "cp --sparse=always %s %s/state-%llu", node, run->keep,
		 (unsigned long long)n);
	if (system(command))
		printf("state %llu was not kept\n", (unsigned long long)n);
	dm_remove(OVERLAY);
}

static void judge_state(struct run *run, uint64_t n)
{
	const struct state *state = &run->state[n];
	uint32_t epoch;
	const char *mark = marks_before(&run->log, state->to, &epoch);
	bool right;
	char node[32];

	advance_base(run, log_flushed(&run->log, state->to));
	make_state(run, state, node);
	if (mount(node, run->at, run->fs, MS_RDONLY, "")) {
		printf("%s does not mount: %s\n", run->fs, strerror(errno));
		right = false;
	} else {
		right = images_are_right(run, mark, epoch, !n);
		unmount_state(run);
	}
	if (right && run->attach && n % run->attach == run->attach - 1)
		right = attaches(run, node, n, epoch, mark);
	dm_remove(OVERLAY);
	if (right)
		return;
	if (!run->wrong++ && run->keep)
		keep_state(run, state, n);
	printf("state %llu is wrong: entry %llu (%llu flushed, loss %llu), epoch %u, after mark %s\n",
	       (unsigned long long)n, (unsigned long long)state->to,
	       (unsigned long long)run->applied, (unsigned long long)state->seed, epoch, mark);
}

/* --- the commands */

static void read_chains(struct run *run)
{
	FILE *file = fopen(run->chains_path, "re");
	struct chain *chain = run->chain;

	if (!file)
		die(run->chains_path);
	while (run->n_chains < MAX_CHAINS &&
	       fscanf(file, "%15s %111[^\n]", chain->mark, chain->images) == 2)
		chain = &run->chain[++run->n_chains];
	fclose(file);
}

static bool set_text(const char *arg, const char *name, const char **to)
{
	const char *value = value_of(arg, name);

	if (value)
		*to = value;
	return value;
}

static void parse(struct run *run, int argc, char *argv[])
{
	for (int i = 0; i < argc; i++)
		if (!set_text(argv[i], "log", &run->log_path) &&
		    !set_text(argv[i], "base", &run->base_path) &&
		    !set_text(argv[i], "changes", &run->changes) &&
		    !set_text(argv[i], "fs", &run->fs) && !set_text(argv[i], "at", &run->at) &&
		    !set_text(argv[i], "journal", &run->journal) &&
		    !set_text(argv[i], "chains", &run->chains_path) &&
		    !set_text(argv[i], "command", &run->command) &&
		    !set_text(argv[i], "keep", &run->keep) &&
		    !set_number(argv[i], "seed", &run->seed) &&
		    !set_number(argv[i], "samples", &run->samples) &&
		    !set_number(argv[i], "states", &run->max_states) &&
		    !set_number(argv[i], "sectors", (unsigned long long *)&run->sectors) &&
		    !set_number(argv[i], "attach", &run->attach))
			bad_usage();
	if (!run->log_path || !run->base_path || !run->changes || !run->fs || !run->at ||
	    !run->journal || !run->chains_path || !run->sectors || (run->attach && !run->command))
		bad_usage();
}

static int replay(int argc, char *argv[])
{
	struct run run = { .samples = 3 };
	double start = seconds();

	parse(&run, argc, argv);
	run.log = log_open(run.log_path);
	run.lines = journal_read(run.journal);
	run.base = xopen(run.base_path, O_WRONLY | O_DIRECT);
	random_state = run.seed;
	read_chains(&run);
	list_states(&run);
	choose_states(&run);
	for (uint64_t n = 0; n < run.n_states; n++) {
		judge_state(&run, n);
		fflush(stdout);
	}
	printf("%llu flushes, %llu of %llu states, %llu attached, %llu wrong, %.1f a second and %.1f s for each attached\n",
	       (unsigned long long)run.flushes, (unsigned long long)run.n_states,
	       (unsigned long long)run.possible, (unsigned long long)run.attached,
	       (unsigned long long)run.wrong, (double)run.n_states / (seconds() - start - run.attaching),
	       run.attached ? run.attaching / (double)run.attached : 0);
	return run.wrong || !run.n_states;
}

int main(int argc, char *argv[])
{
	const char *op = argc > 1 ? argv[1] : "";
	struct log log;

	if (!strcmp(op, "run") && argc > 2)
		return replay(argc - 2, argv + 2);
	if (!strcmp(op, "list") && argc == 3) {
		log = log_open(argv[2]);
		log_print(&log);
		return 0;
	}
	bad_usage();
}
